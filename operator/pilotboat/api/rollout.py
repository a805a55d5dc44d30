"""How a new revision gets its traffic: the steps a user writes, and where a rollout stands.

Owns: spec.rollout and status.rollout. Must not know: how a step is taken (plan/progression.py).
"""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from .analysis import AnalysisState, Decision, Metric, Why
from .base import Duration, Model, Shape, Share, Status, Time, TimeLimit, cel, seconds, shaped, validations
from .gates import Analysis, StepAnalysis
from .outcomes import Outcomes, Result

MAX_STEPS = 20


class Surge(StrEnum):
    """Where a canary's pods come from: Auto has one more than `replicas` where there is room, else borrows one."""

    AUTO = "Auto"
    ALWAYS = "Always"
    NEVER = "Never"


class OnFailure(StrEnum):
    """After an abort the stable revision has all traffic; Pause keeps pods of the canary to look at, as many as `surge`
    leaves beside all of stable's."""

    ROLLBACK = "Rollback"
    PAUSE = "Pause"


class Verb(StrEnum):
    """What a person may ask of a running rollout."""

    APPROVE = "Approve"
    SKIP = "Skip"
    PROMOTE = "Promote"
    ABORT = "Abort"
    RETRY = "Retry"


class RolloutPhase(StrEnum):
    """Where a rollout stands."""

    PROGRESSING = "Progressing"
    AWAITING_APPROVAL = "AwaitingApproval"
    HOLDING = "Holding"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    DRAINING = "Draining"
    ABORTED = "Aborted"


class RolloutStep(Model):
    """A share of the traffic, and how long it is held."""

    weight: Annotated[int, Field(ge=1, le=100, description="Per cent of the traffic for the new revision.")]
    hold: Duration = Field("5m", description="Time at this weight before the next step.")
    approval: Annotated[bool, Field(description="Wait for the verb Approve (or Skip) after the hold.")] = False
    analysis: StepAnalysis = Field(default_factory=StepAnalysis)


_REVISION = (
    StringConstraints(max_length=63),
    *shaped(Shape(r"[0-9a-f]{8}", "must be a revision, 8 digits as in status.revisions")),
)


class Action(Model):
    """One thing asked of the running rollout; it is done once for each id."""

    verb: Verb
    id: Annotated[
        str,
        StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:-]+$"),
        Field(description="Any text that is new: each is done once."),
    ]
    revision: Annotated[
        str | None,
        *_REVISION,
        Field(
            description="Of whom it is asked: nothing is done where another is the canary, nor later. Any if left out."
        ),
    ] = None


_RISING = cel(
    "!has(self.steps) || self.steps.all(s, self.steps.exists_one(t, t.weight == s.weight))"
    " && self.steps.map(s, s.weight).isSorted()",
    "the weights of the steps must rise: each above the one before, and nothing after 100",
    ".steps",
)
_ASKING = "!has(self.steps) || self.steps.all(s, !has(s.analysis) || {})"
_NAMED = cel(
    _ASKING.format(
        "!has(s.analysis.queries) || (has(self.analysis) && has(self.analysis.prometheus)"
        " && s.analysis.queries.all(n, self.analysis.prometheus.queries.exists(q, q.name == n)))"
    ),
    "steps[].analysis.queries must be names of analysis.prometheus.queries",
    ".steps",
)
_OFF = " && ".join(
    f"has(self.analysis.{metric}) && has(self.analysis.{metric}.enabled) && !self.analysis.{metric}.enabled"
    for metric in Metric
)
_WEIGHED = cel(
    f"!has(self.analysis) || !({_OFF}) || "
    + _ASKING.format("!(has(s.analysis.minSamples) || (has(s.analysis.proven) && s.analysis.proven))"),
    "steps[].analysis.minSamples and proven need a metric that is judged, and analysis switches them all off: "
    + ", ".join(Metric),
    ".steps",
)
_OF_STEPS = ("surge", "deadline", "onFailure", "paused", "analysis")
"""Without steps these would be accepted and do nothing."""


def _idle(field: str) -> str:
    return f"{field} is for rollouts with steps, and there are none"


def _of_steps(field: str) -> dict[str, str]:
    given = f"has(self.{field})" + (" && self.paused" if field == "paused" else "")
    return cel(f"(has(self.steps) && self.steps.size() > 0) || !({given})", _idle(field), f".{field}")


