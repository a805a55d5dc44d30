"""The life of a rollout with steps: what comes next, from where it stands, what is seen, and what people ask for.

Owns: phases, holds, verbs, deadlines, and why a canary is given up. Must not know: statistics (canary/), what a step
asks of them (proof.py), how replicas are counted out (capacity.py), where in the steps it is (steps.py), what becomes
of one that is overtaken (leaving.py), manifests.

All that it remembers is RolloutStatus, so a restarted operator goes on where the last one stood. While a canary is
given up or nothing is known, stable has all the traffic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..api.analysis import Verdict
from ..api.base import seconds
from ..api.reasons import Reason
from ..api.rollout import Action, GateRecord, OnFailure, Rollout, RolloutPhase, RolloutStatus, Surge, Verb
from . import capacity, proof, rollout, steps
from .build import elapsed, timestamp
from .capacity import Move, Standing
from .outcome import Cause
from .rollout import Revision


@dataclass(frozen=True)
class Facts:
    """What is seen of a rollout now."""

    want: int
    stable: Revision
    canary: Revision
    unrouted: Cause | None = None
    """Why the gateway does not split the traffic (yet): no canary without it."""
    gated: Cause | None = None
    """What must be passed before the canary has users."""
    gate: str | None = None
    """Which gate that is; None: queries of the user's own."""
    gate_failed: str | None = None
    starved: str | None = None
    """The scheduler's words, where a pod of the canary waits for what other pods hold."""
    broken: Cause | None = None
    """Why the canary's pods cannot live."""
    asked: Action | None = None
    """What a person asks for, where it has not been done yet."""

    @property
    def action(self) -> Action | None:
        """The same, where it is asked of this canary."""
        return self.asked if self.asked and self.asked.revision in (None, self.canary.name) else None


@dataclass(frozen=True)
class Advance:
    """The rollout as it stands now, the move it makes, and when to look again."""

    state: RolloutStatus
    move: Move
    look_again: timedelta | None = None


def begin(stable: str, canary: str, now: datetime, weight: int = 0, borrowing: bool = False) -> RolloutStatus:
    """A rollout of which nothing has happened yet, but that the canary may have traffic from before."""
    return RolloutStatus(
        phase=RolloutPhase.PROGRESSING,
        stable=stable,
        canary=canary,
        weight=weight,
        highest=weight,
        borrowing=borrowing,
        started=timestamp(now),
        waiting_since=timestamp(now),
    )


def advance(state: RolloutStatus, spec: Rollout, facts: Facts, now: datetime) -> Advance:
    """One look at what `resumed` gave: verbs first, then reasons to give up, then the next move."""
    if state.phase is RolloutPhase.ABORTED:
        return _aborted(state, spec, facts)
    if reason := failure(state, facts):
        return _give_up(state, spec, facts, reason)
    state = _obeyed(state, spec, facts, now)
    state = _borrowed(state, spec, facts)
    made = _move(state, spec, facts)
    state = _weighed(state, spec, facts, made, now)
    if _overdue(state, spec, now):
        return _give_up(state, spec, facts, _why_late(state, spec, facts))
    told = _phased(state, spec, facts, now)
    goal = {"goal": steps.goal(told, spec)}
    return Advance(told.model_copy(update=goal), made, _look_again(state, spec, now))


def resumed(state: RolloutStatus, spec: Rollout, facts: Facts, now: datetime) -> tuple[RolloutStatus, Facts]:
    """The rollout before anything is seen of it: in the steps as they are now, or begun anew where it was given up and
    somebody asks for that; so what keeps a canary from its first users keeps it from them this time too."""
    if state.phase is RolloutPhase.ABORTED and _asked(facts, Verb.RETRY):
        return begin(state.stable, state.canary, now), replace(facts, asked=None)
    return steps.found(state, spec, now), facts


def stay(state: RolloutStatus, spec: Rollout, facts: Facts) -> Advance:
    """One look at a canary that can neither go on nor be left: it stays as it is, or is given up."""
    if reason := failure(state, facts):
        return _give_up(state, spec, facts, reason)
    return Advance(state, Move(facts.stable.replicas, facts.canary.replicas, state.weight))


