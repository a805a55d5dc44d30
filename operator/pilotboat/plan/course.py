"""Which way a ModelDeployment's revisions go: a canary by steps, or one revision replacing the others.

Owns: when a change is a canary, and what becomes of the record. Must not know: what is seen of it (seen.py), manifests,
conditions.

A change is a canary where the spec has steps and another revision serves. The first revision has nobody beside it, one
that does not serve must not keep its fix waiting, and a return to an earlier revision has been judged before. A canary
that another change overtakes first gives back what it carries: stable has been shrunk for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..api.model_deployment import ModelDeploymentSpec
from ..api.rollout import RolloutPhase, RolloutRecord, RolloutStatus, Verb
from . import (
    asleep,
    build,
    diagnose,
    gates,
    judgement,
    leaving,
    outcome,
    progression,
    rollout,
    seen,
    spares,
)
from .build import Raw, dig
from .ended import record, superseded
from .gates import Look
from .outcome import Cause
from .progression import Facts
from .rollout import Revision, Step
from .types import Manifest, Observed, PlanSettings


@dataclass(frozen=True)
class Course:
    """Replicas of every revision now, and how traffic is split."""

    step: Step
    state: RolloutStatus | None = None
    """A canary under way, or one that was given up and is still asked for."""
    ended: RolloutRecord | None = None
    """A canary that is over with this pass."""
    look_again: timedelta | None = None
    promoted: bool = False
    """The target has become the revision that serves."""
    useless: int = 0
    """Replicas of a target without steps that are ready and of no use."""
    lent: str | None = None
    """Since when the spare replicas make room for this rollout."""
    probes: tuple[Manifest, ...] = ()
    """Probes that are due."""
    wanted: tuple[str, ...] = ()
    """Names of the probes that stay."""
    heard: bool = True
    """Whether what a person asks for has been heard, or is for a canary that has not begun."""

    def rests(self, under_way: bool) -> bool:
        """Whether replicas rest on how traffic is split: not beside a canary that was given up a pass ago or earlier.

        `under_way`: whether there was a canary before this pass.
        """
        given_up = self.state is None or self.state.phase is RolloutPhase.ABORTED
        return self.promoted or not given_up or (under_way and self.state is not None)

    @property
    def weights(self) -> Mapping[str, int] | None:
        """Per cent of the traffic by revision; None: in proportion to ready replicas."""
        return self.state.weights if self.state else None


def course(
    observed: Observed,
    spec: ModelDeploymentSpec,
    target: Revision,
    others: Sequence[Revision],
    unrouted: Cause | None,
    starved: str | None,
    settings: PlanSettings,
    now: datetime,
) -> Course:
    """What comes next; `others` with the one to shrink first in front.

    `starved`: the scheduler's words, where a pod of the target waits for what other pods hold.
    """
    known = outcome.read(RolloutStatus, dig(observed.parent, "status", "rollout"))
    lent = spares.lent(observed, spec, any(revision.replicas for revision in others), now)
    overtaken = known is not None and known.canary != target.name
    if known and overtaken and (left := _left(observed, spec, known, (target, *others), target.name, lent, now)):
        return left
    stable = _stable(observed, spec, target, others)
    if not spec.wanted:
        return _nothing(observed, known, stable, target, others, lent, now)
    running = known if known and stable and _runs(known, stable.name, target.name) else None
    slept = known is not None and known.asleep and stable is not None and known.stable == stable.name
    if stable is None or (stable.down and not (running or slept)):
        step = rollout.step(spec.replicas if lent else spec.wanted, target, others, starved is not None)
        return Course(step, ended=superseded(known, observed, now), useless=target.useless, lent=lent)
    if not (running or slept) and (first := _before(observed, spec, known, stable, target, others, lent, now)):
        return first
    state = running or _begun(known, stable.name, target.name, now)
    ended = None if running else superseded(known, observed, now)
    lent = lent if state.phase is not RolloutPhase.ABORTED else None
    facts = seen.facts(observed, spec, target, stable, unrouted, starved)
    if lent:
        facts = replace(facts, want=spec.replicas)
    if lent and not spares.in_vain(lent, now):  # their room comes before a replica is borrowed
        facts, state = replace(facts, starved=None), state.model_copy(update={"borrowing": False})
    made = _advanced(observed, spec, state, facts, others, ended, settings, now)
    return replace(made, lent=None if made.promoted else lent)


def _before(
    observed: Observed,
    spec: ModelDeploymentSpec,
    known: RolloutStatus | None,
    stable: Revision,
    target: Revision,
    others: Sequence[Revision],
    lent: str | None,
    now: datetime,
) -> Course | None:
    """What comes before a canary begins; None where one may."""
    if not stable.known:  # the next look says whether there is anything to be a canary beside
        as_it_is = Step(target.replicas, {revision.name: revision.replicas for revision in others})
        return Course(as_it_is, known, lent=lent, heard=False)
    if _wanted_again(known, stable.name, target.name):
        return None
    want = spec.replicas if lent else spec.wanted
    gathering = _gathered(observed, want, stable, (target, *others), target.name)
    return Course(gathering, ended=superseded(known, observed, now), lent=lent, heard=False) if gathering else None


def _gathered(
    observed: Observed, want: int, stable: Revision, revisions: Sequence[Revision], target: str
) -> Step | None:
    """Back to stable, replica by replica, before anything is a canary beside it: where an update without steps (also a
    return to an earlier revision) is left half way, others still serve what stable does not. None where it is whole."""
    rest = [revision for revision in revisions if revision.name != stable.name]
    if stable.serving >= want or not any(revision.serving for revision in rest):
        return None
    made = rollout.step(want, stable, rest, seen.starving(observed, stable.name) is not None)
    counts = made.others | {stable.name: made.target}
    return Step(counts.pop(target), counts)


def _nothing(
    observed: Observed,
    known: RolloutStatus | None,
    stable: Revision | None,
    target: Revision,
    others: Sequence[Revision],
    lent: str | None,
    now: datetime,
) -> Course:
    """Nothing is wanted: that promotes no canary."""
    step = Step(0, {revision.name: 0 for revision in others})
    if known is None or stable is None or known.stable != stable.name:
        return Course(step, ended=superseded(known, observed, now), lent=lent)
    ended = superseded(known, observed, now) if known.canary != target.name else None
    return Course(step, asleep.kept(known, target.name, now), ended, heard=False)


def meanwhile(
    observed: Observed, spec: ModelDeploymentSpec, revisions: Sequence[Revision], now: datetime
) -> Course | None:
    """A canary while no pods can be made for the spec, so that nobody knows which revision that is.

    On its way out it goes on giving back; else it keeps its share, unless something speaks against it: stable may have
    been shrunk for it. None where there is no canary that serves, or no stable.
    """
    known = outcome.read(RolloutStatus, dig(observed.parent, "status", "rollout"))
    there = {revision.name: revision for revision in revisions}
    if known is None or known.phase is RolloutPhase.ABORTED:
        return None
    stable, canary = there.get(known.stable), there.get(known.canary)
    if stable and canary and not spec.wanted:
        return Course(Step(0, dict.fromkeys(there, 0)), asleep.kept(known, canary.name, now), heard=False)
    if not (stable and canary) or stable.down:
        return None
    lent = spares.lent(observed, spec, True, now)
    as_it_is = {revision.name: revision.replicas for revision in revisions}
    if known.phase is RolloutPhase.DRAINING:
        left = _left(observed, spec, known, revisions, "", lent, now)
        return left or Course(Step(0, as_it_is), heard=False)
    facts = seen.facts(observed, spec, canary, stable, None, None)
    made = progression.stay(seen.judged(observed, spec, known, now), spec.rollout, facts)
    step = Step(0, as_it_is | {stable.name: made.move.stable, canary.name: made.move.canary})
    if made.state.phase is RolloutPhase.ABORTED:
        return Course(step, made.state, record(made.state, "Aborted", observed, now))
    return None if canary.down else Course(step, made.state, lent=lent, heard=_heard_at_once(facts))


def _heard_at_once(facts: Facts) -> bool:
    """Whether nothing is asked, or that which also a canary hears that goes, or stays as it is."""
    return facts.asked is None or (facts.action is not None and facts.action.verb is Verb.ABORT)


def _runs(known: RolloutStatus, stable: str, canary: str) -> bool:
    return (known.stable, known.canary) == (stable, canary) and known.phase is not RolloutPhase.DRAINING


def _wanted_again(known: RolloutStatus | None, stable: str, canary: str) -> bool:
    return known is not None and (known.stable, known.canary) == (stable, canary)


def _begun(known: RolloutStatus | None, stable: str, canary: str, now: datetime) -> RolloutStatus:
    """A new rollout. A canary that is wanted again on its way out keeps what it still carries."""
    if known and known.asleep and known.stable == stable:
        return asleep.kept(known, canary, now)
    if known and _wanted_again(known, stable, canary):
        return progression.begin(stable, canary, now, known.weight, known.borrowing)
    return progression.begin(stable, canary, now)


def _left(
    observed: Observed,
    spec: ModelDeploymentSpec,
    known: RolloutStatus,
    revisions: Sequence[Revision],
    target: str,
    lent: str | None,
    now: datetime,
) -> Course | None:
    """The way out of a canary that another change has overtaken; None where it has gone, or has nobody to give to."""
    there = {revision.name: revision for revision in revisions}
    stable, canary = there.get(known.stable), there.get(known.canary)
    if not (spec.wanted and stable and canary) or stable.down:
        return None
    if not canary.replicas and not any(map(diagnose.ready, build.of_revision(observed.pods, canary.name))):
        return None
    facts = seen.facts(observed, spec, canary, stable, None, seen.starving(observed, stable.name))
    if lent:
        facts = replace(facts, want=spec.replicas)
    made = leaving.leave(seen.judged(observed, spec, known, now), spec.rollout, facts, now)
    counts = dict.fromkeys(there, 0) | {stable.name: made.move.stable, canary.name: made.move.canary}
    step = Step(counts.pop(target, 0), counts)
    ended = superseded(known, observed, now)
    return Course(step, made.state, ended, made.look_again, lent=lent, heard=_heard_at_once(facts))


def _stable(
    observed: Observed, spec: ModelDeploymentSpec, target: Revision, others: Sequence[Revision]
) -> Revision | None:
    """The revision beside which the target is a canary; None where it is none."""
    current = dig(observed.parent, "status", "currentRevision")
    if not spec.rollout.steps or spec.rollout.rollback_to or current == target.name:
        return None
    return next((revision for revision in others if revision.name == current), None)


def _advanced(
    observed: Observed,
    spec: ModelDeploymentSpec,
    state: RolloutStatus,
    facts: Facts,
    others: Sequence[Revision],
    ended: RolloutRecord | None,
    settings: PlanSettings,
    now: datetime,
) -> Course:
    state, facts = asleep.woken(*progression.resumed(state, spec.rollout, facts, now))
    before, found = state.phase, Look(state)
    if before is not RolloutPhase.ABORTED:
        found = seen.look(observed, spec, state, facts, settings, now)
        facts = replace(facts, gated=found.waiting, gate=found.gate, gate_failed=gates.failed(found.state))
    made = progression.advance(found.state, spec.rollout, facts, now)
    made = replace(made, state=judgement.held(made.state))
    left = {revision.name: 0 for revision in others}
    if progression.finished(made.state):
        step = Step(spec.wanted, left)
        return Course(step, ended=record(made.state, "Promoted", observed, now), promoted=True)
    step = Step(made.move.canary, left | {facts.stable.name: made.move.stable})
    if made.state.phase is RolloutPhase.ABORTED and before is not RolloutPhase.ABORTED:
        return Course(step, made.state, record(made.state, "Aborted", observed, now), made.look_again)
    again = min((wait for wait in (made.look_again, found.look_again) if wait), default=None)
    return Course(step, made.state, ended, again, probes=found.manifests, wanted=found.wanted)


def unmoved(observed: Observed, revisions: Sequence[Revision]) -> Course:
    """Everything as it was before this pass, in status too: what it rests on could not be written."""
    known = outcome.read(RolloutStatus, dig(observed.parent, "status", "rollout"))
    step = Step(0, {revision.name: revision.replicas for revision in revisions})
    return Course(step, known, lent=dig(observed.parent, "status", "sparesLent"), heard=False)


def observed_by(parent: Raw) -> bool:
    """Whether a canary is under way whose traffic must be watched."""
    state = outcome.read(RolloutStatus, dig(parent, "status", "rollout"))
    return state is not None and state.phase is not RolloutPhase.ABORTED
