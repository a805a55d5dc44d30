"""Thin minutes are compared as one, while the canary's share stays what it is."""

from __future__ import annotations

import pytest

from pilotboat.api.analysis import AnalysisState, Metric, Pool
from pilotboat.plan.canary import Stratum, Tally, absorb, advance
from pilotboat.plan.canary.eprocess import FIRST, gained, purse
from pilotboat.plan.canary.memory import asked, closed
from pilotboat.plan.canary.running import ENOUGH, LONGEST, cap, stakes_with

from .worlds import FRESH, SETTINGS, START, evidence, minutes, tally

BUSY = minutes(tally(5), tally(ENOUGH), 2)


def shown(state: AnalysisState, seen: Stratum) -> float:
    counts = seen.canary.of(Metric.ERRORS), seen.stable.of(Metric.ERRORS)
    return purse(*stakes_with(Metric.ERRORS, state.errors, *counts, SETTINGS))


def test_a_busy_minute_is_compared_alone() -> None:
    state = absorb(FRESH, BUSY, SETTINGS).errors
    assert (state.minutes, state.pool) == (2, Pool())


def test_a_pool_begins_with_the_canary_and_ends_with_enough_requests_or_minutes() -> None:
    before = absorb(FRESH, minutes(tally(0), tally(6), 4), SETTINGS).errors
    assert (before.pool, before.stable) == (Pool(), 0)
    thin = minutes(tally(1), tally(5), LONGEST)
    waiting = absorb(FRESH, thin[:-1], SETTINGS).errors
    assert (waiting.minutes, waiting.pool.minutes, waiting.pool.stable) == (0, LONGEST - 1, 5 * (LONGEST - 1))
    ended = absorb(FRESH, thin, SETTINGS).errors
    assert (ended.minutes, ended.pool, ended.stable) == (1, Pool(), 5 * LONGEST)
    enough = absorb(FRESH, [*thin[:3], *minutes(tally(1), tally(ENOUGH), 1, first=3)], SETTINGS).errors
    assert (enough.minutes, enough.pool) == (1, Pool())


def test_minutes_without_the_canary_count_beside_those_with_it() -> None:
    between = minutes(tally(0), tally(6), 8, first=1)
    seen = [*minutes(tally(1), tally(5), 1), *between, *minutes(tally(1, 1), tally(5), 1, first=9)]
    stakes = absorb(FRESH, seen, SETTINGS).errors.stakes
    assert stakes == pytest.approx([FIRST * gain for gain in gained(2, 1, 58, 0)])


def test_of_a_pools_minutes_only_those_with_slow_answers_count() -> None:
    """Three in which a pod stood still are three, however many good ones are pooled with them."""
    still = [*minutes(tally(1), tally(1), 7), *minutes(tally(12, 0, 12), tally(1), 3, first=7)]
    stakes = absorb(FRESH, still, SETTINGS).first_token.stakes
    assert max(stakes) == pytest.approx(FIRST * cap(Metric.FIRST_TOKEN, SETTINGS) ** 3)


def test_a_pool_may_abort_before_it_ends() -> None:
    state = absorb(FRESH, minutes(tally(1, 1), tally(19), 2), SETTINGS)
    assert state.errors.minutes == 0
    assert shown(state, Stratum(START + 120, tally(1, 1), tally(19))) > 100 > shown(state, Stratum(START + 120))


def test_another_share_ends_the_pool() -> None:
    told = [evidence("a", START + 125, {START: 5, START + 60: 5}, {START: 1, START + 60: 1})]
    state, _ = advance(FRESH, told, "old", "new", 5, SETTINGS)
    assert (state.weight, state.errors.minutes) == (5, 1)
    told = [evidence("a", START + 185, {START + 120: 5}, {START + 120: 1})]
    same, _ = advance(state, told, "old", "new", 5, SETTINGS)
    assert (same.errors.minutes, same.errors.pool.minutes) == (1, 1)
    other, _ = advance(state, told, "old", "new", 10, SETTINGS)
    assert (other.errors.minutes, other.errors.pool) == (2, Pool())


def test_an_end_without_requests_of_both_is_no_comparison() -> None:
    alone = closed(absorb(FRESH, [Stratum(START, tally(3, 3), Tally())], SETTINGS), SETTINGS)
    assert (alone.errors.minutes, alone.errors.stakes, alone.errors.pool) == (0, [], Pool())


def test_the_first_look_that_could_promote_is_remembered() -> None:
    few = asked(absorb(FRESH, minutes(tally(20), tally(200), 2), SETTINGS), SETTINGS)
    assert few.errors.asked == 0, "none could promote"
    first = asked(absorb(few, minutes(tally(20), tally(200), 1, first=2), SETTINGS), SETTINGS)
    later = asked(absorb(first, minutes(tally(20), tally(200), 9, first=3), SETTINGS), SETTINGS)
    assert (first.errors.asked, later.errors.asked, later.errors.promote) == (60, 60, 240)
