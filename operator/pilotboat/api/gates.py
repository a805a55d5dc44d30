"""What a canary is judged by, before it has users and while it has some: spec.rollout.analysis.

Owns: the bounds a user sets. Must not know: how evidence is weighed (plan/canary), who measures (plan/gates.py).
"""

from __future__ import annotations

from math import ceil, floor
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic.alias_generators import to_camel

from .analysis import MAX_QUERIES, Metric
from .base import Duration, Model, cel, seconds, validations
from .probing import (
    FEW_REFERENCES,
    GENERAL_PROMPTS,
    MAX_LOAD_REQUESTS,
    MAX_PROMPTS,
    MAX_REFERENCES,
    Prompt,
    Reference,
)
from .prometheus import Prometheus, QueryName

MAX_SAMPLES = 1000000


class ErrorGate(Model):
    """Answers of 500 and above, and those cut off."""

    enabled: bool = True


class LatencyGate(Model):
    """Requests slower than a limit, counted as errors are."""

    enabled: bool = True
    slo_milliseconds: Annotated[
        int | None,
        Field(ge=1, le=600000, description="Left out: what nine of ten requests of the stable revision keep."),
    ] = None


class PerplexityGate(Model):
    """Answers that are given: how likely the canary holds them, beside how likely stable does."""

    max_increase_percent: Annotated[
        float, Field(gt=0, le=1000, description="By how much its perplexity may be higher than stable's.")
    ] = 5
    references: Annotated[
        list[Reference] | None,
        Field(
            min_length=FEW_REFERENCES,
            max_length=MAX_REFERENCES,
            description="None: twenty general ones; the more, the surer.",
        ),
    ] = None


_COMPARES = ("maxTokens", "prompts")
"""What only answers that are compared need."""


def _compared(field: str) -> str:
    return f"{field} is for answers that are compared: give minEqual as well, or leave out perplexity"


def _of_answers(field: str) -> dict[str, str]:
    return cel(f"!has(self.perplexity) || has(self.minEqual) || !has(self.{field})", _compared(field), f".{field}")


_EQUAL = 0.8
_UNSURE = 2.706
"""Square of the normal's quantile for 95 %, rounded up: n equal answers of n surely show a share of n / (n + this)."""
_UNREACHABLE = (
    f"minEqual must be at most n / (n + {_UNSURE}), which is what n equal answers to n prompts surely show "
    f"({GENERAL_PROMPTS} where none are given): give more prompts, or a lower minEqual"
)


def _reachable() -> dict[str, str]:
    of = f"(has(self.prompts) && size(self.prompts) > 0 ? double(size(self.prompts)) : {GENERAL_PROMPTS}.0)"
    asked = f"(has(self.minEqual) ? self.minEqual : has(self.perplexity) ? 0.0 : {_EQUAL})"
    return cel(f"{asked} * ({of} + {_UNSURE}) <= {of}", _UNREACHABLE, ".minEqual")


def _shown(prompts: int) -> float:
    """The highest share of equal answers that so many can show, rounded down."""
    return floor(1000 * prompts / (prompts + _UNSURE)) / 1000


class QualityGate(Model, json_schema_extra=validations(*map(_of_answers, _COMPARES), _reachable())):
    """Before it has users, the canary answers a fixed set of prompts greedily; so does stable, twice.

    Or, and as well, both say how likely they hold answers that are given.
    """

    min_equal: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="Share of answers that must equal stable's, of those stable itself repeats. "
            "Left out: 0.8, or with perplexity none.",
        ),
    ] = None
    max_tokens: Annotated[int, Field(ge=1, le=512, description="Length of an answer.")] = 64
    prompts: Annotated[
        list[Prompt], Field(max_length=MAX_PROMPTS, description="None: twenty general ones; the more, the surer.")
    ] = Field(default_factory=list)
    perplexity: PerplexityGate | None = Field(None, description="Judge by given answers, alone or as well.")

    @property
    def equal(self) -> float | None:
        """The share that is asked for; None where answers are not compared."""
        return _EQUAL if self.min_equal is None and self.perplexity is None else self.min_equal

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        for name in sorted(self.model_fields_set) if self.perplexity and self.min_equal is None else ():
            if to_camel(name) in _COMPARES:
                raise ValueError(_compared(to_camel(name)))
        return self

    @model_validator(mode="after")
    def _reached(self) -> Self:
        of, asked = len(self.prompts) or GENERAL_PROMPTS, self.equal
        if asked is not None and asked * (of + _UNSURE) > of:
            needed = ceil(asked * _UNSURE / (1 - asked)) if asked < 1 else MAX_PROMPTS + 1
            enough = f"n = {needed} would do" if needed <= MAX_PROMPTS else f"n = {MAX_PROMPTS} {_shown(MAX_PROMPTS):g}"
            raise ValueError(f"{_UNREACHABLE}; n = {of} shows {_shown(of):g}, {enough}")
        return self