class Rollout(Model, json_schema_extra=validations(_RISING, _NAMED, _WEIGHED, *map(_of_steps, _OF_STEPS))):
    """How a new revision replaces the one that serves; without steps, replica by replica."""

    steps: Annotated[
        list[RolloutStep], Field(max_length=MAX_STEPS, description="Rising weights; none: replica by replica.")
    ] = Field(default_factory=list)
    surge: Surge = Surge.AUTO
    deadline: TimeLimit = Field(
        "30m", description="Time for the pods of a step to become ready, capacity included, before the canary fails."
    )
    on_failure: OnFailure = OnFailure.ROLLBACK
    paused: Annotated[bool, Field(description="Stay at this weight; a failing canary is aborted all the same.")] = False
    action: Action | None = None
    rollback_to: Annotated[
        str | None,
        *_REVISION,
        Field(description="Serve this earlier revision (status.revisions) instead of what the spec says."),
    ] = None
    history: Annotated[int, Field(ge=0, le=20, description="Earlier revisions kept for rollbackTo.")] = 3
    analysis: Analysis = Field(default_factory=Analysis)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        weights = [step.weight for step in self.steps]
        if any(after <= before for before, after in pairwise(weights)):
            raise ValueError(_RISING["message"])
        return self

    @model_validator(mode="after")
    def _named(self) -> Self:
        known = [query.name for query in self.analysis.prometheus.queries] if self.analysis.prometheus else []
        for number, step in enumerate(self.steps):
            asked = step.analysis.queries
            unknown = ", ".join(name for name in asked or () if name not in known)
            if unknown or (asked is not None and not known):
                raise ValueError(f"{_NAMED['message']}: not so steps[{number}], {unknown or 'for there are none'}")
        return self

    @model_validator(mode="after")
    def _weighed(self) -> Self:
        if not self.analysis.metrics and any(step.analysis.weighs for step in self.steps):
            raise ValueError(_WEIGHED["message"])
        return self

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        for name in () if self.steps else sorted(self.model_fields_set):
            field = to_camel(name)
            if field in _OF_STEPS and (field != "paused" or self.paused):
                raise ValueError(_idle(field))
        return self

    @property
    def deadline_seconds(self) -> int:
        """`deadline` as a number."""
        return seconds(self.deadline)


class RolloutRecord(Status):
    """A rollout that is over."""

    revision: str
    stable: str
    outcome: str
    """Promoted, Aborted or Superseded."""
    message: str = ""
    weight: int = 0
    """The highest share the canary had, in per cent."""
    started: str | None = None
    finished: str | None = None
    outcomes: Result | None = None
    """What applications posted; absent where none posted anything."""
    decision: Decision | None = None
    """What the evidence said last, or when the promotion began; of the newest record alone, where it had traffic."""


class GateRecord(Status):
    """What a gate before users has found."""

    gate: str
    passed: bool
    message: str


class RolloutStatus(Status):
    """Where the rollout stands; all that a restarted operator needs to go on."""

    phase: RolloutPhase
    stable: str
    canary: str
    step: int = 0
    """Index of the step; equal to the number of steps while promoting."""
    goal: int | None = None
    """Weight of that step, by which it is found again where steps are edited."""
    weight: Share = 0
    """Per cent of the traffic that goes to the canary now."""
    borrowing: bool = False
    """One of stable's replicas is lent to the canary, for there was no room for one more."""
    highest: int = 0
    """The highest weight the canary had."""
    approved: bool = False
    """Somebody approved this step."""
    asleep: bool = False
    """Replicas were 0, and stable does not serve again yet."""
    ungated: bool = False
    """Somebody skipped the queries that must be answered before users."""
    forced: bool = False
    """Somebody asked for the promotion: what the figures say does not stop it any more."""
    reason: str | None = None
    message: str = ""
    started: Time | None = None
    since: Time | None = None
    """When the weight of this step was reached; absent while pods are awaited."""
    waiting_since: Time | None = None
    """Since when pods of this step are awaited: what `deadline` counts from."""
    gates: list[GateRecord] = Field(default_factory=list)
    """Gates before users that have been measured."""
    absorbed_probe: str | None = None
    """Uid of the Job of synthetic requests that was counted last."""
    decision: Decision | None = None
    """What the evidence said when it last said something new; while promoting, when that began."""
    held: list[Why] = Field(default_factory=list)
    """Why the evidence has held it so far, each cause once: each has had its event."""
    analysis: AnalysisState = Field(default_factory=AnalysisState)
    outcomes: Outcomes | None = None
    """What applications posted since the canary first had traffic; brought up to date once a minute at most."""

    @property
    def weights(self) -> dict[str, int]:
        """Per cent of the traffic by revision."""
        return {self.canary: self.weight, self.stable: 100 - self.weight}

    @property
    def untried(self) -> bool:
        """Whether the canary has had no users yet, nor is to have them whatever comes before."""
        return not (self.weight or self.forced)


__all__ = ["Rollout", "RolloutRecord", "RolloutStatus"]
