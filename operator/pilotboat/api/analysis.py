"""What a canary's judgement remembers and what it says: parts of a ModelDeployment's status.

Owns: AnalysisState (enough to go on after any restart, and no more) and Decision (the record of one look).
Must not know: how evidence is weighed (plan/canary), when a rollout moves on (plan).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .base import Status, Time

PERIOD = 60
"""Seconds of the stratum in which canary and stable are compared."""


MAX_QUERIES = 10
"""Queries of the user's own in one judgement."""


class Metric(StrEnum):
    """What is compared: each is a share of requests (or tokens) that were not good enough."""

    ERRORS = "errors"
    FIRST_TOKEN = "firstToken"
    PER_TOKEN = "perToken"


class Verdict(StrEnum):
    """What a look at the evidence says."""

    ABORT = "Abort"
    PROMOTE = "Promote"
    HOLD = "Hold"
    CONTINUE = "Continue"
    """Nothing speaks against the next step."""


class Why(StrEnum):
    """The cause of a verdict, of the whole or of one metric."""

    WORSE = "Worse"
    """The canary is worse than stable in the same minutes."""
    FAILING = "Failing"
    """Half of its latest requests failed: the hard stop outside the statistics."""
    AS_GOOD = "AsGood"
    UNDECIDED = "Undecided"
    TOO_FEW_REQUESTS = "TooFewRequests"
    NO_DATA = "NoData"
    """Gateways answer, and the canary has had no request, or none that counts."""
    STALE_DATA = "StaleData"
    """No gateway has answered for a while."""
    METRIC_MISSING = "MetricMissing"
    """The canary had requests enough, and nothing was measured of this metric."""
    UNJUDGED = "Unjudged"
    """No bound was given, and stable has too little data to take one from."""
    MORE_TO_COME = "MoreToCome"
    """This step does not ask for the proof; the last one does."""
    WITHIN_BOUND = "WithinBound"
    """A query of the user's own keeps its bound: that alone promotes nothing."""
    BEYOND_BOUND = "BeyondBound"
    NO_ANSWER = "NoAnswer"
    """A query gave nothing to hold against its bound: no series, no number, an old answer, or no answer at all."""
    NOT_PERMITTED = "NotPermitted"
    """A query could not be asked, for we may not read the Secret with its token."""


class Pool(Status):
    """Minutes that are compared as one, because each has few requests; empty where none are waiting."""

    minutes: int = 0
    bad: int = 0
    """Minutes in which any of the canary's went wrong."""
    canary: int = 0
    canary_over: int = 0
    stable: int = 0
    stable_over: int = 0


class MetricState(Status):
    """All that a metric's two statistics need of the minutes absorbed so far."""

    canary: int = 0
    canary_over: int = 0
    """Of those, failed or slower than the bound."""
    stable: int = 0
    """In the minutes with which the canary is compared."""
    stable_over: int = 0
    promote: int = 0
    """The canary's since the count towards promotion last began."""
    promote_over: int = 0
    asked: int = 0
    """What `promote` was when promotion was first asked for; 0 before."""
    silent: int = 0
    """Canary requests since the metric was last measured."""
    minutes: int = 0
    """That were compared: those of a pool are one."""
    pool: Pool = Field(default_factory=Pool)
    stakes: Annotated[list[float], Field(max_length=16)] = Field(default_factory=list)
    """For each rate ratio of the mixture, what its bet has grown to."""
    long: int = 0
    """Stable's in every minute known, those before the rollout too."""
    long_over: int = 0
    long_jumps: int = 0
    long_scatter: float = 0
    """Sum over those pairs of minutes in a row of how far stable's rate jumped: it gives the design effect."""
    last: int = 0
    """Stable's in the last minute it had any."""
    last_over: int = 0


class Latest(Status):
    """One minute of the canary's latest requests, with stable's of the same minute, for the hard stop."""

    requests: int
    errors: int
    stable: int = 0
    stable_errors: int = 0


class AnalysisState(Status):
    """Sufficient statistics of a rollout's evidence. Empty it is the state of a rollout that has just begun."""

    cursor: int = 0
    """Unix time at which the last absorbed minute began."""
    weight: int = 0
    """The canary's share at the last look, in percent: minutes of different shares are not pooled."""
    first_token_bound: float | None = None
    """Milliseconds, one of BOUNDS; fixed once known."""
    per_token_bound: float | None = None
    warmed: int = 0
    """The canary's requests that were left out for warming up."""
    heard: int = 0
    """The canary's since the weight of this step was reached, of those that are judged: whole minutes."""
    errors: MetricState = Field(default_factory=MetricState)
    first_token: MetricState = Field(default_factory=MetricState)
    per_token: MetricState = Field(default_factory=MetricState)
    latest: Annotated[list[Latest], Field(max_length=16)] = Field(default_factory=list)

    def of(self, metric: Metric) -> MetricState:
        """The state of one metric."""
        if metric is Metric.ERRORS:
            return self.errors
        return self.first_token if metric is Metric.FIRST_TOKEN else self.per_token


class MetricRecord(Status):
    """One metric's part in a decision."""

    metric: Metric
    verdict: Verdict
    why: Why
    canary: int
    canary_over: int
    stable: int
    stable_over: int
    slower_than: float | None = None
    """The bound of a latency metric, in milliseconds."""
    design_effect: float = 1
    """How many requests in a row count as one, because they go wrong together."""
    evidence: float = 1
    """That the canary is worse: 1 says nothing; aborts at `abort_at`."""
    abort_at: float
    likelihood: float | None = None
    """Logarithm, of a canary worse by the margin against one as good as stable; promotes at `promote_at` or below."""
    promote_at: float
    message: str


class QueryRecord(Status):
    """A query's part in a decision, and all that must be remembered of it."""

    name: str
    digest: str
    """Of the query as it was asked and of its bounds: another query begins anew."""
    verdict: Verdict
    """Abort, Hold or Continue: a bound without an error bound of its own never promotes."""
    why: Why
    value: float | None = None
    """Of the series that keeps its bounds least, where there was one."""
    series: int = 0
    """How many there were."""
    min: float | None = None
    max: float | None = None
    failures: int = 0
    """Looks beyond the bound since it was last kept; a look without an answer changes nothing."""
    abort_at: int
    """How many of them abort."""
    failed: int | None = None
    """Unix time of the last look that counts in `failures`."""
    looked: Time
    """When this was seen."""
    message: str


class Decision(Status):
    """The record of one look at the evidence: for status, events and metrics."""

    verdict: Verdict
    why: Why
    time: Time
    metrics: Annotated[list[MetricRecord], Field(max_length=8)] = Field(default_factory=list)
    queries: Annotated[list[QueryRecord], Field(max_length=MAX_QUERIES)] = Field(default_factory=list)
    message: str
