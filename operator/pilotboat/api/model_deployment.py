"""ModelDeployment: a model that is served, and stays served.

Owns: the spec and status types. Must not know: how they are reconciled.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from .base import Duration, Image, Model, Status, cel, validations
from .conditions import Condition, Conditions
from .dns import DnsStatus
from .pods import Gpu, PodTemplate
from .recovery import RecoveryStatus, Zones, ZoneStatus
from .rollout import Rollout, RolloutRecord, RolloutStatus
from .sources import Digests, ModelSource, SecretKey
from .traffic import Routing, Traffic


class EngineType(StrEnum):
    """What runs the model. Auto takes LlamaCpp for GGUF files and Transformers for safetensors."""

    AUTO = "Auto"
    TRANSFORMERS = "Transformers"
    LLAMA_CPP = "LlamaCpp"
    FAKE = "Fake"


class Device(StrEnum):
    """Where the model runs; auto takes a GPU when the pod has one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """Number format of weights (Transformers) or of the KV cache (LlamaCpp, whose weights keep their quantisation)."""

    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


class ServedModel(Model):
    """The model and, optionally, the digests it must have."""

    source: ModelSource
    digests: Digests = Field(
        default_factory=dict, description="File name to SHA-256; a file that differs is refused (ChecksumMismatch)."
    )


Share = Annotated[float, Field(ge=0, le=1)]
Pause = Annotated[float, Field(ge=0, le=3600)]
_SHARES_RULE = cel(
    "(has(self.failRatio) ? self.failRatio : 0.0) + (has(self.hangRatio) ? self.hangRatio : 0.0) <= 1.0",
    "failRatio and hangRatio together must not be above 1",
)


class FakeBehaviour(Model, json_schema_extra=validations(_SHARES_RULE)):
    """How the fake engine behaves, good or bad. What a prompt's own directives say comes first."""

    tokens: Annotated[int | None, Field(ge=1, le=1048576, description="Tokens of an answer; 16 when left out.")] = None
    first: Annotated[Pause | None, Field(description="Seconds before the first token.")] = None
    delay: Annotated[Pause | None, Field(description="Seconds before each token.")] = None
    jitter: Annotated[
        float | None,
        Field(ge=0, le=3, description="Spread of both times: the sigma of a lognormal factor with median 1."),
    ] = None
    fail_ratio: Annotated[
        Share | None, Field(description="Share of requests that get a 500 before their first token, evenly spread.")
    ] = None
    hang_ratio: Annotated[Share | None, Field(description="Share of requests that never get a token.")] = None
    text: Annotated[
        str | None,
        Field(min_length=1, max_length=4096, pattern=r"[!-~]", description="Words of the answers, instead of its own."),
    ] = None
    exit_after: Annotated[
        int | None,
        Field(ge=0, le=1000000000, description="The process dies as it begins the request after so many; 0: at once."),
    ] = None

    @model_validator(mode="after")
    def _one_fate(self) -> Self:
        if (self.fail_ratio or 0) + (self.hang_ratio or 0) > 1:
            raise ValueError(_SHARES_RULE["message"])
        return self


_FAKE_RULE = cel(
    "!has(self.fake) || (has(self.type) && self.type == 'Fake')", "fake is only for type Fake: no other engine obeys it"
)


class Engine(Model, json_schema_extra=validations(_FAKE_RULE)):
    """What runs the model."""

    type: EngineType = Field(
        EngineType.AUTO,
        description="Auto: LlamaCpp for GGUF, Transformers for safetensors. Fake: fixed text, for rehearsals.",
    )
    image: Image | None = Field(None, description="Server image instead of the operator's.")
    fake: FakeBehaviour | None = Field(None, description="For type Fake: how slow, wrong or dead it is.")

    @model_validator(mode="after")
    def _only_fake(self) -> Self:
        if self.fake is not None and self.type is not EngineType.FAKE:
            raise ValueError(_FAKE_RULE["message"])
        return self


class SamplingDefaults(Model):
    """Used where a request does not say."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9


_ORDER_RULE = cel("self.min <= self.max", "min must not be above max")


class Range(Model, json_schema_extra=validations(_ORDER_RULE)):
    """An inclusive range that requests must stay in; outside it they get a 400 that names the field."""

    min: float
    max: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(_ORDER_RULE["message"])
        return self


class SamplingLimits(Model):
    """Ranges requests must stay in; none unless set."""

    temperature: Range | None = None
    top_p: Range | None = None


class Inference(Model):
    """How the model runs."""

    device: Device = Device.AUTO
    precision: Precision = Precision.BF16
    batch_size: Annotated[int, Field(ge=1, le=1024, description="Sequences decoded together.")] = 4
    gpu_memory_fraction: Annotated[float, Field(gt=0, le=1, description="Share of each GPU's memory.")] = 0.8
    cpu_threads: Annotated[
        int | None, Field(ge=1, le=1024, description="Left out: the physical cores within the CPU limit.")
    ] = None
    max_length: Annotated[
        int,
        Field(
            ge=16,
            le=1048576,
            description="Tokens of prompt and answer together. Left out: 2048, or the model's own where that is less.",
        ),
    ] = 2048
    defaults: SamplingDefaults = Field(default_factory=SamplingDefaults)
    limits: SamplingLimits = Field(default_factory=SamplingLimits)


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
    request_timeout: Duration = Field("10m", description="Longest time a request may take.")


_STEPS_RULE = cel(
    "!has(self.rollout) || !has(self.rollout.steps) || self.rollout.steps.size() == 0"
    " || !has(self.traffic) || self.traffic != 'Direct'",
    "rollout.steps need traffic: Gateway or HTTPRoute, which split it",
    ".rollout.steps",
)
_NAMED_RULE = cel(
    "(has(self.traffic) && self.traffic == 'HTTPRoute') == (has(self.routing) && has(self.routing.gateway))",
    "traffic: HTTPRoute and routing.gateway go together: the one says how requests are split, the other by whom",
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
        if (self.traffic is Traffic.HTTP_ROUTE) != (self.routing.gateway is not None):
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
    http_route: Annotated[str | None, Field(description="The HTTPRoute that has weights of ours.")] = None
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
