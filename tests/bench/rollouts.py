"""Rollouts judged by the code that ships, and by the others, and what came of them.

Owns: one cell of the grid (a world at a rate), from traces to shares. Must not know: goals, or how a cell is shown.

A look every three seconds, as the operator looks, at the open minute too. After the last step a rollout that holds is
looked at for half an hour more, with the same count; the operator goes on for as long as it takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from statistics import median

import numpy as np

from bench import oracles, rivals
from bench.traces import BEFORE, EXTENSION, MINUTES, ROLLOUT, STEP, Trace, World, draw
from pilotboat.api.analysis import AnalysisState, Metric, Verdict, Why
from pilotboat.plan.canary import Count, Settings, Stratum, Tally, absorb, judge
from pilotboat.plan.canary.eprocess import RATIOS, purse, staked
from pilotboat.plan.canary.memory import ENOUGH_FAILING, asked, closed
from pilotboat.plan.canary.running import cap, design_effect, stakes_with

SETTINGS = Settings()
BEGINS = range(1, ROLLOUT, STEP)
"""Minutes in which a step begins."""
RIVALS = {
    "argo-1m": lambda trace: rivals.argo(trace, 1),
    "argo-10m": lambda trace: rivals.argo(trace, 10),
    "flagger-1m": lambda trace: rivals.flagger(trace, 1),
    "flagger-10m": lambda trace: rivals.flagger(trace, 10),
    "mann-whitney": rivals.mann_whitney,
    "independent": lambda trace: rivals.independent(trace, SETTINGS),
}
SOON = 25
"""Requests of the canary within which 20 % errors are to be found."""
ORACLES = {"known-rates": oracles.known_rates, "known-split": oracles.known_split}


@dataclass(frozen=True)
class Ending:
    """How one rollout ended."""

    verdict: Verdict
    why: Why | None
    """None where it was still undecided."""
    minute: int
    """Of the rollout, the first is 1."""
    requests: int
    """The canary's until then."""


@dataclass
class Cell:
    """What came of many rollouts of one world at one rate."""

    world: World
    rate: float
    endings: list[Ending] = field(default_factory=list)
    rivals: Counter[str] = field(default_factory=Counter)
    """How many each of the others aborted."""
    oracles: dict[str, list[float]] = field(default_factory=dict)
    """The canary's requests until each oracle aborted, where its errors are worse."""

    def share(self, verdict: Verdict) -> float:
        """Of all rollouts, those that ended so."""
        return sum(ending.verdict is verdict for ending in self.endings) / len(self.endings)

    @property
    def in_time(self) -> float:
        """Share promoted without an extension."""
        good = (ending for ending in self.endings if ending.verdict is Verdict.PROMOTE)
        return sum(ending.minute <= ROLLOUT for ending in good) / len(self.endings)

    @property
    def until_abort(self) -> float:
        """Median of the canary's requests until it was aborted, of those that were; none where none was."""
        requests = [ending.requests for ending in self.endings if ending.verdict is Verdict.ABORT]
        return median(requests) if requests else float("nan")

    @property
    def late(self) -> float:
        """Share not aborted within 25 of the canary's requests."""
        early = (each for each in self.endings if each.verdict is Verdict.ABORT)
        return 1 - sum(each.requests <= SOON for each in early) / len(self.endings)

    def best(self, name: str) -> float:
        """Median of the canary's requests until an oracle aborted; infinite where half were not."""
        return median(self.oracles.get(name, [inf]))

    def rival(self, name: str) -> float:
        """Share of rollouts that another gate aborted."""
        return self.rivals[name] / len(self.endings)


def run(task: tuple[World, float, int, int]) -> Cell:
    """A world at a rate, so many rollouts, from a seed."""
    world, rate, rollouts, seed = task
    trace = draw(world, rate, rollouts, np.random.default_rng([seed, int(rate * 10)]))
    cell = Cell(world, rate, [ending(trace, rollout) for rollout in range(rollouts)])
    if world.canary and not world.late:
        cell.oracles = {name: best(world, trace).tolist() for name, best in ORACLES.items()}
    cell.rivals.update({name: int(rule(trace).sum()) for name, rule in RIVALS.items()})
    return cell


