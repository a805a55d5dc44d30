"""Shares and differences with their uncertainty: what an A/B test reports.

Owns: intervals of one share and of the difference of two, and the comparison of posted outcomes. Must not know: where
counts come from, or what is done about them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate and the range it is in with the confidence asked for."""

    estimate: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether a share is of anything: of nothing it may be any."""
        return (self.low, self.high) != (0.0, 1.0)

    @property
    def settled(self) -> bool:
        """Whether the range leaves out zero, so the sign is known."""
        return self.low > 0 or self.high < 0


def share(hits: int, of: int, confidence: float = CONFIDENCE) -> Interval:
    """A share by Wilson's score interval (Wilson 1927; Newcombe 1998a, method 3). Of nothing: anything from 0 to 1."""
    if not of:
        return Interval(0.0, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = hits / of
    middle = (rate + z * z / (2 * of)) / (1 + z * z / of)
    half = z * sqrt(rate * (1 - rate) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return Interval(rate, max(0.0, middle - half), min(1.0, middle + half))


def difference(hits: int, of: int, other_hits: int, other_of: int, confidence: float = CONFIDENCE) -> Interval:
    """The first share less the second, by Newcombe's hybrid score interval (Newcombe 1998b, method 10)."""
    one, two = share(hits, of, confidence), share(other_hits, other_of, confidence)
    gap = one.estimate - two.estimate
    below = sqrt((one.estimate - one.low) ** 2 + (two.high - two.estimate) ** 2)
    above = sqrt((one.high - one.estimate) ** 2 + (two.estimate - two.low) ** 2)
    return Interval(gap, max(-1.0, gap - below), min(1.0, gap + above))


@dataclass(frozen=True)
class OutcomeEffect:
    """How often applications posted one outcome of each revision, and the difference (of `b` to `a`)."""

    outcome: str
    a: Interval
    b: Interval
    effect: Interval


def compare(a: Mapping[str, int], b: Mapping[str, int], confidence: float = CONFIDENCE) -> tuple[OutcomeEffect, ...]:
    """Every outcome posted of either revision, as a share of all that was posted of it."""
    of_a, of_b = sum(a.values()), sum(b.values())
    return tuple(
        OutcomeEffect(
            outcome,
            share(a.get(outcome, 0), of_a, confidence),
            share(b.get(outcome, 0), of_b, confidence),
            difference(b.get(outcome, 0), of_b, a.get(outcome, 0), of_a, confidence),
        )
        for outcome in sorted(a.keys() | b.keys())
    )
