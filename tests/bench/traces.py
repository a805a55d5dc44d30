"""Rollouts that never were: what canary and stable would have counted, look by look, for hundreds at once.

Owns: the worlds and how their counts are drawn. Must not know: how they are judged.

Each rollout has an hour of stable alone, four steps of ten minutes (5, 10, 25, 50 % of the requests) and half an hour
of extension at the last. Requests come at random; first tokens and time per token are lognormal. With stalls, every pod
stops now and then for a while, and all that reaches it meanwhile is slow, in both latencies. All is drawn in slots of
three seconds, the time between two looks of the operator.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import product
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
LOOKS = 20
"""In a minute: the operator looks every three seconds."""
DAY = 1440


@dataclass(frozen=True)
class Stalls:
    """How often a pod stops, and for how long."""

    per_minute: float
    shortest: int
    longest: int
    """In slots."""

    @property
    def share(self) -> float:
        """Of a pod's time, nearly: two may overlap."""
        return self.per_minute * (self.shortest + self.longest) / 2 / LOOKS


BATCHES = Stalls(0.3, 2, 5)
"""Three times in ten minutes, 6 to 15 seconds: a batch that waits for another's long prompt."""
MINUTES_LONG = Stalls(1 / 240, 20, 60)
"""Once in four hours, one to three minutes: a driver that recovers, a volume that hangs."""
BURSTS = Stalls(0.1, 2, 10)
"""Of failures that both revisions have."""


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
    bursts: bool = False
    """Once in ten minutes three in ten of both fail, for 6 to 30 seconds."""
    stalls: Stalls | None = None
    late: bool = False
    """The canary is as good as stable until the last step."""

    @property
    def good(self) -> bool:
        """Whether the canary is no worse than stable."""
        return (self.canary or self.stable, self.first_token, self.per_token) == (self.stable, 1, 1)

    @property
    def quiet(self) -> bool:
        """Whether nothing happens but requests that go wrong by chance, each for itself."""
        return not (self.incident or self.bursts or self.stalls)


@dataclass(frozen=True)
class Side:
    """Counts of one revision: rollouts by minutes."""

    looks: Ints
    """Requests, errors, slow first tokens, slow tokens: by rollouts, minutes and looks, since the minute began."""
    first: Ints
    """First tokens of the four steps: rollouts, minutes, bins. Bin i ends at BOUNDS[LOW + i]; the last has the rest."""

    @property
    def requests(self) -> Ints:
        return self.looks[0, ..., -1]

    @property
    def errors(self) -> Ints:
        return self.looks[1, ..., -1]

    @property
    def first_slow(self) -> Ints:
        return self.looks[2, ..., -1]

    @property
    def token_slow(self) -> Ints:
        return self.looks[3, ..., -1]


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
    tail = world.stalls.share if world.stalls else 0.0
    history = rng.multinomial(known, bins(1, tail), rollouts)
    first = _bounds(history, LOW)
    token = _bounds(rng.multinomial(known, bins(1, tail), rollouts), bisect_left(BOUNDS, PER_TOKEN * 0.15))
    p99 = (np.cumsum(history, axis=1) < 0.99 * known).sum(axis=1)
    common = _common(world, rollouts, rng)
    sides = []
    for own, part in ((True, share), (False, 1 - share)):
        pods = np.maximum(1, np.round(PODS * part))
        sides.append(_side(world, own, rate * part, pods, common, first, token, rng))
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


def _common(world: World, rollouts: int, rng: np.random.Generator) -> Floats:
    """Share of failures that both revisions have at least, slot by slot."""
    common = np.zeros((rollouts, MINUTES * LOOKS))
    if world.incident:
        common[:, (BEFORE + 15) * LOOKS : (BEFORE + 25) * LOOKS] = 0.10
    if world.bursts:
        common[_going(np.full(MINUTES, 1.0), BURSTS, rollouts, rng) > 0] = 0.30
    return common


