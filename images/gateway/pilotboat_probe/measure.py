"""From single measurements to what a report has room for: quantiles, buckets, counts by minute. Pure.

Owns: the arithmetic. Must not know: requests, clocks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pilotboat.api.probing import ProbeMinute, Quantiles
from pilotboat.api.routing import BOUNDS

MAX_KINDS = 12
"""Kinds of errors that are told apart; the rarest beyond that are `other`."""


def bucket(milliseconds: float) -> int:
    """Index of the first of BOUNDS that is not below; len(BOUNDS) is beyond the last."""
    return bisect_left(BOUNDS, milliseconds)


def quantiles(values: Sequence[float]) -> Quantiles:
    """P50, P95 and P99 by nearest rank: each is a value that was measured."""
    if not values:
        return Quantiles()
    ordered = sorted(values)
    p50, p95, p99 = (round(ordered[-(-len(ordered) * part // 100) - 1], 2) for part in (50, 95, 99))
    return Quantiles(count=len(ordered), p50=p50, p95=p95, p99=p99)


def kinds(errors: Mapping[str, int]) -> dict[str, int]:
    """Errors by kind, the most frequent first, as many kinds as a report has room for."""
    common = Counter(errors).most_common()
    told = dict(common[:MAX_KINDS])
    rest = sum(count for _, count in common[MAX_KINDS:])
    return told | ({"other": told.get("other", 0) + rest} if rest else {})


@dataclass
class Tally:
    """What is counted of one version in one minute, or in several."""

    requests: int = 0
    errors: int = 0
    first_token: Counter[int] = field(default_factory=Counter)
    per_token: Counter[int] = field(default_factory=Counter)

    def minute(self, start: int) -> ProbeMinute:
        """As the report has it."""
        return ProbeMinute(
            start=start,
            requests=self.requests,
            errors=self.errors,
            first_token=_histogram(self.first_token),
            per_token=_histogram(self.per_token),
        )


def coarser(minutes: Iterable[ProbeMinute], first: int, minutes_each: int, buckets_each: int) -> list[ProbeMinute]:
    """The same counts in fewer entries: so many minutes (from `first` on) in one, and so many buckets."""
    groups: dict[int, Tally] = {}
    for minute in minutes:
        start = first + (minute.start - first) // (60 * minutes_each) * 60 * minutes_each
        tally = groups.setdefault(start, Tally())
        tally.requests += minute.requests
        tally.errors += minute.errors
        tally.first_token.update(_upper(minute.first_token, buckets_each))
        tally.per_token.update(_upper(minute.per_token, buckets_each))
    return [tally.minute(start) for start, tally in sorted(groups.items())]


def _upper(histogram: Mapping[str, int], each: int) -> Counter[int]:
    counts: Counter[int] = Counter()
    for index, count in histogram.items():
        counts[min(int(index) // each * each + each - 1, len(BOUNDS))] += count
    return counts


def _histogram(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(index): count for index, count in sorted(counts.items())}
