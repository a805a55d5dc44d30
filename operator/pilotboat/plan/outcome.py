"""How a planner says why something is not as it should be, and how conditions and events follow from that.

Owns: Cause, and the step from causes to conditions and events. Must not know: pods, revisions or jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ..api.base import Time
from ..api.conditions import Condition, merge
from ..api.reasons import Reason
from .build import dig
from .types import Event, Ref, Refusal, Rejection

M = TypeVar("M", bound=BaseModel)

_TIME = TypeAdapter[str](Time)

MAX_MESSAGE = 700
"""Characters of a condition's message: a cause and the last log lines, and `kubectl describe` stays readable."""

NEUTRAL = frozenset(
    {
        *(Reason.STARTING, Reason.FETCHING, Reason.LOADING, Reason.ROLLING_OUT, Reason.SCALING, Reason.TRAINING),
        *(Reason.WAITING_FOR_FINE_TUNE_JOB, Reason.WAITING_FOR_CHECKPOINT, Reason.SUSPENDED, Reason.SCALED_TO_ZERO),
        *(Reason.RESUMED, Reason.VALID, Reason.ROLLED_OUT, Reason.SERVING, Reason.FETCHED, Reason.TRAINED),
        *(Reason.PUBLISHED, Reason.CHECKPOINT_SAVED, Reason.ROUTED, Reason.GATEWAY_STARTING),
        *(Reason.LEAVING_GATEWAY, Reason.CANARY_PAUSED, Reason.AWAITING_APPROVAL, Reason.CANARY_HOLDING),
        *(Reason.SEEDED, Reason.SEEDING, Reason.PROBED, Reason.ZONES_UP, Reason.RECOVERED, Reason.ZONE_RETURNING),
        Reason.FEEDBACK_TAKEN,
        *(Reason.DNS_ANSWERED, Reason.DNS_MOVED, Reason.DNS_STARTING),
        *(Reason.ROLLOUT_STARTED, Reason.ROLLOUT_STEP, Reason.ROLLOUT_PROMOTED, Reason.ROLLOUT_SUPERSEDED),
    }
)
"""Reasons that are no fault: their events are Normal."""

MILESTONES = (Reason.FETCHED, Reason.SERVING, Reason.ROLLED_OUT)
"""Each says those before it too: of those reached at once, only the last has an event."""


@dataclass(frozen=True)
class Cause:
    """Why something is not (yet) as it should be."""

    reason: Reason
    message: str

    @property
    def fault(self) -> bool:
        """Whether somebody should look, as against wait."""
        return self.reason not in NEUTRAL


def condition(kind: str, holds: bool, reason: Reason, message: str, generation: int) -> Condition:
    """One condition about that generation, its message cut to a readable length."""
    status: Literal["True", "False"] = "True" if holds else "False"
    told = shortened(message)
    return Condition(type=kind, status=status, reason=reason, message=told, observed_generation=generation)


def told(generation: int, kind: str, holds: bool, cause: Cause | None, good: Reason, message: str) -> Condition:
    """A condition that holds for a good reason, or does not for a cause."""
    if holds or cause is None:
        return condition(kind, holds, good, message, generation)
    return condition(kind, False, cause.reason, cause.message, generation)


def shortened(message: str) -> str:
    """A message cut to a readable length."""
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"


def read(model: type[M], raw: Any) -> M | None:
    """A part of a status or a report; None where it is absent or of another shape, for others may have written it."""
    try:
        return model.model_validate(raw)
    except ValidationError:
        return None


def read_all(model: type[M], raws: Any) -> list[M]:
    """Those of a list in a status that can be read; none where there is no list."""
    return [known for raw in raws or () if (known := read(model, raw))]


def time(raw: Any) -> str | None:
    """A time in a status; None where it is absent, or something else."""
    try:
        return _TIME.validate_python(raw)
    except ValidationError:
        return None


def previous(parent: Mapping[str, Any]) -> list[Condition]:
    """The conditions that stand in the parent's status now; what cannot be read is left out."""
    return read_all(Condition, dig(parent, "status", "conditions"))


def merged(parent: Mapping[str, Any], new: Sequence[Condition], now: str) -> list[Condition]:
    """The new conditions with transition times carried over from the parent's status."""
    return merge(previous(parent), new, now)


def events(old: Iterable[Condition], new: Iterable[Condition]) -> tuple[Event, ...]:
    """One event for each reason that a changed condition brings, in order; the first to bring it has the words."""
    before = {(c.type, c.status, c.reason) for c in old}
    told: dict[str, Event] = {}
    for c in new:
        if (c.type, c.status, c.reason) not in before and c.reason != Reason.VALID:
            told.setdefault(c.reason, Event("Normal" if c.reason in NEUTRAL else "Warning", c.reason, c.message))
    reached = [reason for reason in MILESTONES if reason in told]
    return tuple(event for reason, event in told.items() if reason not in reached[:-1])


def invalid(error: ValidationError) -> Cause:
    """What is wrong with a spec, each field by its path."""
    told = [f"spec.{'.'.join(str(step) for step in item['loc'])}: {item['msg']}" for item in error.errors()[:5]]
    return Cause(Reason.INVALID_SPEC, "; ".join(told))


def not_created(deployment: Mapping[str, Any]) -> Cause | None:
    """What the Deployment controller says where it cannot create pods: quota, Pod Security, a missing account."""
    for c in dig(deployment, "status", "conditions") or ():
        if c.get("type") == "ReplicaFailure" and c.get("status") == "True":
            return Cause(Reason.POD_REJECTED, c.get("message", ""))
    return None


def refused(rejected: Mapping[Ref, Rejection]) -> Cause | None:
    """The first refusal of the API server as a cause, or None."""
    for ref, rejection in sorted(rejected.items()):
        if rejection.refusal is Refusal.NAME_TAKEN:
            return Cause(Reason.NAME_TAKEN, f"{ref.kind} {ref.name}: {rejection.message}")
        return Cause(Reason.POD_REJECTED, f"{ref.kind} {ref.name} was refused: {rejection.message}")
    return None