def _side(
    world: World,
    own: bool,
    rate: Floats,
    pods: Floats,
    common: Floats,
    first: list[float],
    token: list[float],
    rng: np.random.Generator,
) -> Side:
    """One revision's counts."""
    bad = np.zeros(MINUTES, bool) if not own else np.arange(MINUTES) >= BEFORE + (ROLLOUT - STEP if world.late else 0)
    slots = np.repeat(bad, LOOKS)
    requests = rng.poisson(np.broadcast_to(np.repeat(rate / LOOKS, LOOKS), common.shape))
    failing = np.where(slots, world.canary or world.stable, world.stable)
    errors = rng.binomial(requests, np.maximum(failing, common))
    answered = requests - errors
    stalled = np.zeros_like(answered)
    if world.stalls:
        going = _going(pods, world.stalls, len(common), rng)
        stalled = rng.binomial(answered, np.minimum(1.0, going / np.repeat(pods, LOOKS)))
    first_slow = rng.binomial(answered - stalled, _slow(first, FIRST_TOKEN, world.first_token, slots))
    token_slow = rng.binomial(answered - stalled, _slow(token, PER_TOKEN, world.per_token, slots))
    counts = np.array([requests, errors, first_slow + stalled, token_slow + stalled], np.int32)
    by_minute = np.array([answered, stalled, first_slow]).reshape(3, -1, MINUTES, LOOKS).sum(axis=3)
    seen = by_minute[:, :, BEFORE : BEFORE + ROLLOUT]
    looks = counts.reshape(4, -1, MINUTES, LOOKS).cumsum(axis=3, dtype=np.int32)
    return Side(looks, _histogram(*seen, world.first_token, bad[BEFORE : BEFORE + ROLLOUT], first, rng))


def _slow(bounds: list[float], median: float, factor: float, bad: NDArray[np.bool_]) -> Floats:
    """Probability of an answer slower than each rollout's bound, slot by slot."""
    shares = {bound: [slower_share(bound, median * each) for each in (1, factor)] for bound in set(bounds)}
    each = np.array([shares[bound] for bound in bounds])
    return np.where(bad, each[:, 1:], each[:, :1])


def _histogram(
    answered: Ints,
    stalled: Ints,
    slow: Ints,
    factor: float,
    bad: NDArray[np.bool_],
    bounds: list[float],
    rng: np.random.Generator,
) -> Ints:
    """First tokens by bins: as many above each rollout's bound as were slow, and the stalled at the end.

    A bound beyond all bins, as a hundred answers with a stall among them can give, has the last bin above it."""
    drawn = np.zeros((*answered.shape, BINS), np.int64)
    for bound, (minutes, times) in product(set(bounds), ((~bad, 1.0), (bad, factor))):
        where = np.ix_(np.array(bounds) == bound, minutes)
        shares, cut = bins(times, 0), min(max(BOUNDS.index(bound) - LOW + 1, 1), BINS - 1)
        for part, count in ((slice(cut, BINS), slow), (slice(cut), answered - stalled - slow)):
            whole = np.zeros((*count[where].shape, BINS), np.int64)
            whole[..., part] = rng.multinomial(count[where], shares[part] / shares[part].sum())
            drawn[where] += whole
    drawn[..., -1] += stalled
    return drawn


def _going(sources: Floats, stalls: Stalls, rollouts: int, rng: np.random.Generator) -> Ints:
    """How many stalls are going on in each slot, of so many sources in each minute."""
    shape = rollouts, MINUTES * LOOKS
    row, begun = rng.poisson(np.broadcast_to(np.repeat(sources * stalls.per_minute / LOOKS, LOOKS), shape)).nonzero()
    over = begun + rng.integers(stalls.shortest, stalls.longest, len(begun), endpoint=True)
    change = np.zeros((rollouts, MINUTES * LOOKS + stalls.longest), np.int64)
    np.add.at(change, (row, begun), 1)
    np.add.at(change, (row, over), -1)
    return change.cumsum(axis=1)[:, : shape[1]]
