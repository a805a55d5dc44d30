"""Recovery: what a ModelDeployment says of zones, and what its status remembers of nodes and zones that were lost.

Owns: spec.zones, status.zones, status.recovery. Must not know: when a node or a zone counts as lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from .base import Duration, Model, Share, Status, Time, cel, seconds, validations
from .dns import Dns
from .reasons import Reason


class Spread(StrEnum):
    """How strictly replicas spread over zones."""

    PREFERRED = "Preferred"
    REQUIRED = "Required"


class FailoverMode(StrEnum):
    """Who takes a zone out of the traffic."""

    AUTOMATIC = "Automatic"
    OFF = "Off"


class FailbackMode(StrEnum):
    """Who decides that a zone that was lost gets traffic again; Manual: spec.zones.failback.approved names it."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class Failover(Model):
    """When a zone counts as lost."""

    mode: FailoverMode = FailoverMode.AUTOMATIC
    threshold: Annotated[
        int, Field(ge=1, le=100, description="Per cent of a zone's nodes, and of the replicas there, that must fail.")
    ] = 60
    after: Duration = Field("15s", description="How long they must have failed.")

    @property
    def after_seconds(self) -> int:
        """`after` as a number."""
        return seconds(self.after)


_RISING = cel(
    "!has(self.steps) || self.steps.all(a, self.steps.all(b, self.steps.indexOf(a) >= self.steps.indexOf(b) || a < b))",
    "the steps of a fail-back must rise: each above the one before",
    ".steps",
)
Percent = Annotated[int, Field(ge=1, le=100)]


class Failback(Model, json_schema_extra=validations(_RISING)):
    """How a zone or node that was lost gets its traffic and its replicas back."""

    mode: FailbackMode = FailbackMode.AUTOMATIC
    after: Duration = Field(
        "5m", description="How long it must have been well; doubled with every further loss, up to an hour."
    )
    steps: Annotated[
        list[Percent], Field(max_length=10, description="Weight of the zone's replicas, step by step, then all.")
    ] = Field(default_factory=lambda: [10, 25, 50])
    step_hold: Duration = Field("1m", description="Time at each step.")
    approved: Annotated[
        list[Annotated[str, Field(max_length=63)]],
        Field(max_length=16, description="With mode Manual: zones that may come back."),
    ] = Field(default_factory=list)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(after <= before for before, after in pairwise(self.steps)):
            raise ValueError(_RISING["message"])
        return self

    @property
    def after_seconds(self) -> int:
        """`after` as a number."""
        return seconds(self.after)

    @property
    def hold_seconds(self) -> int:
        """`stepHold` as a number."""
        return seconds(self.step_hold)


class Zones(Model):
    """How replicas spread over zones, what happens when one is lost, and which region callers are sent to."""

    spread: Spread = Spread.PREFERRED
    spare: Annotated[
        int, Field(ge=0, le=1000, description="Warm replicas beyond `replicas`, so that a zone's loss leaves enough.")
    ] = 0
    failover: Failover = Field(default_factory=Failover)
    failback: Failback = Field(default_factory=Failback)
    dns: Dns | None = Field(None, description="One host name for several clusters, of which a healthy one is answered.")


class ZoneState(StrEnum):
    """Of one zone, as this ModelDeployment sees it."""

    HEALTHY = "Healthy"
    SUSPECT = "Suspect"
    LOST = "Lost"
    RECOVERING = "Recovering"
    """Well again, and not trusted yet."""
    RETURNING = "Returning"
    """Gets its traffic back step by step."""


Known = Annotated[str, AfterValidator(lambda reason: str(Reason(reason)))]
"""A reason that this operator knows."""


class ZoneStatus(Status):
    """What is remembered of a zone; a healthy one of which nothing is to be remembered has no entry's memory."""

    name: str
    state: ZoneState
    since: Time
    """When this state, or this step of a fail-back, began."""
    weight: Share = 100
    """Per cent of what its replicas would get."""
    step: int = 0
    losses: int = 0
    """How often it was lost, as far as that counts for the time it must be well again."""
    lost_at: Time | None = None
    replicas: int = 0
    failing: int = 0
    missing: int = 0
    """Replicas that have to become ready elsewhere until it needs no share any more: as many of its own keep theirs."""
    doubted: bool = False
    """Most zones looked bad at once while this one was suspect: when that ends its time as suspect begins anew, since
    what was seen before is not believed."""
    message: str = ""


class LostNode(Status):
    """A node that took replicas with it, until it is trusted again or they are gone."""

    name: str
    zone: str = ""
    fault: Known
    """NodeLost or GPUFault."""
    since: Time
    """When it was first suspected."""
    counted: bool = False
    """Its replicas are lost, and others stand in for them; before that it is only suspected."""
    well_since: Time | None = None
    """Since when it has been well again."""
    losses: int = 1
    pods: list[str] = Field(default_factory=list)
    serving: list[str] = Field(default_factory=list)
    """Of these, those that serve again though the node is not well; they are not trusted yet."""


class Split(Status):
    """Where the time went until a replacement served, in seconds."""

    schedule: float | None = None
    pull: float | None = None
    fetch: float | None = None
    load: float | None = None
    """Starting, and loading the model; with warming it up, where nobody tells of that by itself."""
    warm: float | None = None
    """Warming it up: the first inference of its own."""


class Fault(Status):
    """One loss of replicas, and when what was put right."""

    fault: Known
    """NodeLost, GPUFault, ZoneLost, PodLost, ProcessDied or PodUnready."""
    subject: str
    """Which node, zone or pod."""
    replicas: int = 1
    detected_at: Time
    traffic_moved_at: Time | None = None
    """When the last gateway had taken the replicas out; absent where gateways do not tell."""
    replaced_at: Time | None = None
    """When the first replacement was created, of those that have a place on a node that is not lost."""
    ready_at: Time | None = None
    seconds: Split | None = None

    def among(self, others: Iterable[Fault]) -> bool:
        """Whether one of these is of the same loss, however far it has come."""
        return any(self._identity == other._identity for other in others)

    @property
    def _identity(self) -> tuple[str, str, str]:
        return self.fault, self.subject, self.detected_at


class RecoveryStatus(Status):
    """What an operator that starts anew goes on from."""

    nodes: list[LostNode] = Field(default_factory=list)
    stand_ins: int | None = None
    """Replicas above those asked for, in the place of lost ones."""
    beside: list[Fault] = Field(default_factory=list)
    """Losses that were not over when `last` began, the oldest first; they are over when it is."""
    last: Fault | None = None
    """The loss being recovered from, or the last one that was; the newest where there are several."""
    count: int = 0
    """Losses recovered from so far."""

    @property
    def faults(self) -> list[Fault]:
        """All that is told of, the newest last."""
        return [*self.beside, self.last] if self.last else self.beside

    @property
    def open(self) -> list[Fault]:
        """Of these, those that are not over."""
        return [fault for fault in self.faults if fault.ready_at is None]

    def begun_since(self, before: RecoveryStatus) -> list[Fault]:
        """Losses that were not told of before."""
        return [fault for fault in self.faults if not fault.among(before.faults)]

    def ended_since(self, before: RecoveryStatus) -> list[Fault]:
        """Losses that are over, and were not known to be before."""
        over = [fault for fault in before.faults if fault.ready_at]
        return [fault for fault in self.faults if fault.ready_at and not fault.among(over)]
