"""What passes between the operator and a namespace's gateway: routes one way, evidence the other.

Owns: Route (a ConfigMap of each ModelDeployment, read by every gateway's agent) and Evidence (what an agent answers).
Must not know: how traffic is split (images/gateway), when weights change or what evidence means (plan).
"""

from __future__ import annotations

from itertools import takewhile
from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from .base import ConfigFile, Duration, Model, Status
from .traffic import HeaderValue, HttpToken, Sticky

ROUTE = "route.json"
"""Key in the ConfigMap `<name>-route`, which bears the label COMPONENT=gateway."""

WHOLE = 1000
"""Shares are per mille: of any 1,000 requests in a row a lane gets exactly its share."""

MAX_LANES = 4
"""Stable, canary, and up to two revisions that only end their streams."""

PORTS = range(20000, 30000)
"""Ports of the gateway, one a ModelDeployment."""

AGENT_PORT = 9180
"""Port of the agent's HTTP: /readyz, /metrics, /unreached, /evidence/NAME."""

SERVER_PORT = 8080
"""Port of a server in its pod, and of each revision's own Service; `service.port` is that of the one callers know."""

LOAD_PORT = 8090
"""Port of a server's pod on which it tells its load and drain, in HAProxy's agent-check protocol."""

RevisionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
DeploymentName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]

FIRST_STEP_MS, GROWTH, LAST_MS = 1.0, 1.15, 600_000.0
BOUNDS = tuple(
    takewhile(lambda bound: bound <= LAST_MS * GROWTH, (round(FIRST_STEP_MS * GROWTH**k, 3) for k in range(200)))
)
"""Upper bounds of every latency histogram, in milliseconds: 15 % apart, from 1 ms to ten minutes."""


POD_MINUTES = 20_000
"""Minutes of pods that one answer has of a deployment, and that are kept of one gateway: the newest, some 3 MB."""


def authority(address: str, port: int) -> str:
    """Address and port as a URL has them: an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class _Told(Model):
    """A part of a route. Of a newer operator's words a gateway takes those it knows: to refuse the rest would keep
    shares as they are until the last gateway is replaced, also those of a canary that is given up."""

    model_config = ConfigDict(extra="ignore")


class Lane(_Told):
    """One revision's share of the traffic; its endpoints are the EndpointSlices of `service`."""

    revision: RevisionName
    service: str
    share: Annotated[int, Field(ge=0, le=WHOLE)]


class Testers(_Told):
    """Requests with this header and value go to `revision`, whatever its share."""

    header: HttpToken
    value: HeaderValue
    revision: RevisionName | None = None
    """None: there is no canary now. The rest stays, so that a canary's beginning and end take no reload."""


class Copies(_Told):
    """Requests that other revisions answer are copied to `revision`, whose answers are thrown away."""

    percent: Annotated[int, Field(ge=1, le=100)]
    revision: RevisionName | None = None
    """None: nobody is to have copies now; as for Testers."""
    room: Annotated[int, Field(ge=0)] = 0
    """Requests a replica of `revision` has at most, on average and the copy included, for a copy to be let in."""


class Route(ConfigFile, _Told):
    """How the traffic of one ModelDeployment is split. Lanes stand in order: a sticky caller's hash meets them so."""

    deployment: DeploymentName
    port: Annotated[int, Field(ge=1, le=65535)]
    lanes: Annotated[list[Lane], Field(max_length=MAX_LANES)]
    sticky: Sticky | None = None
    testers: Testers | None = None
    copies: Copies | None = None
    request_timeout: Duration = "10m"
    max_queued: Annotated[int, Field(ge=0)] = 64
    """Requests that may wait in one gateway, over all lanes, before it answers 429."""
    server_limit: Annotated[int, Field(ge=1)] = 68
    """Requests one gateway gives one replica at a time: what the replica itself takes on (running and queued)."""
    zones: Annotated[dict[str, Annotated[int, Field(ge=0, le=99)]], Field(max_length=64)] = Field(default_factory=dict)
    """Zones whose replicas get less than their share, in per cent of it; 0: nothing new."""
    slow_start: Duration = "10s"
    """Time in which a replica that has become ready gets to its full weight."""
    agent_port: Annotated[int, Field(ge=1, le=65535)] = LOAD_PORT
    """Where replicas tell their load and drain; a replica that does not is judged by its probes alone."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.lanes and sum(lane.share for lane in self.lanes) != WHOLE:
            raise ValueError(f"lanes: the shares must add up to {WHOLE}")
        return self


class Minute(Status):
    """What was seen in one minute of a revision that was asked (POST); a request counts in the minute it ended.

    A histogram maps an index into BOUNDS (as text; len(BOUNDS) is beyond the last) to a count.
    """

    start: int
    """Unix time of the minute's beginning."""
    requests: int = 0
    errors: int = 0
    """Answers of 500 to 599, and those cut off, but not by the caller. What was answered 400 to 499 is no request."""
    first_token: dict[str, int] = Field(default_factory=dict)
    """Milliseconds from a request that is all at the gateway to its answer's header, of those that had one."""
    given_up: dict[str, int] = Field(default_factory=dict)
    """Likewise, until the caller went who had none."""


class PodMinute(Status):
    """Time per output token as one pod's own metrics tell it; every gateway tells the same of the same pod."""

    pod: str
    revision: str
    start: int
    per_token: dict[str, int] = Field(default_factory=dict)


class Sighting(Status):
    """What a gateway's probes say of one replica."""

    up: bool
    since: float
    """Unix time of the last change."""
    canned: str | None = None
    """Where its zone gets nothing: why its canned inference failed, empty where it did not; None: none was made."""


class Unreached(Status):
    """Answer to GET /unreached?of=NAME,NAME."""

    pods: list[str] = Field(default_factory=list)
    """Replicas of any deployment that this gateway's probes do not reach, a second ago."""
    unseated: list[str] = Field(default_factory=list)
    """Of those that were asked about, those to which it does not send requests yet."""
    warmed: dict[str, float] = Field(default_factory=dict)
    """Of those that were asked about, seconds for which they warmed up at their start, where they say so."""
    flooded: Annotated[dict[DeploymentName, Annotated[int, Field(ge=1)]], Field(max_length=len(PORTS))] = Field(
        default_factory=dict
    )
    """By deployment: posts of feedback that were refused in the last minute, where any was."""


class Evidence(Status):
    """Answer to GET /evidence/NAME: what this gateway has seen since it began, at most the last day."""

    gateway: str
    """A name that is new with each start of the agent."""
    now: float = Field(allow_inf_nan=False)
    began: float = 0
    """When the agent started, by the same clock; 0: not told."""
    minutes: dict[str, list[Minute]] = Field(default_factory=dict)
    """By revision, in order of time; minutes without a request are left out."""
    pods: list[PodMinute] = Field(default_factory=list)
    """The newest, where there are very many."""
    open_streams: dict[str, int] = Field(default_factory=dict)
    """Requests now under way, by revision."""
    replicas: dict[str, Sighting] = Field(default_factory=dict)
    """By pod: whether it is reached."""
    left: dict[str, float] = Field(default_factory=dict)
    """By pod that has no place here any more: Unix time at which it lost it. The latest of them."""
    feedback: dict[str, dict[str, int]] = Field(default_factory=dict)
    """By revision: outcome to how often applications posted it."""
