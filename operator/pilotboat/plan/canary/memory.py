"""What a rollout has learned so far: minutes go in, sufficient statistics stay.

Owns: how AnalysisState begins, grows and begins anew. Must not know: what is decided from it.

Minutes are absorbed in order and one by one, each weighed by what was known before it, so that it does not matter
in how many pieces they come, nor whether the operator was started anew between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce

from ...api.analysis import PERIOD, AnalysisState, Latest, Metric, MetricState
from ...api.routing import Evidence
from . import running
from .counts import Bounds, Count, Stratum, Tally, read
from .settings import EVERY, Settings
from .slo import measured, snap

BEFORE = 3600
"""Seconds before the rollout from which stable's rate, scatter and bounds are known."""
ENOUGH_FAILING = 10
"""Requests among which the hard stop looks for failures."""


def begin(evidence: Sequence[Evidence], stable: str, settings: Settings, now: float) -> AnalysisState:
    """The state of a rollout that begins now: bounds, and what stable has been like in the last hour."""
    last = int(now) // PERIOD * PERIOD - PERIOD
    state = settled(AnalysisState(cursor=last - BEFORE), evidence, stable, settings)
    strata = read(evidence, stable, "", bounds(state), state.cursor).strata
    state = absorb(state, strata, settings)
    return state.model_copy(update={"cursor": max(state.cursor, last)})


def advance(
    state: AnalysisState, evidence: Sequence[Evidence], stable: str, canary: str, weight: int, settings: Settings
) -> tuple[AnalysisState, Stratum | None]:
    """The state with every whole minute that has passed since, and the minute now open.

    `weight`: the canary's share now, in percent.
    """
    state = settled(state, evidence, stable, settings)
    reading = read(evidence, stable, canary, bounds(state), state.cursor)
    grown = absorb(state, reading.strata, settings)
    if weight != grown.weight:
        grown = closed(grown, settings).model_copy(update={"weight": weight})
    return grown, reading.open


def settled(state: AnalysisState, evidence: Sequence[Evidence], stable: str, settings: Settings) -> AnalysisState:
    """The state with bounds, where they were not known and now can be; a known bound never moves.

    Stable's last hour decides, or all that is known of it where that hour was too quiet.
    """
    if state.first_token_bound and state.per_token_bound:
        return state
    recent, ever = measured(evidence, stable, state.cursor - BEFORE), measured(evidence, stable)
    first = settings.first_token_ms and snap(settings.first_token_ms)
    per = settings.per_token_ms and snap(settings.per_token_ms)
    return state.model_copy(
        update={
            "first_token_bound": state.first_token_bound or first or recent.first_token or ever.first_token,
            "per_token_bound": state.per_token_bound or per or recent.per_token or ever.per_token,
        }
    )


def bounds(state: AnalysisState) -> Bounds:
    """The bounds against which evidence is read."""
    return Bounds(state.first_token_bound, state.per_token_bound)


def asked(state: AnalysisState, settings: Settings) -> AnalysisState:
    """The state after a look that could have promoted: of each metric the first such look is remembered."""
    return _each(
        state,
        lambda _, known: (
            known.model_copy(update={"asked": known.promote})
            if not known.asked and known.promote >= settings.min_samples
            else known
        ),
    )


def closed(state: AnalysisState, settings: Settings) -> AnalysisState:
    """The state with every pool ended: the minutes that follow are of another share, or of other requests."""
    return _each(state, lambda metric, known: running.closed(metric, known, settings))


def _each(state: AnalysisState, change: Callable[[Metric, MetricState], MetricState]) -> AnalysisState:
    """The state with each metric's changed."""
    names = {Metric.ERRORS: "errors", Metric.FIRST_TOKEN: "first_token", Metric.PER_TOKEN: "per_token"}
    return state.model_copy(update={name: change(metric, state.of(metric)) for metric, name in names.items()})


def absorb(state: AnalysisState, strata: Iterable[Stratum], settings: Settings) -> AnalysisState:
    """The state with these minutes in it; those that are in it already change nothing."""
    fresh = [stratum for stratum in strata if stratum.start > state.cursor]
    if not fresh:
        return state
    warmed, canaries = _judged(state.warmed, fresh, settings.warmup)
    after = {
        metric: running.grown(metric, state.of(metric), _of(metric, canaries, fresh), settings) for metric in EVERY
    }
    return AnalysisState(
        cursor=fresh[-1].start,
        weight=state.weight,
        first_token_bound=state.first_token_bound,
        per_token_bound=state.per_token_bound,
        warmed=warmed,
        heard=state.heard + _heard(canaries, fresh, settings.since),
        errors=after[Metric.ERRORS],
        first_token=after[Metric.FIRST_TOKEN],
        per_token=after[Metric.PER_TOKEN],
        latest=reduce(latest, fresh, state.latest),
    )


def _judged(warmed: int, strata: Sequence[Stratum], warmup: int) -> tuple[int, list[Tally]]:
    """Requests spent on warming up after these minutes, and what of the canary's is judged in each."""
    tallies = []
    for stratum in strata:
        warm = warmed >= warmup
        tallies.append(stratum.canary if warm else Tally())
        warmed += 0 if warm else stratum.canary.requests
    return warmed, tallies


def _heard(canaries: Iterable[Tally], strata: Iterable[Stratum], since: float) -> int:
    return sum(tally.requests for tally, at in zip(canaries, strata, strict=True) if at.start >= since)


def _of(metric: Metric, canaries: Iterable[Tally], strata: Iterable[Stratum]) -> Iterator[tuple[Count, Count, int]]:
    """One metric's counts, minute by minute."""
    for canary, stratum in zip(canaries, strata, strict=True):
        yield canary.of(metric), stratum.stable.of(metric), canary.requests


def latest(before: list[Latest], stratum: Stratum) -> list[Latest]:
    """The shortest run of minutes up to this one in which the canary had enough requests for the hard stop."""
    canary, stable = stratum.canary, stratum.stable
    if not canary.requests:
        return before
    minutes = [
        *before,
        Latest(requests=canary.requests, errors=canary.errors, stable=stable.requests, stable_errors=stable.errors),
    ]
    while sum(minute.requests for minute in minutes[1:]) >= ENOUGH_FAILING:
        minutes = minutes[1:]
    return minutes