def ending(trace: Trace, rollout: int, proof_from: int = ROLLOUT) -> Ending:
    """One rollout from its first minute to its verdict, looked at as the operator does; `proof_from`: the minute from
    which on proven is promoted."""
    minutes = strata(trace, rollout)
    fresh = [looks.whole for looks in islice(minutes, BEFORE)]
    bounds = {"first_token_bound": trace.first_bounds[rollout], "per_token_bound": trace.token_bounds[rollout]}
    state, requests = AnalysisState(cursor=-60, **bounds), 0
    for minute, looks in enumerate(minutes, start=1):
        whole = looks.whole
        if not whole.canary.requests and minute not in BEGINS:
            fresh.append(whole)
            continue
        state = absorb(state, fresh, SETTINGS)
        if minute in BEGINS:
            state = closed(state, SETTINGS)
        for seen in worth_a_look(state, looks):
            made = judge(state, seen, SETTINGS, False, seen.start)
            if made.verdict is Verdict.ABORT:
                return Ending(made.verdict, made.why, minute, requests + seen.canary.requests)
        requests += whole.canary.requests
        state, fresh = absorb(state, [whole], SETTINGS), []
        if minute >= proof_from:
            made = judge(state, None, SETTINGS, True, whole.start + 65)
            state = asked(state, SETTINGS)
            if made.verdict is Verdict.PROMOTE:
                return Ending(made.verdict, made.why, minute, requests)
    return Ending(Verdict.HOLD, None, ROLLOUT + EXTENSION, requests)


@dataclass(frozen=True)
class Minute:
    """One minute as the operator sees it come."""

    start: int
    canary: list[list[int]]
    """Of each look the four counts of Side.looks."""
    stable: list[list[int]]

    @property
    def whole(self) -> Stratum:
        """What there is at the last look."""
        return Stratum(self.start, _tally(self.canary[-1]), _tally(self.stable[-1]))

    @property
    def looks(self) -> Iterator[Stratum]:
        """What there is at each look."""
        for canary, stable in zip(self.canary, self.stable, strict=True):
            yield Stratum(self.start, _tally(canary), _tally(stable))


def strata(trace: Trace, rollout: int) -> Iterator[Minute]:
    """A rollout's minutes."""
    sides = (np.moveaxis(side.looks[:, rollout], 0, -1).tolist() for side in (trace.canary, trace.stable))
    return map(Minute, range(0, 60 * MINUTES, 60), *sides)


def _tally(counts: list[int]) -> Tally:
    requests, errors, first, token = counts
    return Tally(requests, errors, Count(requests - errors, first), Count(requests - errors, token))


def worth_a_look(state: AnalysisState, minute: Minute) -> Iterator[Stratum]:
    """Those of a minute's looks that might abort: the others are judged to no end, and most of the time would go there.

    A metric whose purse would not do if the split were the worst there can be is not weighed, and the hard stop wants
    half of ten requests or more.
    """
    whole, failed = minute.whole.canary, sum(each.errors for each in state.latest)
    metrics = [metric for metric in SETTINGS.metrics if _reachable(metric, state, whole.of(metric).over)]
    if not metrics and 2 * (failed + whole.errors) < ENOUGH_FAILING:
        return
    for seen in minute.looks:
        failing = 2 * (failed + seen.canary.errors) >= max(ENOUGH_FAILING, seen.canary.requests)
        if failing or any(_aborts(metric, state, seen) for metric in metrics):
            yield seen


def _reachable(metric: Metric, state: AnalysisState, over: int) -> bool:
    """Whether so many wrong in a minute could ever abort: beside endless good requests of stable, all that r allows."""
    known = state.of(metric)
    over += known.pool.canary_over
    if not over:
        return False
    most = cap(metric, SETTINGS) ** (known.pool.bad + 1)
    gains = [min(most, ratio ** min(over / design_effect(known), 50)) for ratio in RATIOS]
    return purse(staked(known.stakes, known.minutes, gains), known.minutes + 1) >= SETTINGS.abort_at(metric)


def _aborts(metric: Metric, state: AnalysisState, seen: Stratum) -> bool:
    """Whether a metric's evidence is enough."""
    counts = seen.canary.of(metric), seen.stable.of(metric)
    return purse(*stakes_with(metric, state.of(metric), *counts, SETTINGS)) >= SETTINGS.abort_at(metric)
