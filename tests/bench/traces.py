"""Rollouts that never were: what canary and stable would have counted, minute by minute, for hundreds at once.

Owns: the worlds and how their counts are drawn. Must not know: how they are judged.

Each rollout has an hour of stable alone, four steps of ten minutes (5, 10, 25, 50 % of the requests) and half an hour
of extension at the last. Requests come at random; first tokens and time per token are lognormal. With stalls, every pod
stops three times in ten minutes for 5 to 15 seconds, and all that reaches it meanwhile is slow, in both latencies.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import log
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pilotboat.api.routing import BOUNDS
from pilotboat.plan.canary.slo import kept

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BEFORE, STEP, EXTENSION = 60, 10, 30
SHARES = (0.05, 0.10, 0.25, 0.50)
ROLLOUT = STEP * len(SHARES)
MINUTES = BEFORE + ROLLOUT + EXTENSION
SIGMA = 0.6
FIRST_TOKEN, PER_TOKEN = 300.0, 30.0
"""Medians of stable, in milliseconds."""
PODS = 4
"""Of stable alone. The requests of a revision are shared by its part of them, one at least."""
STALLS, SHORTEST, LONGEST = 0.3, 5.0, 15.0
"""Stalls a pod has in a minute, and their seconds."""
DAY = 1440


@dataclass(frozen=True)
class World:
    """What is true of a rollout, whatever is seen of it."""

    name: str
    stable: float = 0.01
    """Share of errors."""
    canary: float | None = None
    """The same as stable's when left out."""
    first_token: float = 1
    """How many times slower the canary is."""
    per_token: float = 1
    incident: bool = False
    """In minutes 15 to 25 one in ten of both fails."""
    stalls: bool = False
    late: bool = False
    """The canary is as good as stable until the last step."""

    @property
    def good(self) -> bool:
        """Whether the canary is no worse than stable."""
        return (self.canary or self.stable, self.first_token, self.per_token) == (self.stable, 1, 1)


@dataclass(frozen=True)
class Side:
    """Counts of one revision: rollouts by minutes."""

    requests: Ints
    errors: Ints
    first_slow: Ints
    token_slow: Ints
    first: Ints
    """First tokens of the four steps: rollouts, minutes, bins. Bin i ends at BOUNDS[LOW + i]; the last has the rest."""


@dataclass(frozen=True)
class Trace:
    """Many rollouts of one world."""

    canary: Side
    stable: Side
    first_bounds: list[float]
    """Of each rollout, taken from stable as the operator does."""
    token_bounds: list[float]
    p99: Ints
    """Of each rollout, the bin in which stable's 99th percentile was before."""


LOW = bisect_left(BOUNDS, FIRST_TOKEN * 0.15)
BINS = bisect_left(BOUNDS, FIRST_TOKEN * 12) - LOW


def draw(world: World, rate: float, rollouts: int, rng: np.random.Generator) -> Trace:
    """Counts of so many rollouts at `rate` requests a minute."""
    share = np.repeat([0.0, *SHARES, SHARES[-1]], [BEFORE, *[STEP] * len(SHARES), EXTENSION])
    known = int(rate * (BEFORE if rate * BEFORE >= 200 else DAY))
    tail = STALLS * (SHORTEST + LONGEST) / 120 if world.stalls else 0.0
    history = rng.multinomial(known, bins(1, tail), rollouts)
    first = _bounds(history, LOW)
    token = _bounds(rng.multinomial(known, bins(1, tail), rollouts), bisect_left(BOUNDS, PER_TOKEN * 0.15))
    p99 = (np.cumsum(history, axis=1) < 0.99 * known).sum(axis=1)
    sides = []
    for own, part in ((True, share), (False, 1 - share)):
        pods = np.maximum(1, np.round(PODS * part))
        sides.append(_side(world, own, rate * part, pods, first, token, rng))
    return Trace(sides[0], sides[1], first, token, p99)


