"""How far requests go wrong together: a stalled batch makes many slow ones out of one cause.

Owns: the design effect and how it is estimated. Must not know: what it deflates.

Requests on one GPU are not independent, and counts that come in heaps of m carry as much evidence as 1/m of their
number. The measure is stable's own scatter from minute to minute, by half the mean square of successive differences
(von Neumann 1941), against what independent requests of the same rate would have. Unlike the variance it takes an
incident or the day's course for what it is, a change of the rate. Both statistics are divided by it, as Rao & Scott
1992 ("A simple method for the analysis of clustered binary data") divide counts. It is never below 1.
"""

from __future__ import annotations

LENT = 4
"""Differences without overdispersion that are assumed beside those seen, so that the first few do not decide alone."""


def jump(n: int, over: int, before: int, before_over: int) -> float:
    """The squared difference of two minutes' rates by the sizes: its mean is the variance of one request."""
    return (over / n - before_over / before) ** 2 / (1 / n + 1 / before)


def effect(n: int, over: int, jumps: int, total: float) -> float:
    """How many that go wrong together count as one, by `over` of `n` requests and the total of so many jumps."""
    if not 0 < over < n:
        return 1.0
    rate = over / n
    return max(1.0, (total / (rate * (1 - rate)) + LENT) / (jumps + LENT))
