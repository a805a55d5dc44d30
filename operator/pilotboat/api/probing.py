"""What passes between the operator and a probe: its work one way, what it measured the other.

Owns: ProbeConfig (`probe.json`) and ProbeResult (`result` of its TerminationReport). Must not know: how anything is
measured (images/gateway/pilotboat_probe), what a figure means for a rollout (plan).
"""

from __future__ import annotations

import json
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from .base import ConfigFile, Duration, Model, Status, Url, seconds
from .routing import Minute

MAX_PROMPTS, MAX_PROMPT = 100, 2000
GENERAL_PROMPTS = 20
"""That the probe has itself, where a config gives none."""
MAX_PROMPT_BYTES = 500_000
"""All prompts as JSON: a ConfigMap holds 1 MiB."""

MAX_LOAD_REQUESTS = 60_000
"""Requests of one load: each leaves two figures in memory until the end."""

MAX_REQUEST_SECONDS = 600
MAX_ANSWER_TOKENS = 512

FEW_REFERENCES, MAX_REFERENCES = 6, 100
"""Fewer say too little; of more the differences would not fit a report."""


def _within(low: int, high: int) -> AfterValidator:
    def check(duration: str) -> str:
        if not low <= seconds(duration) <= high:
            raise ValueError(f"must be between {low}s and {high}s")
        return duration

    return AfterValidator(check)


Prompt = Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT)]
AnswerTokens = Annotated[int, Field(ge=1, le=MAX_ANSWER_TOKENS)]
Open = Annotated[int, Field(ge=1, le=256)]
"""Requests under way at once."""


class Endpoint(Model):
    """A revision, and the base URL of its own Service."""

    revision: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    url: Url


class QualityWork(Model):
    """Greedy answers of both versions to each prompt; stable answers twice: so far it agrees with itself."""

    max_tokens: AnswerTokens = 64
    concurrency: Annotated[int, Field(ge=1, le=16)] = 2
    """Prompts worked on at once."""


class Reference(Model):
    """A prompt, and an answer to it that is right."""

    prompt: Annotated[Prompt, Field(description="What is asked.")]
    answer: Annotated[Prompt, Field(description="What a good model would say.")]


class PerplexityWork(Model):
    """How likely both versions hold given answers. Without references the probe has general ones."""

    references: Annotated[list[Reference], Field(max_length=MAX_REFERENCES)] = Field(default_factory=list)
    concurrency: Annotated[int, Field(ge=1, le=16)] = 2
    """References worked on at once."""


class LoadWork(Model):
    """Streamed requests to the canary alone, at times drawn beforehand (Poisson), whether or not it answers."""

    rate: Annotated[float, Field(gt=0, le=200)]
    """Requests a second: each takes a local port, of which one address has some four hundred a second."""
    duration: Annotated[Duration, _within(1, 600)] = "1m"
    concurrency: Open = 64
    """More are not sent, and counted."""
    prompt_tokens: Annotated[list[Annotated[int, Field(ge=1, le=100_000)]], Field(min_length=1, max_length=16)] = Field(
        default_factory=lambda: [128]
    )
    """Lengths of prompts, drawn evenly."""
    max_tokens: AnswerTokens = 64
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.rate * seconds(self.duration) > MAX_LOAD_REQUESTS:
            raise ValueError(f"rate times duration must not be above {MAX_LOAD_REQUESTS} requests")
        return self


class TrafficWork(Model):
    """Streamed requests to stable and canary in turn, the same prompts, where users send too few."""

    per_minute: Annotated[int, Field(ge=1, le=600)] = 10
    """Requests a minute to each of the two."""
    duration: Annotated[Duration, _within(1, 1800)] = "5m"
    concurrency: Open = 64
    max_tokens: AnswerTokens = 32


class ProbeConfig(ConfigFile):
    """`probe.json`. The API key is the first line of the variable PILOTBOAT_API_KEYS, where it is set.

    Work is done in the order of its fields. Without prompts of its own the probe has a set of general ones.
    """

    model: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """What requests call the model."""
    canary: Endpoint
    stable: Endpoint | None = None
    prompts: Annotated[list[Prompt], Field(max_length=MAX_PROMPTS)] = Field(default_factory=list)
    request_timeout: Annotated[Duration, _within(1, MAX_REQUEST_SECONDS)] = "1m"
    connect_timeout: Annotated[Duration, _within(1, 600)] = "30s"
    """For how long a Service that does not answer is tried before the work begins."""
    quality: QualityWork | None = None
    perplexity: PerplexityWork | None = None
    load_test: LoadWork | None = None
    traffic: TrafficWork | None = None

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if not (self.quality or self.perplexity or self.load_test or self.traffic):
            raise ValueError("give at least one of quality, perplexity, loadTest and traffic")
        if self.stable is None and (self.quality or self.perplexity or self.traffic):
            raise ValueError("stable: quality, perplexity and traffic compare with it")
        if self.stable and self.stable.revision == self.canary.revision:
            raise ValueError("stable: must be another revision than canary")
        references = self.perplexity.references if self.perplexity else []
        size = len(json.dumps(self.prompts)) + len(json.dumps([each.wire() for each in references]))
        if size > MAX_PROMPT_BYTES:
            told = "prompts and perplexity.references" if references else "prompts"
            raise ValueError(f"{told}: all together must not be above {MAX_PROMPT_BYTES} bytes of JSON")
        return self


