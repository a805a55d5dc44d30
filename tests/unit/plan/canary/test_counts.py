"""Evidence of gateways becomes minutes: nothing twice, nothing lost but what a gateway forgot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.routing import BOUNDS, Evidence, Minute, PodMinute
from pilotboat.plan.canary import Bounds, Count, Settings, Tally, advance, begin
from pilotboat.plan.canary.counts import judged, read
from pilotboat.plan.canary.slo import kept, measured, snap

from .worlds import BOUND, START, evidence

BOTH = Bounds(BOUND, BOUNDS[22])
M = 60


def test_requests_are_summed_and_pods_are_not() -> None:
    now = START + 2 * M + 10
    told = [evidence(name, now, {START: 100, START + M: 50}, {START: 10}) for name in "ab"]
    first, second = read(told, "old", "new", BOTH, START - M).strata
    assert first.stable == Tally(200, 0, Count(200, 20), Count(100, 10))
    assert first.canary == Tally(20, 0, Count(20, 2))
    assert second.stable.requests == 100
    assert second.canary == Tally()


def test_the_minute_that_may_still_grow_is_apart() -> None:
    told = [evidence("a", START + M + 1, {START: 100}, {START: 10}), evidence("b", START + M + 30, {START: 1})]
    reading = read(told, "old", "new", BOTH, START - M)
    assert reading.strata == ()
    assert reading.open is not None
    assert reading.open.stable.requests == 101


def test_who_gave_up_after_the_bound_is_a_late_first_token_and_of_the_others_nothing_is_known() -> None:
    minute = Minute(start=START, requests=7, first_token={"38": 1}, given_up={"20": 2, "44": 3, str(len(BOUNDS)): 1})
    told = [Evidence(gateway="a", now=START + 2 * M, minutes={"new": [minute]})]
    (stratum,) = read(told, "old", "new", BOTH, START - M).strata
    assert stratum.canary == Tally(7, 0, Count(5, 4))
    (unbound,) = read(told, "old", "new", Bounds(), START - M).strata
    assert unbound.canary == Tally(7)


def test_a_gateway_that_stopped_telling_holds_nothing_up() -> None:
    told = [evidence("a", START + 5 * M, {START: 1}), evidence("b", START - 10 * M, {START - 12 * M: 1})]
    assert [stratum.start for stratum in read(told, "old", "new", BOTH, START - M).strata] == [
        START + n * M for n in range(4)
    ]


def test_without_evidence_nothing_is_read() -> None:
    assert read([], "old", "new", BOTH, START).strata == ()
    assert measured([], "old") == Bounds()


def test_a_gateway_begun_anew_neither_doubles_nor_loses_what_was_absorbed() -> None:
    settings = Settings()
    history = {START + n * M: 100 for n in range(-60, 0)}
    state = begin([evidence("a", START + 5, history)], "old", settings, START + 5)
    canary: dict[int, int] = {}
    for minute in range(6):
        history[START + minute * M] = 95
        canary[START + minute * M] = 5
        now = START + (minute + 1) * M + 10
        if minute == 3:
            history.clear()
            canary.clear()
            told = [evidence("a2", now, {START + 3 * M: 40}, {START + 3 * M: 2})]
        else:
            told = [evidence("a" if minute < 3 else "a2", now, history, canary)]
        for _ in range(2):
            state, _ = advance(state, told, "old", "new", 10, settings)
    assert state.errors.canary == 5 * 5 + 2
    assert state.errors.stable == 5 * 95 + 40
    assert state.errors.long == 60 * 100 + 5 * 95 + 40


def test_a_rollout_begins_with_stables_last_hour_and_without_the_canarys_past() -> None:
    history = {START + n * M: 100 for n in range(-300, 0)}
    told = [evidence("a", START + 5, history, {START - 2 * M: 50})]
    state = begin(told, "old", Settings(), START + 5)
    assert (state.first_token_bound, state.per_token_bound) == (BOUNDS[38], BOUNDS[20])
    assert (state.errors.long, state.errors.canary, state.cursor) == (6000, 0, START - M)
    assert state.first_token.long_over == 600


def test_a_bound_once_known_never_moves_and_one_not_known_comes_later() -> None:
    state = begin([], "old", Settings(first_token_ms=200), START + 5)
    assert (state.first_token_bound, state.per_token_bound) == (snap(200), None)
    told = [evidence("a", START + 10 * M, {START + n * M: 50 for n in range(10)})]
    state, _ = advance(state, told, "old", "new", 10, Settings(first_token_ms=300))
    assert (state.first_token_bound, state.per_token_bound) == (snap(200), BOUNDS[20])
    assert state.per_token.long == 450


@pytest.mark.parametrize(
    ("milliseconds", "bound"), [(0.1, BOUNDS[0]), (1.0, 1.0), (1.01, 1.15), (200, 200.0), (1e9, BOUNDS[-1])]
)
def test_a_bound_is_never_stricter_than_asked(milliseconds: float, bound: float) -> None:
    assert snap(milliseconds) == pytest.approx(bound, rel=0.15)
    assert snap(milliseconds) >= min(milliseconds, BOUNDS[-1])


@given(st.dictionaries(st.integers(0, len(BOUNDS)).map(str), st.integers(1, 500), max_size=20))
def test_the_bound_taken_is_the_lowest_that_nine_of_ten_keep(histogram: dict[str, int]) -> None:
    bound = kept(histogram)
    if sum(histogram.values()) < 100:
        assert bound is None
        return
    if bound is not None:
        index = BOUNDS.index(bound)
        count = judged(histogram, bound)
        assert count.over <= 0.1 * count.n
        assert index == 0 or judged(histogram, BOUNDS[index - 1]).over > 0.1 * count.n


def test_the_fullest_account_of_a_pods_minute_counts() -> None:
    def told(gateway: str, *counts: int) -> Evidence:
        pods = [
            PodMinute(pod=f"p{n}", revision="old", start=START, per_token={"3": count})
            for n, count in enumerate(counts)
        ]
        return Evidence(gateway=gateway, now=START + 90, minutes={"old": [Minute(start=START)]}, pods=pods)

    (stratum,) = read([told("a", 5, 7), told("b", 9)], "old", "new", BOTH, START - M).strata
    assert stratum.stable.per_token == Count(16, 0)
