"""One metric's sufficient statistics while minutes are added to them.

Owns: what each minute does to a MetricState, and how thin minutes are pooled. Must not know: where minutes come from,
or what is decided.

A minute with one request of the canary and five of stable's says little: most minutes have none of the canary's, and
in those stable's are lost. So minutes are pooled until both together have ENOUGH requests, for LONGEST minutes at most,
while the canary's share stays the same. Requests are split by chance, so each of the pool's failures is as likely the
canary's as any of its requests is, whenever in those minutes it came: what both share still cancels out. When a pool
ends depends on how many requests there were and not on whose they were, or that would not be so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from ...api.analysis import Metric, MetricState, Pool
from .counts import Count
from .dispersion import effect, jump
from .eprocess import gained, staked
from .settings import Settings

ENOUGH = 100
"""Requests of both revisions in a stratum."""
LONGEST = 10
"""Minutes in a stratum, however few requests it has."""


class Running:
    """A MetricState taken apart. It changes, unlike all else here, and lives only as long as one call."""

    def __init__(self, metric: Metric, state: MetricState, settings: Settings) -> None:
        self._cap = cap(metric, settings)
        self._was = state
        self._canary = Count(state.canary, state.canary_over)
        self._stable = Count(state.stable, state.stable_over)
        self._added = Count()
        self._minutes, self._stakes, self._silent = state.minutes, state.stakes, state.silent
        self._pool = state.pool
        self._long, self._long_over, self._last = state.long, state.long_over, Count(state.last, state.last_over)
        self._jumps, self._scatter = state.long_jumps, state.long_scatter

    def add(self, canary: Count, stable: Count, requests: int) -> None:
        """One more whole minute, in which the canary had so many requests, measured or not."""
        self._silent = 0 if canary.n else self._silent + requests
        if canary.n:
            self._added += canary
            self._canary += canary
        if canary.n or self._pool.minutes:
            self._stable += stable
            self._pool = pooled(self._pool, canary, stable)
        if self._pool.canary + self._pool.stable >= ENOUGH or self._pool.minutes >= LONGEST:
            self.bet()
        if stable.n:
            self._learn(stable)

    def bet(self) -> None:
        """The pool ends. Before stable's minute is learned: a stake may depend only on what was known."""
        pool, self._pool = self._pool, Pool()
        if pool.canary and pool.stable:
            known = effect(self._long, self._long_over, self._jumps, self._scatter)
            gains = gained(*_counts(pool), known, self._cap**pool.bad)
            self._stakes = staked(self._stakes, self._minutes, gains)
            self._minutes += 1

    def _learn(self, stable: Count) -> None:
        """Stable's rate, and how far it scatters."""
        if self._last.n:
            self._jumps += 1
            self._scatter += jump(stable.n, stable.over, self._last.n, self._last.over)
        self._long += stable.n
        self._long_over += stable.over
        self._last = stable

    def state(self) -> MetricState:
        """What it is now."""
        return MetricState(
            canary=self._canary.n,
            canary_over=self._canary.over,
            stable=self._stable.n,
            stable_over=self._stable.over,
            promote=self._was.promote + self._added.n,
            promote_over=self._was.promote_over + self._added.over,
            asked=self._was.asked,
            silent=self._silent,
            minutes=self._minutes,
            pool=self._pool,
            stakes=self._stakes,
            long=self._long,
            long_over=self._long_over,
            long_jumps=self._jumps,
            long_scatter=self._scatter,
            last=self._last.n,
            last_over=self._last.over,
        )


def grown(
    metric: Metric, state: MetricState, minutes: Iterable[tuple[Count, Count, int]], settings: Settings
) -> MetricState:
    """The state with these minutes: the canary's count, stable's, and the canary's requests."""
    running = Running(metric, state, settings)
    for canary, stable, requests in minutes:
        running.add(canary, stable, requests)
    return running.state()


def closed(metric: Metric, state: MetricState, settings: Settings) -> MetricState:
    """The state after its pool's end: what comes is of another share."""
    running = Running(metric, state, settings)
    running.bet()
    return running.state()


def pooled(pool: Pool, canary: Count, stable: Count) -> Pool:
    """The pool with one more minute."""
    return Pool(
        minutes=pool.minutes + 1,
        bad=pool.bad + (canary.over > 0),
        canary=pool.canary + canary.n,
        canary_over=pool.canary_over + canary.over,
        stable=pool.stable + stable.n,
        stable_over=pool.stable_over + stable.over,
    )


def _counts(pool: Pool) -> tuple[int, int, int, int]:
    return pool.canary, pool.canary_over, pool.stable, pool.stable_over


def stakes_with(
    metric: Metric, state: MetricState, canary: Count, stable: Count, settings: Settings
) -> tuple[Sequence[float], int]:
    """Stakes and minutes with the pool and one more minute that is still open: looked at, and not kept."""
    pool = pooled(state.pool, canary, stable)
    if not pool.canary or not pool.stable:
        return state.stakes, state.minutes
    gains = gained(*_counts(pool), design_effect(state), cap(metric, settings) ** pool.bad)
    return staked(state.stakes, state.minutes, gains), state.minutes + 1


def design_effect(state: MetricState) -> float:
    """How far the metric's requests go wrong together, by stable's minutes so far."""
    return effect(state.long, state.long_over, state.long_jumps, state.long_scatter)


def cap(metric: Metric, settings: Settings) -> float:
    """What a minute may count for in which any went wrong.

    Of slow answers four such may not decide alone, for a pod that stands still for three fills as many. Failures may.
    """
    return inf if metric is Metric.ERRORS else settings.abort_at(metric) ** (1 / 4)