def failure(state: RolloutStatus, facts: Facts) -> str | None:
    """Why the canary is given up now, whatever the phase; what a person promoted is only given up when it is dead."""
    if _asked(facts, Verb.ABORT):
        return "aborted by request"
    if facts.broken:
        return f"{facts.broken.reason}: {facts.broken.message}"
    if facts.gate_failed and not state.forced:
        return facts.gate_failed
    if state.decision and state.decision.verdict is Verdict.ABORT and not state.forced:
        return state.decision.message
    return None


def finished(state: RolloutStatus) -> bool:
    """Whether the canary has all the traffic: it is the stable revision from now on."""
    return state.phase is RolloutPhase.PROMOTING and state.weight == 100


def _asked(facts: Facts, verb: Verb) -> bool:
    return facts.action is not None and facts.action.verb is verb


def _give_up(state: RolloutStatus, spec: Rollout, facts: Facts, why: str) -> Advance:
    told = {"phase": RolloutPhase.ABORTED, "reason": Reason.CANARY_ROLLED_BACK, "message": why}
    gone = {"weight": 0, "since": None, "waiting_since": None, "asleep": False}
    return _aborted(state.model_copy(update=told | gone), spec, facts)


def _aborted(state: RolloutStatus, spec: Rollout, facts: Facts) -> Advance:
    """Stable whole again; the canary's pods go, or stay to be looked at, as many as have a place beside all of it."""
    beside = 0 if state.borrowing else _standing(state, spec, facts).most - facts.want
    kept = min(facts.canary.replicas, beside) if spec.on_failure is OnFailure.PAUSE else 0
    return Advance(state, Move(facts.want, kept, 0))


def _obeyed(state: RolloutStatus, spec: Rollout, facts: Facts, now: datetime) -> RolloutStatus:
    """The state after what a person asked for, where it applies."""
    if facts.action is None or state.phase is RolloutPhase.PROMOTING:
        return state
    if facts.action.verb is Verb.PROMOTE:
        return steps.entered(state, len(spec.steps), now).model_copy(update={"forced": True})
    if facts.action.verb is Verb.SKIP and facts.gated:
        return _skipped(state, facts.gate)
    if facts.action.verb is Verb.SKIP and state.weight:  # before, only a gate that has begun can be skipped
        return steps.entered(state, state.step + 1, now)
    if facts.action.verb is Verb.APPROVE:
        return state.model_copy(update={"approved": True})
    return state


def _skipped(state: RolloutStatus, gate: str | None) -> RolloutStatus:
    """The one gate that is being measured counts as passed; None: the queries that are to be answered first."""
    if gate is None:
        return state.model_copy(update={"ungated": True})
    record = GateRecord(gate=gate, passed=True, message="skipped by request")
    return state.model_copy(update={"gates": [*state.gates, record]})


def _borrowed(state: RolloutStatus, spec: Rollout, facts: Facts) -> RolloutStatus:
    """Whether a replica of stable is lent: always under Never, under Auto once there proves to be no room; and no more
    where it has become the only one."""
    starved = spec.surge is Surge.AUTO and facts.starved is not None
    lend = state.borrowing or spec.surge is Surge.NEVER or starved
    return state.model_copy(update={"borrowing": lend and capacity.can_borrow(facts.want)})


def _move(state: RolloutStatus, spec: Rollout, facts: Facts) -> Move:
    """The next move; none where nothing would split the traffic."""
    if facts.unrouted:
        return Move(max(facts.want, facts.stable.replicas), facts.canary.replicas, state.weight)
    at = _standing(state, spec, facts)
    return capacity.move(replace(at, canary=replace(at.canary, ready=0)) if _kept_back(state, spec, facts) else at)


def _kept_back(state: RolloutStatus, spec: Rollout, facts: Facts) -> bool:
    """Whether the canary gets no more traffic now, however many of its pods are ready."""
    return facts.gated is not None or (spec.paused and not steps.done(state, spec))


def _standing(state: RolloutStatus, spec: Rollout, facts: Facts) -> Standing:
    return Standing(
        facts.want,
        facts.stable,
        facts.canary,
        state.weight,
        steps.goal(state, spec),
        spec.surge,
        state.borrowing,
        steps.done(state, spec),
    )