class Agreement(Status):
    """How alike two runs over the same prompts are. Means are over the prompts that both answered."""

    answered: int = 0
    """Prompts that both answered: what the rest is of."""
    unanswered: int = 0
    """Prompts that the first answered and the second did not."""
    exact: int = 0
    """Answers that are the same to the last character."""
    prefix: float = 0.0
    """Mean of the common beginning as a part of the longer answer, in tokens: 1 where all are the same."""
    similarity: float = 0.0
    """Mean of difflib's ratio over tokens: what comes back in step after a difference counts too."""
    log_likelihood: float | None = None
    """Mean over the tokens of the common beginnings of the second's log-probability minus the first's (nats).

    Both scored the same token after the same text. None where either offers none.
    """
    compared_tokens: int = 0
    """Tokens that mean is over."""


class Difference(Status):
    """A prompt to which the answers differ, cut to where they do."""

    prompt: str
    stable: str
    canary: str


class QualityResult(Status):
    """Stable against canary, and stable against itself: the noise that the first must be judged against."""

    prompts: int
    canary: Agreement
    itself: Agreement
    stable_failed: int = 0
    """Prompts that stable did not answer, in either run."""
    canary_failed: int = 0
    examples: Annotated[list[Difference], Field(max_length=3)] = Field(default_factory=list)


class PerplexityResult(Status):
    """Of the references of which both versions told how likely they hold them."""

    references: int
    """All that were asked for."""
    stable: float | None = None
    """Perplexity a token, over all tokens."""
    canary: float | None = None
    gaps: Annotated[list[float], Field(max_length=MAX_REFERENCES)] = Field(default_factory=list)
    """By how much less likely the canary holds each, in nats a token of stable's."""
    canary_failed: int = 0
    """Of these, at how many its engine failed: it counts as holding them impossible."""
    worst: str = ""
    """The prompt of the largest of them."""


class Quantiles(Status):
    """Milliseconds, and of how many requests."""

    count: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class LoadResult(Status):
    """What a load met. Whether it was the one asked for, plan/gates.py judges by what was held back and how much
    was sent a second."""

    planned: int
    sent: int
    held_back: int = 0
    """Not sent, because as many as may were under way."""
    ok: int = 0
    errors: dict[str, int] = Field(default_factory=dict)
    """By HTTP status, or `unreachable`, `timeout`, `cut` (ended early) and `invalid` (not as OpenAI's API answers)."""
    first_token: Quantiles = Field(default_factory=Quantiles)
    """From when the request was due: waiting for a late generator counts."""
    per_token: Quantiles = Field(default_factory=Quantiles)
    """Each request's mean time a token, after its first."""
    prompt_tokens: float | None = None
    """Mean length of the prompts as the server counted them."""
    asked_qps: float
    achieved_qps: float
    """Requests sent, over the time of sending."""
    late: int = 0
    """Requests sent more than a tenth of a second after they were due."""
    kept_up: bool
    """Whether at most one request in a hundred was late or held back."""


class ProbeMinute(Minute):
    """What the probe saw of one revision in one minute."""

    per_token: dict[str, int] = Field(default_factory=dict)
    """Each request's mean time a token after its first, over BOUNDS as `first_token` is."""


class TrafficResult(Status):
    """Counts by minute. So that they fit a report, neighbouring minutes may be counted as one, buckets as the upper."""

    stable: list[ProbeMinute] = Field(default_factory=list)
    canary: list[ProbeMinute] = Field(default_factory=list)
    minutes_each: int = 1
    """Minutes that one entry counts, in both lists alike: strata stay the same."""
    buckets_each: int = 1
    """Buckets that were counted as the upper one of them: latencies are never told as less than they were."""
    held_back: int = 0
    """Requests not sent, because as many as may were under way."""


class ProbeResult(Status):
    """`result` of the probe's TerminationReport: one field for each work that was asked for."""

    canary: str
    """Revision."""
    stable: str | None = None
    quality: QualityResult | None = None
    perplexity: PerplexityResult | None = None
    load_test: LoadResult | None = None
    traffic: TrafficResult | None = None
