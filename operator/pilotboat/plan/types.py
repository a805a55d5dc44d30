"""What a planner gets and what it gives: the seam between the pure core and the engine.

Owns: Observed, Plan and their parts. Must not know: how objects are looked up or written.

How refusals come back. The engine applies a plan's manifests in order. Where the API server refuses one (403, 422) or
the name is held by an object that is not ours, the engine goes on with the rest (but see Plan.after) and then calls
`plan` once more with the same Observed and `rejected` filled in: of that second plan only status, events and
requeue_after are used. So a planner needs no memory: it reports what stands in `rejected`. The parent is tried again
with back-off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, Protocol

from ..api.analysis import Why
from ..api.dns import DnsStatus
from ..api.reasons import Reason
from ..api.routing import Evidence
from ..api.sources import SecretKey

Manifest = dict[str, Any]
"""A full object we own whole, for server-side apply."""


@dataclass(frozen=True, order=True)
class Ref:
    """Which object: the identity that both sides use."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Ref:
        """The Ref of a manifest or of a live object."""
        meta = raw["metadata"]
        return cls(raw["apiVersion"], raw["kind"], meta.get("namespace", ""), meta["name"])


class Refusal(StrEnum):
    """Why a manifest could not be applied, and no retry of ours would help."""

    NAME_TAKEN = "NameTaken"
    """An object of that name exists that is not our parent's, nor was made for it: we never adopt or overwrite it."""
    FORBIDDEN = "Forbidden"
    """403: quota, policy, an admission webhook, or missing RBAC."""
    INVALID = "Invalid"
    """400 or 422: the API server's validation, such as a bad podTemplate."""


@dataclass(frozen=True)
class Rejection:
    """A refused manifest, with the API server's own words (or who holds the name)."""

    refusal: Refusal
    message: str


class Unread(StrEnum):
    """Why nothing can be said of a reference."""

    NO_SUCH_KIND = "NoSuchKind"
    """The API server does not know its kind: its CRD is not installed."""
    FORBIDDEN = "Forbidden"
    """We may not read it."""


@dataclass(frozen=True)
class GatewayState:
    """The gateway of a namespace, as those who use it see it."""

    available: bool = False
    """Whether a replica of it takes requests."""
    trouble: tuple[str, str] | None = None
    """Reason and words of what keeps it from being available, where that is known."""
    ports: Mapping[int, str] = field(default_factory=dict)
    """Who has which port: the older ModelDeployment where several claim one."""
    replicas: int = 0
    """How many of it take requests."""


@dataclass(frozen=True)
class Node:
    """One node, as far as recovery needs it."""

    name: str
    zone: str = ""
    """Empty where it has no label topology.kubernetes.io/zone."""
    ready: bool = True
    since: datetime | None = None
    """When Ready last changed, by the control plane's clock."""
    lost: str | None = None
    """Why it counts as not heard of, in words."""
    fault: str | None = None
    """What of its devices is out of order, in words."""
    control_plane: bool = False
    """Whether it keeps pods away because it is one of the control plane's."""

    @property
    def suspect(self) -> tuple[Reason, str] | None:
        """Kind of fault and words; None where nothing speaks against it."""
        if self.lost:
            return Reason.NODE_LOST, self.lost
        return (Reason.GPU_FAULT, self.fault) if self.fault else None


@dataclass(frozen=True)
class RegionState:
    """This region's part in a host name that it shares with others, as the engine has last seen and done it."""

    status: DnsStatus | None
    """None: it has no part in one any more, and nothing of it is left in a name server."""
    trouble: tuple[str, str] | None = None
    """Reason and words of why it cannot do its part."""


@dataclass(frozen=True)
class Questions:
    """What a user's Prometheus is to be asked, again and again."""

    url: str
    queries: tuple[str, ...]
    period: float
    """Seconds between two looks."""
    token: SecretKey | None = None


@dataclass(frozen=True)
class Answer:
    """What a Prometheus said to one query in one look."""

    query: str
    """As it was asked."""
    at: datetime
    """By our own clock."""
    values: tuple[float, ...] = ()
    """One for each series; not every float is a number."""
    stamp: float | None = None
    """Unix time of the oldest of the values, by the clock of the Prometheus."""
    trouble: tuple[Why, str] | None = None
    """Why there is no answer, in words too: NoAnswer or NotPermitted."""


