"""What is known of a canary at one look: its pods, its gates, users' traffic and words, what a person asks for.

Owns: what is gathered before a rollout takes its next step. Must not know: which step that is (progression.py).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ..api.model_deployment import ModelDeploymentSpec
from ..api.rollout import RolloutStatus
from . import actions, build, diagnose, feedback, gates, http_route, judgement, proof, queries
from .gates import Look
from .outcome import Cause
from .progression import Facts
from .rollout import Revision
from .types import Observed, PlanSettings


def look(
    observed: Observed,
    spec: ModelDeploymentSpec,
    state: RolloutStatus,
    facts: Facts,
    settings: PlanSettings,
    now: datetime,
) -> Look:
    """The rollout with all that is known of the canary now: gates, synthetic requests, users' traffic."""
    ready = bool(facts.canary.serving) and facts.unrouted is None
    seen = gates.before_users(observed, spec, state, ready, settings, now)
    if not seen.wanted:
        thin = gates.while_thin(observed, spec, seen.state, settings)
        seen = replace(thin, waiting=seen.waiting, gate=seen.gate, look_again=seen.look_again)
    unanswered = queries.unanswered(seen.state, spec.rollout.analysis.prometheus, observed, now) if ready else None
    if unanswered:  # told first, and so what a skip is for
        seen = replace(seen, waiting=unanswered, gate=None)
    return replace(seen, state=judged(observed, spec, seen.state, now))


def judged(observed: Observed, spec: ModelDeploymentSpec, state: RolloutStatus, now: datetime) -> RolloutStatus:
    """The rollout with what users' traffic and words say of the canary."""
    told = feedback.look(state, observed.evidence, now)
    asked = judgement.settings(spec.rollout.analysis, told)
    if not told.weight and http_route.wanted(observed.parent):  # pods count what gates send them, too
        asked = None
    answered = queries.look(told, spec.rollout.analysis.prometheus, observed, now, proof.holding(told, spec.rollout))
    return judgement.look(told, asked, observed.evidence, answered, proof.due(told, spec.rollout, now), now)


def facts(
    observed: Observed,
    spec: ModelDeploymentSpec,
    target: Revision,
    stable: Revision,
    unrouted: Cause | None,
    starved: str | None,
) -> Facts:
    """What is seen of it now."""
    pods = build.of_revision(observed.pods, target.name)
    return Facts(
        spec.wanted,
        stable,
        target,
        unrouted,
        starved=starved,
        broken=next((cause for pod in pods if (cause := diagnose.hopeless(pod))), None),
        asked=actions.due(observed.parent, spec.rollout),
    )


def starving(observed: Observed, revision: str) -> str | None:
    """The scheduler's words, where a pod of the revision waits for what another pod has."""
    pods = build.of_revision(observed.pods, revision)
    return next((words for pod in pods if (words := diagnose.starved(pod))), None)