def _weighed(state: RolloutStatus, spec: Rollout, facts: Facts, made: Move, now: datetime) -> RolloutStatus:
    """The state with the weight of the move, and since when pods are awaited: what `deadline` counts from.

    A higher weight is progress. What a gate takes (it has a deadline of its own), or a pause, is no fault of the pods,
    nor are their zones: they are awaited from its end on, or from when none of them is ready any more.
    """
    changes: dict[str, object] = {"weight": made.weight, "highest": max(state.highest, made.weight)}
    if made.weight >= steps.goal(state, spec):
        changes |= {"since": state.since or timestamp(now), "waiting_since": None}
    elif _kept_back(state, spec, facts) or facts.canary.useless:
        changes["waiting_since"] = None
    elif made.weight > state.weight or state.waiting_since is None:
        changes["waiting_since"] = timestamp(now)
    return state.model_copy(update=changes)


def _overdue(state: RolloutStatus, spec: Rollout, now: datetime) -> bool:
    return state.waiting_since is not None and elapsed(state.waiting_since, now) >= spec.deadline_seconds


def _why_late(state: RolloutStatus, spec: Rollout, facts: Facts) -> str:
    if facts.unrouted:
        return f"{facts.unrouted.reason}: not mended within {spec.deadline}: {facts.unrouted.message}"
    if facts.starved:
        return f"{Reason.INSUFFICIENT_SURGE_CAPACITY}: no room within {spec.deadline}: {facts.starved}"
    return f"{Reason.DEADLINE_EXCEEDED}: the canary's pods did not become ready within {spec.deadline}"


def _phased(state: RolloutStatus, spec: Rollout, facts: Facts, now: datetime) -> RolloutStatus:
    """The phase, and the next step where this one is done."""
    if steps.done(state, spec):
        return _told(state, RolloutPhase.PROMOTING, "all traffic moves to the new revision")
    if state.since is None or facts.unrouted:
        return _waiting(state, spec, facts)
    if spec.paused:
        return _told(state, RolloutPhase.PAUSED, f"paused at {state.weight} %")
    step = spec.steps[state.step]
    left = seconds(step.hold) - elapsed(state.since, now)
    if left > 0:
        return _told(state, RolloutPhase.PROGRESSING, f"{state.weight} % for {step.hold}{proof.asked(step)}")
    why = proof.lacking(state, spec)
    if step.approval and not state.approved:
        told = f"at {state.weight} %, waiting for somebody to approve: `pilotboat rollout approve NAME`"
        return _told(state, RolloutPhase.AWAITING_APPROVAL, f"{told}; {why}" if why else told)
    if why:
        return _told(state, RolloutPhase.HOLDING, why)
    if (
        state.weight and not facts.canary.serving
    ):  # what it has been until now says nothing of a canary that is not there
        return _told(state, RolloutPhase.HOLDING, f"at {state.weight} %, until a replica of the canary is ready again")
    return _phased(steps.entered(state, state.step + 1, now), spec, facts, now)


def _told(
    state: RolloutStatus, phase: RolloutPhase, message: str, reason: Reason = Reason.ROLLING_OUT
) -> RolloutStatus:
    return state.model_copy(update={"phase": phase, "reason": reason, "message": message})


def _waiting(state: RolloutStatus, spec: Rollout, facts: Facts) -> RolloutStatus:
    """What this step's weight waits for."""
    if facts.unrouted:
        return _told(state, RolloutPhase.PROGRESSING, facts.unrouted.message, facts.unrouted.reason)
    if facts.gated:
        return _told(state, RolloutPhase.PROGRESSING, facts.gated.message, facts.gated.reason)
    if spec.paused:
        return _told(state, RolloutPhase.PAUSED, f"paused at {state.weight} %")
    if facts.starved and not state.borrowing:
        return _told(state, RolloutPhase.PROGRESSING, facts.starved, Reason.INSUFFICIENT_SURGE_CAPACITY)
    lent = ", one of stable's replicas is lent to it" if state.borrowing else ""
    told = f"{facts.canary.serving} replicas of the canary are ready; {steps.goal(state, spec)} % needs more{lent}"
    return _told(state, RolloutPhase.PROGRESSING, told + rollout.beside(facts.canary.useless))


def _look_again(state: RolloutStatus, spec: Rollout, now: datetime) -> timedelta | None:
    """When a hold or a deadline ends, if nothing happens before."""
    if state.waiting_since is not None:
        return timedelta(seconds=max(1.0, spec.deadline_seconds - elapsed(state.waiting_since, now)))
    if state.since is not None and state.step < len(spec.steps):
        left = seconds(spec.steps[state.step].hold) - elapsed(state.since, now)
        return timedelta(seconds=max(1.0, left)) if left > 0 else None
    return None
