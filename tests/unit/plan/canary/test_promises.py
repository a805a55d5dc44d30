"""What DESIGN §6 promises of the judgement, on a small part of `make bench-canary`'s grid and from a fixed seed.

A share fails only where so small a sample would exceed the promise less often than once in a thousand, by the exact
binomial distribution: that says little of a judgement that became a few times worse. So the very endings are pinned as
well. Whoever changes the judgement sees here what it does, runs `make bench-canary`, and writes the new ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import comb

import numpy as np
import pytest

from bench import traces
from bench.canary import SEED
from bench.rollouts import SETTINGS, Cell, ending, run, strata, worth_a_look
from bench.traces import BATCHES, MINUTES_LONG, Trace, World, draw
from pilotboat.api.analysis import AnalysisState, Verdict
from pilotboat.plan.canary import absorb, judge


@dataclass(frozen=True)
class Promise:
    world: World
    rate: float
    ended: tuple[int, int, int]
    """How many are aborted, promoted and held, by the code that is here and the numpy of requirements-dev.txt."""
    minutes: int
    """Until then, of all of them together."""
    aborted: float = 1
    promoted: float = 1
    not_promoted: float = 1
    """At most these shares."""


HEALTHY = {"aborted": 0.02}
PROMISES = (
    Promise(World("healthy"), 6, (0, 28, 32), 3829, **HEALTHY),
    Promise(World("healthy"), 30, (0, 80, 0), 3223, **HEALTHY, not_promoted=0.10),
    Promise(World("healthy, 3 %", stable=0.03), 120, (0, 60, 0), 2400, **HEALTHY, not_promoted=0.01),
    Promise(World("incident", incident=True), 120, (0, 60, 0), 2419, **HEALTHY),
    Promise(World("bursts", bursts=True), 120, (0, 80, 0), 3245, **HEALTHY),
    Promise(World("stalls", stalls=BATCHES), 120, (0, 80, 0), 3200, **HEALTHY),
    Promise(World("stalls, 3 %", stable=0.03, stalls=BATCHES), 1000, (0, 60, 0), 2409, **HEALTHY),
    Promise(World("long stalls", stalls=MINUTES_LONG), 1000, (0, 80, 0), 3282, **HEALTHY),
    Promise(World("errors 1 → 5 %", canary=0.05), 30, (75, 2, 3), 3196, promoted=0.05),
    Promise(World("errors 3 → 7 %", stable=0.03, canary=0.07), 120, (60, 0, 0), 1666, promoted=0.05),
    Promise(World("first token ×2", first_token=2), 30, (100, 0, 0), 1511, promoted=0.05),
    Promise(World("per token ×2", per_token=2), 30, (100, 0, 0), 1693, promoted=0.05),
    Promise(World("healthy"), 1, (0, 0, 20), 1400, **HEALTHY),
    Promise(World("first token ×1.5", first_token=1.5), 120, (40, 0, 0), 625),
    Promise(World("all three", canary=0.05, first_token=1.5, per_token=1.5), 30, (60, 0, 0), 1422, promoted=0.05),
)


def binomial_tail(n: int, k: int, share: float) -> float:
    """Probability of k or more of n."""
    return sum(comb(n, hits) * share**hits * (1 - share) ** (n - hits) for hits in range(k, n + 1))


@pytest.mark.parametrize(
    ("world", "rate", "rollouts"),
    [
        (World("errors 1 → 5 %", canary=0.05), 120, 60),
        (World("first token ×2", first_token=2), 30, 60),
    ],
    ids=lambda each: each.name if isinstance(each, World) else str(each),
)
def test_whichever_steps_ask_for_the_proof_it_is_as_rarely_wrong(world: World, rate: float, rollouts: int) -> None:
    """The worst that `proven` can do: it is asked for at each minute of every step, and once is enough."""
    trace = draw(world, rate, rollouts, np.random.default_rng(SEED))
    proven = sum(ending(trace, number, proof_from=1).verdict is Verdict.PROMOTE for number in range(rollouts))
    assert binomial_tail(rollouts, proven, 0.05) > 1e-3, proven


def judged(world: World, rate: float, rollouts: int) -> Cell:
    return run((world, rate, rollouts, SEED))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: f"{promise.world.name} at {promise.rate}")
def test_a_promise_is_kept(promise: Promise) -> None:
    count = sum(promise.ended)
    endings = judged(promise.world, promise.rate, count).endings
    verdicts = Counter(ending.verdict for ending in endings)
    aborted, promoted, held = (verdicts[each] for each in (Verdict.ABORT, Verdict.PROMOTE, Verdict.HOLD))
    for most, hits in (
        (promise.aborted, aborted),
        (promise.promoted, promoted),
        (promise.not_promoted, count - promoted),
    ):
        assert binomial_tail(count, hits, most) > 1e-3, (most, hits, count)
    assert ((aborted, promoted, held), sum(ending.minute for ending in endings)) == (promise.ended, promise.minutes)


@pytest.mark.parametrize("rate", [30, 120, 1000])
def test_twenty_per_cent_errors_are_aborted_within_twenty_five_requests(rate: float) -> None:
    """The median is, if half are."""
    cell = judged(World("errors 1 → 20 %", canary=0.20), rate, 100)
    assert binomial_tail(100, round(100 * cell.late), 0.5) > 1e-3


def test_at_six_a_minute_no_test_of_the_split_alone_is_much_sooner() -> None:
    """25 are promised, and missed there: what knew how bad the canary is would need 18 in the whole grid, ours 30."""
    cell = judged(World("errors 1 → 20 %", canary=0.20), 6, 100)
    assert cell.best("known-rates") < cell.best("known-split") < cell.until_abort < 2 * cell.best("known-split")


def test_thirty_a_minute_are_promoted_without_an_extension() -> None:
    """Nine of ten, as promised; by Wald's own bound it were eight."""
    cell = judged(World("healthy"), 30, 150)
    late = round(150 * (1 - cell.in_time))
    assert binomial_tail(150, late, 0.10) > 1e-3
    assert binomial_tail(150, late + 1, 0.20) > 1 - 1e-3, "and hardly by chance"


