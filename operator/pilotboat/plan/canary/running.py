"""One metric's sufficient statistics while minutes are added to them.

Owns: what each minute does to a MetricState. Must not know: where minutes come from, or what is decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from ...api.analysis import Metric, MetricState
from .counts import Count
from .dispersion import effect, jump
from .eprocess import gained, staked
from .settings import Settings


class Running:
    """A MetricState taken apart. It changes, unlike all else here, and lives only as long as one call."""

    def __init__(self, metric: Metric, state: MetricState, settings: Settings) -> None:
        self._cap = cap(metric, settings)
        self._was = state
        self._canary = Count(state.canary, state.canary_over)
        self._stable = Count(state.stable, state.stable_over)
        self._added = Count()
        self._minutes, self._stakes, self._silent = state.minutes, state.stakes, state.silent
        self._long, self._long_over, self._last = state.long, state.long_over, Count(state.last, state.last_over)
        self._jumps, self._scatter = state.long_jumps, state.long_scatter

    def add(self, canary: Count, stable: Count, requests: int) -> None:
        """One more whole minute, in which the canary had so many requests, measured or not."""
        self._silent = 0 if canary.n else self._silent + requests
        if canary.n:
            self._added += canary
            self._canary += canary
            self._stable += stable
            self._bet(canary, stable)
        if stable.n:
            self._learn(stable)

    def _bet(self, canary: Count, stable: Count) -> None:
        """Before stable's minute is learned: a stake may depend only on what was known."""
        if stable.n:
            known = effect(self._long, self._long_over, self._jumps, self._scatter)
            gains = gained(canary.n, canary.over, stable.n, stable.over, known, self._cap)
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
            silent=self._silent,
            minutes=self._minutes,
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


def stakes_with(
    metric: Metric, state: MetricState, canary: Count, stable: Count, settings: Settings
) -> tuple[Sequence[float], int]:
    """Stakes and minutes with one more minute that is still open: looked at, and not kept."""
    if not canary.n or not stable.n:
        return state.stakes, state.minutes
    gains = gained(canary.n, canary.over, stable.n, stable.over, design_effect(state), cap(metric, settings))
    return staked(state.stakes, state.minutes, gains), state.minutes + 1


def design_effect(state: MetricState) -> float:
    """How far the metric's requests go wrong together, by stable's minutes so far."""
    return effect(state.long, state.long_over, state.long_jumps, state.long_scatter)


def cap(metric: Metric, settings: Settings) -> float:
    """No single minute of slow answers may decide alone: one stalled batch fills a minute. Failures may."""
    return inf if metric is Metric.ERRORS else settings.abort_at(metric) ** 0.5
