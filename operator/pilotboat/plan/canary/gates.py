"""The gates before users: are answers as good as before, and does the canary bear the load?

Owns: when answers, perplexity and a simulated load are good enough. Must not know: who asks, and who is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, sqrt
from statistics import NormalDist, fmean, stdev

from ...api.probing import FEW_REFERENCES
from .effects import share

SURE = 0.95
"""One-sided confidence of a quality gate."""
FEW = 0.01
"""Part of a load's requests that may be late before its figures are the generator's own, as a probe itself has it."""


@dataclass(frozen=True)
class Passed:
    """A gate's answer; `passed` is None where there is too little to say."""

    passed: bool | None
    value: float
    bound: float
    """What the value was held against."""
    message: str


def answers(equal: int, of: int, threshold: float) -> Passed:
    """Non-inferiority by exact match: surely at least `threshold` of the greedy answers are the same as stable's.

    The lower end of Wilson's interval (Wilson 1927), one-sided.
    """
    if not of:
        return Passed(None, 0.0, threshold, "no answers to compare")
    low = share(equal, of, 2 * SURE - 1).low
    return Passed(
        low >= threshold,
        low,
        threshold,
        f"{equal} of {of} answers equal stable's: surely at least {low:.1%}, and {threshold:.1%} are asked for",
    )


def perplexity(gaps: Sequence[float], tolerance: float) -> Passed:
    """Non-inferiority by perplexity: it surely is at most `tolerance` (0.05: 5 %) higher than stable's.

    `gaps` are differences of mean negative log-likelihoods a token, reference by reference, the canary's less stable's.
    Their mean with the upper end of Student's one-sided interval is the logarithm of the perplexities' ratio.
    """
    if len(gaps) < FEW_REFERENCES:
        told = f"{len(gaps)} references, of {FEW_REFERENCES} that are needed, have told how likely both hold them"
        return Passed(None, 0.0, tolerance, told)
    high = exp(fmean(gaps) + student(SURE, len(gaps) - 1) * stdev(gaps) / sqrt(len(gaps))) - 1
    return Passed(
        high <= tolerance,
        high,
        tolerance,
        f"perplexity {exp(fmean(gaps)) - 1:+.1%} to stable's on {len(gaps)} references: surely at most {high:+.1%}, "
        f"and {tolerance:+.1%} is allowed",
    )


def load(requests: int, errors: int, p95_ms: float, most_ms: float, most_errors: float, enough: int = 100) -> Passed:
    """Whether a simulated load was borne: its 95th percentile and its share of errors, each within its bound.

    A load is as long as we want it, so the sample is judged as it is, once it is large enough for a 95th percentile.
    """
    if requests < enough:
        return Passed(None, p95_ms, most_ms, f"{requests} requests, {enough} are needed")
    failed = errors / requests
    return Passed(
        p95_ms <= most_ms and failed <= most_errors,
        p95_ms,
        most_ms,
        f"P95 {p95_ms:.0f} ms of {most_ms:.0f} allowed, {errors} of {requests} failed ({most_errors:.1%} allowed)",
    )


def student(level: float, freedom: int) -> float:
    """Quantile of Student's t by its expansion round the normal's (Abramowitz & Stegun 26.7.5).

    For one degree of freedom it is far too low, as an expansion must be there; from five on within 1 % at 0.95.
    """
    z = NormalDist().inv_cdf(level)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
