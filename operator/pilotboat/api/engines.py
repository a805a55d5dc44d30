"""What runs a model, and how: the part of a ModelDeployment that its pods read as well.

Owns: engines and inference. Must not know: rollouts, traffic, or anything else that a pod has nothing to do with, so
that a server starts without it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic.alias_generators import to_camel

from .base import Image, Model, cel, validations


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


_DEFAULTS = {"temperature": 0.7, "top_p": 0.9}


class SamplingDefaults(Model):
    """Used where a request does not say."""

    temperature: Annotated[float, Field(ge=0, le=2)] = _DEFAULTS["temperature"]
    top_p: Annotated[float, Field(gt=0, le=1)] = _DEFAULTS["top_p"]


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


def _within_rule(field: str, default: float) -> dict[str, str]:
    limit, said = f"self.limits.{field}", f"has(self.defaults) && has(self.defaults.{field})"
    value = f"({said} ? self.defaults.{field} : {default})"
    return cel(
        f"!has(self.limits) || !has({limit}) || ({limit}.min <= {value} && {value} <= {limit}.max)",
        f"defaults.{field} must be within limits.{field}, or every request that leaves it out would be refused",
        f".limits.{field}",
    )


_WITHIN_RULES = {field: _within_rule(to_camel(field), default) for field, default in _DEFAULTS.items()}


class Inference(Model, json_schema_extra=validations(*_WITHIN_RULES.values())):
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

    @model_validator(mode="after")
    def _within(self) -> Self:
        for field, rule in _WITHIN_RULES.items():
            limit: Range | None = getattr(self.limits, field)
            if limit and not limit.min <= getattr(self.defaults, field) <= limit.max:
                raise ValueError(rule["message"])
        return self
