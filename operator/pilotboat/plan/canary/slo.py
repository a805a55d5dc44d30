"""How slow is too slow: a bound the user gave, or what stable itself keeps nine times of ten.

Owns: how a bound is found among BOUNDS. Must not know: what is done with it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

from ...api.routing import BOUNDS, Evidence
from .counts import Bounds, pod_minutes, together

KEPT = 0.9
"""Share of stable's requests within a bound taken from stable."""
ENOUGH = 100
"""Observations of stable without which no bound is taken from it."""


def snap(milliseconds: float) -> float:
    """The first bound that is not below: histograms cannot tell values between two bounds apart."""
    return BOUNDS[min(bisect_left(BOUNDS, milliseconds), len(BOUNDS) - 1)]


def kept(histogram: Mapping[str, int], share: float = KEPT, enough: int = ENOUGH) -> float | None:
    """The lowest bound that this share of the observations keeps; None where there are too few, or none does."""
    whole = sum(histogram.values())
    if whole < enough:
        return None
    within = 0
    for index, bound in enumerate(BOUNDS):
        within += histogram.get(str(index), 0)
        if within >= share * whole:
            return bound
    return None


def measured(evidence: Iterable[Evidence], stable: str, after: int = 0) -> Bounds:
    """Bounds taken from what stable did after the minute that began at `after`."""
    told = together(evidence)
    first = (m.first_token for each in told for m in each.minutes.get(stable, ()) if m.start > after)
    per = (minute.per_token for minute in pod_minutes(told, stable, after))
    return Bounds(kept(_sum(first)), kept(_sum(per)))


def _sum(histograms: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    whole: Counter[str] = Counter()
    for histogram in histograms:
        whole.update(histogram)
    return whole
