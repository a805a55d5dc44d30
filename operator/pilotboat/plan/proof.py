"""What must be known of a canary before a step ends: requests, the proof that it is as good, answers to queries.

Owns: what each step asks of the evidence, and why it does not end yet. Must not know: how evidence is weighed
(canary/), phases and verbs (progression.py).

The last step always asks for the proof; any other may. A person's approval passes what is not known yet in a step
before the last, and never a query that does not keep its bounds.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from ..api.analysis import Verdict
from ..api.base import seconds
from ..api.rollout import Rollout, RolloutStatus, RolloutStep
from . import steps
from .build import elapsed


def due(state: RolloutStatus, spec: Rollout, now: datetime) -> bool:
    """Whether the step's hold is over, and the proof is what it ends with."""
    step = steps.at(state, spec)
    if state.since is None or step is None or not _needed(state, spec):
        return False
    return elapsed(state.since, now) >= seconds(step.hold)


def holding(state: RolloutStatus, spec: Rollout) -> Collection[str] | None:
    """Names of the queries that hold the step; None: all of them."""
    return step.analysis.queries if (step := steps.at(state, spec)) else None


def lacking(state: RolloutStatus, spec: Rollout) -> str | None:
    """What the step still waits for once its hold is over; None where that is nothing."""
    if why := _unanswered(state, spec):
        return why
    if not spec.analysis.metrics or (state.approved and not steps.last(state, spec)):
        return None
    return unheard(state, spec) or _unproven(state, spec)


def unheard(state: RolloutStatus, spec: Rollout) -> str | None:
    """How many requests are missing of those that the step asks for; None where none is."""
    step, heard = steps.at(state, spec), state.analysis.heard
    wanted = step.analysis.min_samples if step else None
    if wanted is None or heard >= wanted:
        return None
    told = f"{heard} of {wanted} requests of the canary have been heard since it has {state.weight} %"
    return f"{told} (steps[{state.step}].analysis.minSamples)"


def asked(step: RolloutStep) -> str:
    """What a step waits for after its hold, as the end of a sentence."""
    if step.approval:
        return ", then until somebody approves"
    wanted = [f"{step.analysis.min_samples} requests have been heard"] if step.analysis.min_samples else []
    wanted += ["the canary is proven"] if step.analysis.proven else []
    return f", then until {' and '.join(wanted)}" if wanted else ""


def _needed(state: RolloutStatus, spec: Rollout) -> bool:
    step = steps.at(state, spec)
    return steps.last(state, spec) or (step is not None and step.analysis.proven)


def _unanswered(state: RolloutStatus, spec: Rollout) -> str | None:
    """Which query of the user's own keeps the share from rising; None where none does."""
    decision, names = state.decision, holding(state, spec)
    if spec.analysis.prometheus is None or names == []:
        return None
    if decision is None or not decision.queries:
        return "the queries of analysis.prometheus have not been asked yet"
    return next((query.message for query in decision.queries if query.verdict is Verdict.HOLD), None)


def _unproven(state: RolloutStatus, spec: Rollout) -> str | None:
    """Where the proof is needed, that it is not there; elsewhere, that nothing is known of the canary."""
    decision = state.decision
    if decision is None:
        return "nothing is known of the canary's requests yet: it is neither promoted nor given up"
    held = decision.verdict is not Verdict.PROMOTE if _needed(state, spec) else decision.verdict is Verdict.HOLD
    return decision.message if held else None
