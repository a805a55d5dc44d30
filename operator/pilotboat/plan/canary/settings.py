"""What a rollout's judgement is asked to do: metrics, bounds and risks.

Owns: Settings and its defaults. Must not know: the spec they come from, or how they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf

from ...api.analysis import Metric

EVERY = (Metric.ERRORS, Metric.FIRST_TOKEN, Metric.PER_TOKEN)


@dataclass(frozen=True)
class Settings:
    """All that a judgement depends on besides the evidence and the time."""

    metrics: tuple[Metric, ...] = EVERY
    """Those that are not switched off."""
    first_token_ms: float | None = None
    """Bound of a good first token; None: what nine of ten of stable's requests keep."""
    per_token_ms: float | None = None
    min_samples: int = 50
    """Canary requests without which no metric promotes."""
    warmup: int = 0
    """Canary requests that are not judged: whole minutes, up to and with the one in which this many are reached."""
    since: float = inf
    """Unix time from which the canary's requests count for the step that it is at."""
    alpha: float = 0.02
    """Risk that a healthy canary is ever aborted, shared by the metrics: errors have half."""
    beta: float = 0.05
    """Risk that a canary worse by the margin is promoted."""
    errors_margin: float = 0.04
    """Share of requests by which a canary is too much worse."""
    latency_margin: float = 0.10
    stale_after: int = 120
    """Seconds after the end of the last minute known, after which the evidence is stale."""

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError("metrics: at least one must be judged")

    def abort_at(self, metric: Metric) -> float:
        """The evidence at which a metric aborts: the inverse of its part of alpha."""
        return self._bounds[metric]

    @cached_property
    def _bounds(self) -> dict[Metric, float]:
        """`abort_at` of each metric."""
        latencies = [metric for metric in self.metrics if metric is not Metric.ERRORS]
        whole = 1 if len(latencies) in (0, len(self.metrics)) else 2
        bounds = dict.fromkeys(EVERY, whole * max(1, len(latencies)) / self.alpha)
        return bounds | {Metric.ERRORS: whole / self.alpha}

    def margin(self, metric: Metric) -> float:
        """By how much a canary of this metric is too much worse."""
        return self.errors_margin if metric is Metric.ERRORS else self.latency_margin