@pytest.mark.parametrize("bound", [traces.BOUNDS[0], traces.BOUNDS[-1]])
def test_a_bound_beyond_all_bins_loses_no_answer(bound: float) -> None:
    """Found by a seed: the whole grid ended with an error at 6 requests a minute."""
    answered, stalled, slow = (np.full((2, 5), number) for number in (10, 1, 3))
    rng = np.random.default_rng(SEED)
    drawn = traces._histogram(answered, stalled, slow, 1.0, np.zeros(5, bool), [bound, bound], rng)
    assert (drawn.sum(axis=-1) == answered).all()


@pytest.mark.parametrize("rate", [6, 120])
def test_no_look_that_the_simulation_leaves_out_would_abort(rate: float) -> None:
    trace = draw(World("worse", canary=0.15, first_token=2), rate, 4, np.random.default_rng(SEED))
    seen = [each for rollout in range(4) for each in until_abort(trace, rollout)]
    assert [kept for kept, verdict in seen if verdict is Verdict.ABORT] == [True] * 4
    assert sum(not kept for kept, _ in seen) > len(seen) / 2, "and most are left out"


def until_abort(trace: Trace, rollout: int) -> Iterator[tuple[bool, Verdict]]:
    """Of every look whether the simulation takes it, and what it says."""
    bounds = {"first_token_bound": trace.first_bounds[rollout], "per_token_bound": trace.token_bounds[rollout]}
    state = AnalysisState(cursor=-60, **bounds)
    for minute in strata(trace, rollout):
        taken = list(worth_a_look(state, minute))
        for seen in minute.looks:
            verdict = judge(state, seen, SETTINGS, False, seen.start).verdict
            yield seen in taken, verdict
            if verdict is Verdict.ABORT:
                return
        state = absorb(state, [minute.whole], SETTINGS)


def test_six_requests_a_minute_are_too_few_to_promote_in_time() -> None:
    assert judged(World("healthy"), 6, 60).in_time <= 0.05


def test_without_deflation_stalls_would_abort_healthy_canaries() -> None:
    """So the remedy is needed: the same evidence taken request by request."""
    cell = judged(World("stalls", stalls=BATCHES), 1000, 40)
    assert cell.rival("independent") > 0.5
    assert cell.share(Verdict.ABORT) <= 0.1