class LoadGate(Model):
    """Before it has users, the canary bears a simulated load."""

    qps: Annotated[float, Field(gt=0, le=200, description="Requests a second, at random times.")]
    duration: Duration = Field("1m", description="At most ten minutes, and long enough for 100 requests.")
    prompt_tokens: Annotated[int, Field(ge=1, le=100000, description="Length of each prompt.")] = 128
    max_tokens: Annotated[int, Field(ge=1, le=512, description="Length of an answer.")] = 64
    max_first_token_milliseconds: Annotated[
        int, Field(ge=1, le=600000, description="What 95 of 100 requests must keep.")
    ]
    max_errors_percent: Annotated[float, Field(ge=0, le=100, description="Requests that may fail.")] = 1

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if not 1 <= seconds(self.duration) <= 600 or self.qps * seconds(self.duration) < 100:
            raise ValueError("duration: at most 10m, and long enough for 100 requests at this qps")
        if self.qps * seconds(self.duration) > MAX_LOAD_REQUESTS:
            raise ValueError(f"duration: at most {MAX_LOAD_REQUESTS} requests at this qps")
        return self


class SyntheticProbes(Model):
    """While too few users' requests come to decide, requests of our own go to both revisions."""

    per_minute: Annotated[int, Field(ge=1, le=600, description="Requests a minute to each of the two.")] = 30


class Analysis(Model):
    """What a canary is judged by, against the stable revision at the same time."""

    min_samples: Annotated[int, Field(ge=1, le=MAX_SAMPLES, description="Canary requests before it is promoted.")] = 50
    warmup: Annotated[int, Field(ge=0, le=10000, description="First canary requests that are not judged.")] = 0
    errors: ErrorGate = Field(default_factory=ErrorGate)
    first_token: LatencyGate = Field(default_factory=LatencyGate)
    per_token: LatencyGate = Field(default_factory=LatencyGate)
    quality: QualityGate | None = Field(None, description="Compare answers before the canary has users.")
    load: LoadGate | None = Field(None, description="Try a load before the canary has users.")
    probes: SyntheticProbes | None = Field(None, description="Requests of our own while users send too few.")
    prometheus: Prometheus | None = Field(None, description="Queries of your own: they hold or give up, never promote.")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those that are not switched off."""
        gates = (
            (Metric.ERRORS, self.errors.enabled),
            (Metric.FIRST_TOKEN, self.first_token.enabled),
            (Metric.PER_TOKEN, self.per_token.enabled),
        )
        return tuple(metric for metric, enabled in gates if enabled)


class StepAnalysis(Model):
    """What must be known of the canary before the step ends. What fails is given up whatever is asked here."""

    min_samples: Annotated[
        int | None,
        Field(ge=1, le=MAX_SAMPLES, description="Canary requests at this weight before the next step."),
    ] = None
    proven: Annotated[
        bool, Field(description="Wait until it is shown to be as good as stable, as the last step always does.")
    ] = False
    queries: Annotated[
        list[QueryName] | None,
        Field(
            max_length=MAX_QUERIES,
            description="Names of analysis.prometheus.queries that must keep their bounds. Left out: all of them.",
        ),
    ] = None

    @property
    def weighs(self) -> bool:
        """Whether it asks for what only users' requests can show."""
        return self.proven or self.min_samples is not None
