"""What is news about a canary, as events: begun, at a step's weight, held, promoted, given up, overtaken; and what is
asked of one that is none.

Owns: the events of a rollout with steps. Must not know: conditions (outcome.py) or how it is decided (course.py).

News is what differs from the rollout in the parent's status, which is written together with it: nothing is told twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..api.analysis import Decision
from ..api.reasons import Reason
from ..api.rollout import Action, Rollout, RolloutPhase, RolloutRecord, RolloutStatus
from . import outcome, proof
from .build import Raw, dig
from .canary import words
from .course import Course
from .ended import BY_REQUEST
from .types import Event

_OVER = (RolloutPhase.ABORTED, RolloutPhase.DRAINING)


def told(parent: Raw, spec: Rollout, course: Course) -> tuple[Event, ...]:
    """The events of this pass, in order."""
    before = outcome.read(RolloutStatus, dig(parent, "status", "rollout"))
    ended = [_ended(course.ended)] if course.ended else []
    return (*ended, *_under_way(before, spec, course.state))


def missed(asked: Action | None, canary: RolloutStatus | None) -> tuple[Event, ...]:
    """That nothing comes of what is asked, for it names another revision than that of the canary."""
    if asked is None:
        return ()
    why = f"the canary is {canary.canary}" if canary else "there is no canary"
    if canary and canary.canary == asked.revision:
        why = "it is on its way out, for another change came"
    told = f"{asked.verb} is asked of revision {asked.revision}, and {why}: nothing was done, nor will be for this id"
    todo = "`pilotboat rollout status NAME` shows where the rollout stands; ask again with a new id"
    return (Event("Warning", Reason.ACTION_IGNORED, f"{told} ({asked.id}). {todo}"),)


def _ended(record: RolloutRecord) -> Event:
    if record.outcome == "Promoted":
        asked = ", by request" if record.message == BY_REQUEST else ""
        message = f"revision {record.revision} has all the traffic{asked}"
        return Event("Normal", Reason.ROLLOUT_PROMOTED, _with_figures(message, record.decision))
    if record.outcome == "Aborted":
        return Event("Warning", Reason.CANARY_ROLLED_BACK, _with_figures(record.message, record.decision))
    return Event("Normal", Reason.ROLLOUT_SUPERSEDED, f"canary {record.revision} is given up: {record.message}")


def _under_way(before: RolloutStatus | None, spec: Rollout, state: RolloutStatus | None) -> Iterator[Event]:
    if state is None or state.phase in _OVER:
        return
    new = before is None or _identity(before) != _identity(state) or before.phase in _OVER
    if new:
        weights = ", ".join(str(step.weight) for step in spec.steps)
        message = f"revision {state.canary} is a canary beside {state.stable}: {weights} % of the traffic, then all"
        yield Event("Normal", Reason.ROLLOUT_STARTED, message)
    known = None if new or before is None else (before.step, before.since)
    if state.since and state.step < len(spec.steps) and (state.step, state.since) != known:
        step = spec.steps[state.step]
        message = f"step {state.step + 1} of {len(spec.steps)}: revision {state.canary} has {state.weight} %"
        yield Event("Normal", Reason.ROLLOUT_STEP, f"{message} of the traffic, for {step.hold}{proof.asked(step)}")

    held = [] if new or before is None else before.held
    if state.decision and set(state.held) > set(held):
        yield Event("Normal", Reason.CANARY_HOLDING, _with_figures(state.decision.message, state.decision))


def _with_figures(message: str, decision: Decision | None) -> str:
    return outcome.shortened(f"{message}; {words.recorded(decision)}" if decision else message)


def _identity(state: RolloutStatus) -> tuple[str, str, str | None]:
    return state.stable, state.canary, state.started