@dataclass(frozen=True)
class Observed:
    """Everything a plan may depend on, save the time and the settings. Raw objects; do not change them."""

    parent: Mapping[str, Any]
    children: tuple[Mapping[str, Any], ...] = ()
    """Live objects whose controller ownerReference has the parent's uid, sorted by kind and name."""
    pods: tuple[Mapping[str, Any], ...] = ()
    """Pods of the parent, sorted by name, trimmed to metadata (of annotations the deletion cost alone), nodeName,
    container names and status."""
    references: Mapping[Ref, Mapping[str, Any] | None] = field(default_factory=dict)
    """What `Planner.references` asked for; None: it does not exist."""
    unread: Mapping[Ref, Unread] = field(default_factory=dict)
    """What of that could not be read, and is in `references` neither as an object nor as None."""
    gateway: GatewayState = field(default_factory=GatewayState)
    """The gateway of the parent's namespace."""
    nodes: Mapping[str, Node] = field(default_factory=dict)
    """All nodes by name; none where the operator may not see them."""
    dns: RegionState | None = None
    """For `zones.dns.rfc2136`; None: nothing is known yet."""
    evidence: tuple[Evidence, ...] = ()
    """The newest answer of every gateway (or, in its place, of the server pods) that gave one since
    `Planner.wants_evidence` has been true; those of gateways that are gone stay, for what they counted still counts. By
    the gateway's name."""
    evidence_at: tuple[datetime, ...] = ()
    """When each of these came."""
    answers: tuple[Answer, ...] = ()
    """To what `Planner.asks` wants to be asked, the newest of each query; none before the first look is over."""
    newcomers: frozenset[str] = frozenset()
    """Names of ready pods to which not every gateway sends requests yet."""
    unheard: bool = False
    """Whether some of them became ready this very moment, so that no gateway has been asked about them yet."""
    refused: int = 0
    """Posts of feedback that the gateways refused in the last minute, because too many came at once."""
    warmed: Mapping[str, float] = field(default_factory=dict)
    """Names of ready pods that were newcomers lately, and for how many seconds they warmed up, where they say so."""
    rejected: Mapping[Ref, Rejection] = field(default_factory=dict)
    """What of this plan was refused; filled in the second call only (see the module's docstring)."""


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event about the parent."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """What to do now. An empty plan does nothing at all."""

    costs: Mapping[str, str | None] = field(default_factory=dict)
    """Pods by name and the deletion cost to give them before anything is applied; None takes it away. What cannot be
    written is left."""
    apply: tuple[Manifest, ...] = ()
    """In order; the ownerReference is already in them. One without is a part of an object of others: it is never made,
    and the parent is held by a finalizer before it is written (until `free`). One that is a reference is only written
    over the very version that was observed, so what others put into it meanwhile is never lost."""
    after: tuple[Manifest, ...] = ()
    """What rests on `apply`, such as replicas on the weights of the traffic: applied in order after that, and only
    where nothing of it was refused. Else nothing is deleted either."""
    delete: tuple[Ref, ...] = ()
    """Children and references to delete; the engine adds the uid of the live object as a precondition, and ignores what
    is not ours."""
    status: dict[str, Any] | None = None
    """The whole status that STATUS_MANAGER owns; None leaves it as it is."""
    events: tuple[Event, ...] = ()
    """Emitted after the status was written, and only when writing it changed something."""
    requeue_after: timedelta | None = None
    free: bool = False
    """Whether nothing of ours is left in objects of others once this plan is carried out: the parent may go."""


@dataclass(frozen=True)
class PlanSettings:
    """What the operator's own settings say to planners."""

    server_image: str
    trainer_image: str
    fetch_image: str
    gateway_image: str
    image_pull_policy: str
    image_pull_secrets: tuple[str, ...]
    hub_endpoint: str | None
    progress_url: str
    """Base https URL of the progress receiver, without a slash at the end."""
    progress_ca: str
    """PEM."""


class Planner(Protocol):
    """One a parent kind."""

    def references(self, parent: Mapping[str, Any]) -> tuple[Ref, ...]:
        """What must be looked up before planning: objects the spec names and the parent does not own."""

    def wants_evidence(self, parent: Mapping[str, Any]) -> bool:
        """Whether the gateways, or the pods, are to be asked again and again what they see of this parent's traffic."""

    def asks(self, parent: Mapping[str, Any]) -> Questions | None:
        """What is to be asked of a Prometheus from now on; None: nothing."""

    def plan(self, observed: Observed, settings: PlanSettings, now: datetime) -> Plan:
        """What to do now: a function of its arguments alone."""
