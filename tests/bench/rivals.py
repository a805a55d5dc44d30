"""How others judge a canary, on the same traces: threshold gates, a rank test that is peeked at, and ours made naive.

Owns: those rules, the first as their documentation has them. Must not know: what we do.

The gates get what an experienced user would set: at most 5 % errors, and a 99th percentile of the first token at most
1.5 times stable's of the hour before. Each answers which rollouts it aborts; the others it promotes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from bench.traces import BEFORE, ROLLOUT, Ints, Side, Trace
from pilotboat.api.analysis import Metric
from pilotboat.plan.canary.eprocess import FIRST, LATER, RATIOS, reserve
from pilotboat.plan.canary.settings import Settings

MOST_ERRORS = 0.05
SLOWER_BINS = 3
"""BOUNDS are 15 % apart: three of them are 1.52 times."""
Aborts = NDArray[np.bool_]


def argo(trace: Trace, window: int, limit: int = 3) -> Aborts:
    """Argo Rollouts: a measurement each minute over a window, aborted above `failureLimit`; no data fails nothing."""
    failed, seen = _measured(trace, window)
    return np.asarray((failed & seen).sum(axis=1) > limit)


def flagger(trace: Trace, window: int, threshold: int = 5) -> Aborts:
    """Flagger: failed checks add up and never fall, rolled back at `threshold`; no data is a failed check."""
    failed, seen = _measured(trace, window)
    return np.asarray((failed | ~seen).sum(axis=1) >= threshold)


def _measured(trace: Trace, window: int) -> tuple[Aborts, Aborts]:
    """Of each minute whether the window ending there is over a threshold, and whether it has any request."""
    side = trace.canary
    steps = slice(BEFORE, BEFORE + ROLLOUT)
    requests, errors = _window(side.requests[:, steps], window), _window(side.errors[:, steps], window)
    slow = np.arange(side.first.shape[2]) > (trace.p99 + SLOWER_BINS)[:, None]
    slowest = _window((side.first * slow[:, None, :]).sum(axis=2), window)
    failed = (errors > MOST_ERRORS * requests) | (slowest > 0.01 * (requests - errors))
    return failed, requests > 0


def _window(counts: Ints, minutes: int) -> Ints:
    """Sums over the last so many minutes."""
    whole = np.cumsum(counts, axis=1)
    whole[:, minutes:] -= whole[:, :-minutes].copy()
    return whole


def mann_whitney(trace: Trace, level: float = 1.6449) -> Aborts:
    """A one-sided Mann-Whitney test of all first tokens so far, at 5 %, looked at every minute.

    Mann & Whitney 1947, normal approximation with correction for ties, on bins 15 % wide.
    """
    return np.asarray((_ranks(trace.canary, trace.stable) > level).any(axis=1))


def _ranks(canary: Side, stable: Side) -> NDArray[np.float64]:
    """Standardised rank sums: positive where the canary is slower; 0 with fewer than eight of it."""
    one = np.cumsum(canary.first, axis=1).astype(float)
    two = np.cumsum(stable.first, axis=1).astype(float)
    of_one, of_two, ties = one.sum(axis=2), two.sum(axis=2), one + two
    whole = np.maximum(of_one + of_two, 2)
    above = (one * (np.cumsum(two, axis=2) - two / 2)).sum(axis=2) - of_one * of_two / 2
    correction = (ties**3 - ties).sum(axis=2) / (whole * (whole - 1))
    spread = np.sqrt(np.maximum(of_one * of_two / 12 * (whole + 1 - correction), 1e-9))
    return np.where((of_one >= 8) & (of_two >= 8), above / spread, 0.0)


def independent(trace: Trace, settings: Settings) -> Aborts:
    """Our own e-process as it would be if requests were independent: neither deflated nor capped."""
    aborted = np.zeros(trace.p99.shape, bool)
    for metric in settings.metrics:
        aborted |= _highest(_counts(metric, trace.canary), _counts(metric, trace.stable)) >= settings.abort_at(metric)
    return aborted


def _counts(metric: Metric, side: Side) -> tuple[Ints, Ints]:
    """How many were judged and how many of them were over, in the four steps."""
    steps = slice(BEFORE, BEFORE + ROLLOUT)
    if metric is Metric.ERRORS:
        return side.requests[:, steps], side.errors[:, steps]
    slow = side.first_slow if metric is Metric.FIRST_TOKEN else side.token_slow
    return (side.requests - side.errors)[:, steps], slow[:, steps]


def _highest(canary: tuple[Ints, Ints], stable: tuple[Ints, Ints]) -> NDArray[np.float64]:
    """The largest purse of each rollout."""
    ratios = np.array(RATIOS)
    stakes = np.zeros((len(canary[0]), len(ratios)))
    highest = np.zeros(len(stakes))
    for minute, (n, over, other, other_over) in enumerate(_minutes(canary, stable)):
        stakes += FIRST if not minute else LATER * reserve(minute)
        logs = over * np.log(ratios) + (over + other_over) * np.log((n + other) / (ratios * n + other))
        stakes = np.minimum(stakes * np.exp(np.clip(logs, -400, 400)), 1e100)
        highest = np.maximum(highest, stakes.mean(axis=1) + reserve(minute + 1))
    return highest


def _minutes(canary: tuple[Ints, Ints], stable: tuple[Ints, Ints]) -> Iterable[list[Ints]]:
    """Minute by minute the four counts of every rollout, as columns; a minute without either is one without any."""
    for minute in range(ROLLOUT):
        columns = [each[:, minute, None] for each in (*canary, *stable)]
        both = (columns[0] > 0) & (columns[2] > 0)
        yield [np.where(both, each, 1 if which % 2 == 0 else 0) for which, each in enumerate(columns)]
