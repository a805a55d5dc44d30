"""Evidence as counts: what gateways saw, minute by minute, of the canary and of stable.

Owns: Tally and Stratum, and how the evidence of several gateways becomes strata. Must not know: how counts are weighed.

Requests are summed over gateways, each of which saw others. Time per token comes from the pods, of which every gateway
tells the same: there the fullest account of a pod's minute counts. Only minutes after a cursor are read, so a gateway
that forgets what was absorbed takes nothing away, and one that repeats it adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from ...api.analysis import PERIOD, Metric
from ...api.routing import BOUNDS, Evidence, PodMinute

SETTLES = 3
"""Seconds after its end in which a minute may still grow: a gateway reads its log and the pods a little late."""
TOGETHER = 90
"""Seconds by which one gateway's evidence may be older than another's; older is left out."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many were judged, and how many of them were over the bound (or failed)."""

    n: int = 0
    over: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.n + other.n, self.over + other.over)


@dataclass(frozen=True, slots=True)
class Tally:
    """What one revision did in some time. The latencies are empty while their bound is not known."""

    requests: int = 0
    errors: int = 0
    first_token: Count = Count()
    per_token: Count = Count()

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.requests + other.requests,
            self.errors + other.errors,
            self.first_token + other.first_token,
            self.per_token + other.per_token,
        )

    def of(self, metric: Metric) -> Count:
        """One metric's count."""
        if metric is Metric.ERRORS:
            return Count(self.requests, self.errors)
        return self.first_token if metric is Metric.FIRST_TOKEN else self.per_token


@dataclass(frozen=True, slots=True)
class Stratum:
    """One minute, in which load and incidents were the same for both revisions."""

    start: int
    canary: Tally = Tally()
    stable: Tally = Tally()


LONGEST = 7 * 24 * 3600
"""Seconds of which minutes are looked at: no gateway knows more than a day, and a clock may have been years behind."""


@dataclass(frozen=True)
class Bounds:
    """The slowest a good request may be, in milliseconds; None: not known, so not judged."""

    first_token: float | None = None
    per_token: float | None = None


@dataclass(frozen=True)
class Reading:
    """New evidence: every whole minute after the cursor, the empty ones too, and what has come since."""

    strata: tuple[Stratum, ...] = ()
    open: Stratum | None = None


def read(evidence: Iterable[Evidence], stable: str, canary: str, bounds: Bounds, after: int) -> Reading:
    """What gateways know of both revisions after the minute that began at `after`."""
    told = together(evidence)
    if not told:
        return Reading()
    horizon = int(min(each.now for each in told) - SETTLES) // PERIOD * PERIOD
    sides = [_by_minute(told, revision, bounds, after) for revision in (canary, stable)]
    strata = tuple(
        Stratum(start, *(side.get(start, Tally()) for side in sides))
        for start in range(max(after + PERIOD, horizon - LONGEST), horizon, PERIOD)
    )
    since = max(horizon, after + PERIOD)
    rest = (sum((tally for start, tally in side.items() if start >= since), Tally()) for side in sides)
    return Reading(strata, Stratum(since, *rest))


def together(evidence: Iterable[Evidence]) -> list[Evidence]:
    """The accounts that are about as new as the newest."""
    told = list(evidence)
    newest = max((each.now for each in told), default=0.0)
    return [each for each in told if newest - each.now <= TOGETHER]


def _by_minute(told: Sequence[Evidence], revision: str, bounds: Bounds, after: int) -> dict[int, Tally]:
    """Tallies of one revision by the beginning of their minute."""
    tallies: dict[int, Tally] = {}
    seen = chain.from_iterable(each.minutes.get(revision, ()) for each in told)
    for minute in (minute for minute in seen if minute.start > after):
        first = judged(minute.first_token, bounds.first_token) + in_vain(minute.given_up, bounds.first_token)
        tally = Tally(minute.requests, minute.errors, first)
        tallies[minute.start] = tallies.get(minute.start, Tally()) + tally
    for pod in pod_minutes(told, revision, after):
        tally = Tally(per_token=judged(pod.per_token, bounds.per_token))
        tallies[pod.start] = tallies.get(pod.start, Tally()) + tally
    return tallies


def pod_minutes(told: Iterable[Evidence], revision: str, after: int = 0) -> Iterable[PodMinute]:
    """Of each pod's minute the fullest account."""
    fullest: dict[tuple[str, int], PodMinute] = {}
    for minute in chain.from_iterable(each.pods for each in told):
        if minute.revision == revision and minute.start > after:
            key = minute.pod, minute.start
            fullest[key] = max(fullest.get(key, minute), minute, key=lambda each: sum(each.per_token.values()))
    return fullest.values()


def in_vain(histogram: Mapping[str, int], bound: float | None) -> Count:
    """Who gave up after the bound; when those who went before it would have been answered nobody knows."""
    over = judged(histogram, bound).over
    return Count(over, over)


def judged(histogram: Mapping[str, int], bound: float | None) -> Count:
    """A histogram against a bound; nothing is judged without one."""
    if bound is None:
        return Count()
    over = sum(count for index, count in histogram.items() if int(index) >= len(BOUNDS) or BOUNDS[int(index)] > bound)
    return Count(sum(histogram.values()), over)
