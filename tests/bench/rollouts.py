"""Rollouts judged by the code that ships, and by the others, and what came of them.

Owns: one cell of the grid (a world at a rate), from traces to shares. Must not know: goals, or how a cell is shown.

A look at every minute in which the canary had a request. After the last step a rollout that holds is extended by half
an hour at most, with the same count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

import numpy as np

from bench import rivals
from bench.traces import BEFORE, EXTENSION, MINUTES, ROLLOUT, Side, Trace, World, draw
from pilotboat.api.analysis import AnalysisState, Verdict
from pilotboat.plan.canary import Count, Settings, Stratum, Tally, absorb, judge

SETTINGS = Settings()
RIVALS = {
    "argo-1m": lambda trace: rivals.argo(trace, 1),
    "argo-10m": lambda trace: rivals.argo(trace, 10),
    "flagger-1m": lambda trace: rivals.flagger(trace, 1),
    "flagger-10m": lambda trace: rivals.flagger(trace, 10),
    "mann-whitney": rivals.mann_whitney,
    "independent": lambda trace: rivals.independent(trace, SETTINGS),
}


@dataclass(frozen=True)
class Ending:
    """How one rollout ended."""

    verdict: Verdict
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
        """Median of the canary's requests until it was aborted; none where none was."""
        requests = [ending.requests for ending in self.endings if ending.verdict is Verdict.ABORT]
        return median(requests) if requests else float("nan")

    @property
    def late(self) -> float:
        """Share not aborted within 25 of the canary's requests, nor at the first look."""
        early = (each for each in self.endings if each.verdict is Verdict.ABORT)
        return 1 - sum(each.requests <= 25 or each.minute == 1 for each in early) / len(self.endings)

    def rival(self, name: str) -> float:
        """Share of rollouts that another gate aborted."""
        return self.rivals[name] / len(self.endings)


def run(task: tuple[World, float, int, int]) -> Cell:
    """A world at a rate, so many rollouts, from a seed."""
    world, rate, rollouts, seed = task
    trace = draw(world, rate, rollouts, np.random.default_rng([seed, int(rate * 10)]))
    cell = Cell(world, rate, [ending(trace, rollout) for rollout in range(rollouts)])
    cell.rivals.update({name: int(rule(trace).sum()) for name, rule in RIVALS.items()})
    return cell


def ending(trace: Trace, rollout: int, proof_from: int = ROLLOUT) -> Ending:
    """One rollout from its first minute to its verdict; `proof_from`: the minute from which on proven is promoted."""
    minutes = strata(trace, rollout)
    state = AnalysisState(
        cursor=-60, first_token_bound=trace.first_bounds[rollout], per_token_bound=trace.token_bounds[rollout]
    )
    requests, fresh = 0, list(islice(minutes, BEFORE))
    for minute, stratum in enumerate(minutes, start=1):
        fresh.append(stratum)
        if not stratum.canary.requests:
            continue
        requests += stratum.canary.requests
        state = absorb(state, fresh, SETTINGS)
        fresh = []
        decision = judge(state, None, SETTINGS, minute >= proof_from, stratum.start + 65)
        if decision.verdict in (Verdict.ABORT, Verdict.PROMOTE):
            return Ending(decision.verdict, minute, requests)
    return Ending(Verdict.HOLD, ROLLOUT + EXTENSION, requests)


def strata(trace: Trace, rollout: int) -> Iterator[Stratum]:
    """A rollout's minutes as the operator has them."""
    pairs = zip(_tallies(trace.canary, rollout), _tallies(trace.stable, rollout), range(MINUTES), strict=True)
    return (Stratum(60 * minute, canary, stable) for canary, stable, minute in pairs)


def _tallies(side: Side, rollout: int) -> Iterator[Tally]:
    columns = (side.requests, side.errors, side.first_slow, side.token_slow)
    for requests, errors, first, token in zip(*(each[rollout].tolist() for each in columns), strict=True):
        yield Tally(requests, errors, Count(requests - errors, first), Count(requests - errors, token))