def bins(factor: float, tail: float) -> Floats:
    """Share of the first tokens in each bin; `tail` of them are stalled."""
    cuts = [slower_share(bound, FIRST_TOKEN * factor) for bound in BOUNDS[LOW : LOW + BINS - 1]]
    parts = -np.diff(np.array([1.0, *cuts, 0.0])) * (1 - tail)
    parts[-1] += tail
    return np.asarray(parts / parts.sum())


def slower_share(bound: float, median: float) -> float:
    """Share of a lognormal latency above a bound."""
    return 1 - NormalDist().cdf(log(bound / median) / SIGMA)


def _bounds(histories: Ints, low: int) -> list[float]:
    """What stable keeps nine times of ten, by the operator's own function; tokens have the same bins, moved."""
    found = [kept({str(low + index): int(count) for index, count in enumerate(row)}) for row in histories]
    return [bound or BOUNDS[-1] for bound in found]


def _side(
    world: World,
    own: bool,
    rate: Floats,
    pods: Floats,
    first: list[float],
    token: list[float],
    rng: np.random.Generator,
) -> Side:
    """One revision's counts."""
    shape = len(first), MINUTES
    requests = rng.poisson(np.broadcast_to(rate, shape))
    bad = np.zeros(MINUTES, bool) if not own else np.arange(MINUTES) >= BEFORE + (ROLLOUT - STEP if world.late else 0)
    failing = np.where(bad, world.canary or world.stable, world.stable)
    if world.incident:
        failing[BEFORE + 15 : BEFORE + 25] = 0.10
    errors = rng.binomial(requests, failing)
    answered = requests - errors
    stalled = rng.binomial(answered, _stalled(shape, pods, rng)) if world.stalls else np.zeros(shape, np.int64)
    first_slow = stalled + rng.binomial(answered - stalled, _slow(first, FIRST_TOKEN, world.first_token, bad))
    token_slow = stalled + rng.binomial(answered - stalled, _slow(token, PER_TOKEN, world.per_token, bad))
    seen = slice(BEFORE, BEFORE + ROLLOUT)
    histogram = _histogram((answered - stalled)[:, seen], world.first_token, bad[seen], rng)
    histogram[:, :, -1] += stalled[:, seen]
    over = np.arange(LOW, LOW + BINS) > np.array([BOUNDS.index(bound) for bound in first])[:, None]
    first_slow[:, seen] = (histogram * over[:, None, :]).sum(axis=2)
    return Side(requests, errors, first_slow, token_slow, histogram)


def _slow(bounds: list[float], median: float, factor: float, bad: NDArray[np.bool_]) -> Floats:
    """Probability of an answer slower than each rollout's bound, minute by minute."""
    shares = {bound: [slower_share(bound, median * each) for each in (1, factor)] for bound in set(bounds)}
    each = np.array([shares[bound] for bound in bounds])
    return np.where(bad, each[:, 1:], each[:, :1])


def _histogram(answered: Ints, factor: float, bad: NDArray[np.bool_], rng: np.random.Generator) -> Ints:
    """First tokens by bins."""
    good = rng.multinomial(answered[:, ~bad], bins(1, 0))
    worse = rng.multinomial(answered[:, bad], bins(factor, 0))
    return np.concatenate([good, worse], axis=1)


def _stalled(shape: tuple[int, int], pods: Floats, rng: np.random.Generator) -> Floats:
    """Share of the minute's requests that met a stalled pod; a stall may reach into the next minute."""
    count = rng.poisson(np.broadcast_to(STALLS * pods, shape))
    seconds = np.zeros((shape[0], shape[1] + 1))
    for nth in range(int(count.max())):
        begun, lasts = rng.uniform(0, 60, shape), rng.uniform(SHORTEST, LONGEST, shape) * (count > nth)
        spilt = np.clip(begun + lasts - 60, 0, lasts)
        seconds[:, :-1] += lasts - spilt
        seconds[:, 1:] += spilt
    return np.minimum(1.0, seconds[:, :-1] / 60 / pods)
