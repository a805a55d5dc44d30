"""ModelDeployment: a model that is served, and stays served.

Owns: the spec and status types. Must not know: how they are reconciled.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from .base import DayLimit, Model, Status, cel, validations
from .cache import Cache, CacheStatus, CacheType
from .conditions import Condition, Conditions
from .dns import DnsStatus
from .engines import Engine, Inference
from .outcomes import Refused
from .pods import Gpu, PodTemplate
from .recovery import RecoveryStatus, Zones, ZoneStatus
from .rollout import Rollout, RolloutRecord, RolloutStatus
from .sources import Digests, ModelSource, SecretKey
from .traffic import Routing, Traffic

_RECORD_RULE = cel(
    "!has(self.source.fineTuneJob) || !has(self.digests) || self.digests.size() == 0",
    "digests are not for source.fineTuneJob, whose record has those of base and result",
    ".digests",
)

_LOCAL_RULE = cel(
    "!has(self.source.pvc) || !has(self.cache) || !has(self.cache.type) || self.cache.type == 'Ephemeral'",
    "cache is for what comes over a network: a model of source.pvc is served from there",
    ".cache",
)


class ServedModel(Model, json_schema_extra=validations(_RECORD_RULE, _LOCAL_RULE)):
    """The model and, optionally, the digests it must have."""

    source: ModelSource
    digests: Digests = Field(
        default_factory=dict, description="File name to SHA-256; a file that differs is refused (ChecksumMismatch)."
    )
    cache: Cache = Field(default_factory=Cache)

    @model_validator(mode="after")
    def _once(self) -> Self:
        if self.source.fine_tune_job and self.digests:
            raise ValueError(_RECORD_RULE["message"])
        if self.source.pvc and self.cache.type is not CacheType.EPHEMERAL:
            raise ValueError(_LOCAL_RULE["message"])
        return self


class Service(Model):
    """The endpoint."""

    port: Annotated[int, Field(ge=1, le=65535, description="Port of the Kubernetes Service.")] = 8080
    workers: Annotated[
        int, Field(ge=1, le=64, description="HTTP worker processes in a pod; the model is loaded once all the same.")
    ] = 4
    api_key_secret_ref: SecretKey | None = Field(
        None, description="Secret whose value holds the accepted API keys, one a line; anyone may call when left out."
    )
    max_queued_requests: Annotated[
        int, Field(ge=0, le=100000, description="Requests that may wait in a pod before it answers 429.")
    ] = 64
    request_timeout: DayLimit = Field("10m", description="Longest time a request may take, at most 24h.")


_STEPS_RULE = cel(
    "!has(self.rollout) || !has(self.rollout.steps) || self.rollout.steps.size() == 0"
    " || !has(self.traffic) || self.traffic != 'Direct'",
    "rollout.steps need traffic: Gateway or HTTPRoute, which split it",
    ".rollout.steps",
)
_NAMED_RULE = cel(
    "(has(self.traffic) && self.traffic == 'HTTPRoute')"
    " == (has(self.routing) && (has(self.routing.gateway) || has(self.routing.httpRoute)))",
    "traffic: HTTPRoute goes together with routing.gateway or routing.httpRoute: the one says how requests are split,"
    " the other by whom",
)
_MIRROR_RULE = cel(
    "!has(self.routing) || !has(self.routing.mirror) || ((!has(self.traffic) || self.traffic == 'Gateway')"
    " && has(self.rollout) && has(self.rollout.steps) && self.rollout.steps.size() > 0)",
    "routing.mirror needs traffic: Gateway, which copies requests, and rollout.steps: the copies are for a canary",
    ".routing.mirror",
)


class ModelDeploymentSpec(Model, json_schema_extra=validations(_STEPS_RULE, _NAMED_RULE, _MIRROR_RULE)):
    """A model, how it runs, and how many replicas serve it."""

    model: ServedModel
    engine: Engine = Field(default_factory=Engine)
    inference: Inference = Field(default_factory=Inference)
    service: Service = Field(default_factory=Service)
    gpu: Gpu | None = None
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    zones: Zones = Field(default_factory=Zones)
    rollout: Rollout = Field(default_factory=Rollout)
    traffic: Traffic = Traffic.GATEWAY
    routing: Routing = Field(default_factory=Routing)
    pod_template: PodTemplate = Field(default_factory=PodTemplate)

    @property
    def wanted(self) -> int:
        """Replicas that are kept: those asked for, and the spare ones."""
        return self.replicas + self.zones.spare if self.replicas else 0

    @model_validator(mode="after")
    def _split(self) -> Self:
        if self.rollout.steps and self.traffic is Traffic.DIRECT:
            raise ValueError(_STEPS_RULE["message"])
        if (self.traffic is Traffic.HTTP_ROUTE) != self.routing.by_route:
            raise ValueError(_NAMED_RULE["message"])
        if self.routing.mirror and not (self.traffic is Traffic.GATEWAY and self.rollout.steps):
            raise ValueError(_MIRROR_RULE["message"])
        return self


class ModelInfo(Status):
    """The model that is served, as it was resolved."""

    source: str | None = None
    engine: str | None = None
    revision: str | None = None
    digests: dict[str, str] = Field(default_factory=dict)


class Failure(Status):
    """The last failure of a container, kept until the next success."""

    location: str
    reason: str
    message: str
    exit_code: int | None = None
    time: str | None = None


class ModelDeploymentStatus(Status):
    """What is true of a ModelDeployment; written by the operator alone."""

    observed_generation: int | None = None
    conditions: Conditions = Field(default_factory=list)
    ready: Annotated[str | None, Field(description="Ready replicas of those asked for, such as 1/2.")] = None
    url: str | None = None
    model: ModelInfo | None = None
    cache: Annotated[CacheStatus | None, Field(description="Where the model waits for replicas to come.")] = None
    replicas: int | None = None
    ready_replicas: int | None = None
    updated_replicas: int | None = None
    available_replicas: int | None = None
    selector: str | None = None
    current_revision: str | None = None
    update_revision: str | None = None
    revisions: Annotated[list[str] | None, Field(description="Revisions kept for rollbackTo, oldest first.")] = None
    rollout: RolloutStatus | None = None
    rollouts: Annotated[list[RolloutRecord] | None, Field(description="Canaries that are over, newest first.")] = None
    spares_lent: Annotated[
        str | None, Field(description="Since when spare replicas make room for the rollout under way.")
    ] = None
    zones: Annotated[list[ZoneStatus] | None, Field(description="Every zone, once one has failed.")] = None
    recovery: RecoveryStatus | None = None
    feedback_refused: Annotated[
        Refused | None, Field(description="The last time within a day that outcomes were refused: a flood of them.")
    ] = None
    http_route: Annotated[
        str | None, Field(description="The HTTPRoute that has weights of ours, or is to have them.")
    ] = None
    dns: DnsStatus | None = None
    last_action: str | None = None
    actions: Annotated[
        list[str] | None, Field(description="Ids of rollout.action that have been heard, newest first: the last ten.")
    ] = None
    last_failure: Failure | None = None
    effective: Annotated[
        dict[str, Any] | None, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
    ] = None


__all__ = ["Condition", "ModelDeploymentSpec", "ModelDeploymentStatus"]
