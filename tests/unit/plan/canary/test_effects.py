"""Intervals and gates against published examples and by their own laws."""

from __future__ import annotations

from itertools import pairwise
from math import comb, exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.plan.canary.dispersion import effect, jump
from pilotboat.plan.canary.effects import compare, difference, share
from pilotboat.plan.canary.gates import answers, load, perplexity, student
from pilotboat.plan.canary.sprt import bound, likelihood


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_in_newcombe_1998a(hits: int, of: int, low: float, high: float) -> None:
    made = share(hits, of)
    assert (made.low, made.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@pytest.mark.parametrize(
    ("a", "of_a", "b", "of_b", "low", "high"),
    [
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_differences_as_in_newcombe_1998b(a: int, of_a: int, b: int, of_b: int, low: float, high: float) -> None:
    made = difference(a, of_a, b, of_b)
    assert (made.low, made.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


counts = st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(lambda pair: (min(pair), max(pair)))


@given(counts, counts)
def test_a_difference_swapped_is_its_opposite(one: tuple[int, int], two: tuple[int, int]) -> None:
    there, back = difference(*one, *two), difference(*two, *one)
    assert there.low == pytest.approx(-back.high)
    assert -1 <= there.low <= there.estimate <= there.high <= 1


def test_outcomes_are_shares_of_what_was_posted() -> None:
    bad, good = compare({"good": 700, "bad": 300}, {"good": 850, "bad": 150})
    assert (bad.outcome, good.outcome) == ("bad", "good")
    assert good.effect.estimate == pytest.approx(0.15)
    assert good.effect.settled
    assert not compare({"good": 2}, {"good": 1, "bad": 1})[0].effect.settled


@pytest.mark.parametrize(
    ("equal", "of", "threshold", "passed"),
    [(0, 0, 0.9, None), (50, 50, 0.9, True), (50, 50, 0.95, False), (190, 200, 0.9, True), (180, 200, 0.9, False)],
)
def test_answers_must_surely_be_the_same(equal: int, of: int, threshold: float, passed: bool | None) -> None:
    assert answers(equal, of, threshold).passed is passed


def test_perplexity_must_surely_be_no_higher() -> None:
    assert perplexity([0.0] * 50, 0.0).passed
    assert perplexity([0.02] * 50, 0.05).passed
    assert not perplexity([0.06] * 50, 0.05).passed
    assert not perplexity([0.3 * (-1) ** n for n in range(50)], 0.05).passed
    assert perplexity([0.0] * 5, 0.05).passed is None


@pytest.mark.parametrize(
    ("requests", "errors", "p95", "passed"), [(99, 0, 1, None), (200, 2, 900, True), (200, 3, 900, False)]
)
def test_a_load_must_be_borne(requests: int, errors: int, p95: float, passed: bool | None) -> None:
    assert load(requests, errors, p95, 1000, 0.01).passed is passed


def test_a_load_too_slow_is_not_borne() -> None:
    assert load(200, 0, 1001, 1000, 0.01).passed is False


@pytest.mark.parametrize(("freedom", "quantile"), [(5, 2.015), (10, 1.8125), (30, 1.6973), (1000, 1.6464)])
def test_students_quantiles_as_in_tables(freedom: int, quantile: float) -> None:
    assert student(0.95, freedom) == pytest.approx(quantile, rel=0.01)


def binomial(n: int, over: int, rate: float) -> float:
    return comb(n, over) * rate**over * (1 - rate) ** (n - over)


def test_walds_likelihood_and_his_bound_where_looks_begin_early() -> None:
    assert bound(0.05, 0, 0.01, 0.04) == bound(0.05, 20, 0.01, 0.04) == pytest.approx(-2.996, abs=1e-3)
    assert likelihood(72, 0, 0.01, 0.04) == pytest.approx(-2.97, abs=0.01)
    assert likelihood(72, 0, 0.01, 0.04, effect=2) == pytest.approx(-1.485, abs=0.01)
    assert likelihood(10, 10, 1.0, 0.04) > likelihood(10, 0, 1.0, 0.04)


@given(st.integers(0, 400), st.floats(0.005, 0.5), st.sampled_from([0.04, 0.1]))
def test_the_bound_never_costs_more_than_its_risk(first: int, good: float, margin: float) -> None:
    """At the first look, and by Ville's inequality ever after."""
    at = bound(0.05, first, good, margin)
    risk = sum(
        binomial(first, over, good + margin) * min(1.0, exp(at - likelihood(first, over, good, margin)))
        for over in range(first + 1)
    )
    assert log(0.05) - 1e-9 <= at <= 0
    assert risk <= 0.05 + 1e-9
    assert at == 0 or risk == pytest.approx(0.05), "and spends all of it"


def test_a_first_look_after_the_steps_of_thirty_a_minute_promotes_more_of_the_good() -> None:
    """270 requests: of the good at 1 % Wald's own bound would promote 86 of 100 at that look."""

    def promoted(at: float) -> float:
        return sum(binomial(270, over, 0.01) for over in range(271) if likelihood(270, over, 0.01, 0.04) <= at)

    assert promoted(log(0.05)) < 0.9 < 0.97 < promoted(bound(0.05, 270, 0.01, 0.04))


def test_requests_that_go_wrong_together_make_the_first_look_an_earlier_one() -> None:
    assert bound(0.05, 270, 0.03, 0.04, effect=3) == bound(0.05, 90, 0.03, 0.04)


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 100)), max_size=50))
def test_the_design_effect_is_one_or_more(seen: list[tuple[int, int]]) -> None:
    clipped = [(n, min(n, over)) for n, over in seen]
    n, over = sum(n for n, _ in clipped), sum(over for _, over in clipped)
    scatter = sum(jump(*one, *two) for one, two in pairwise(clipped))
    assert effect(n, over, max(0, len(clipped) - 1), scatter) >= 1


def test_heaps_of_ten_count_about_as_a_tenth() -> None:
    heaps = [10, 0, 0, 0, 0, 0, 0, 0, 0, 0] * 12
    scatter = sum(jump(100, one, 100, two) for one, two in pairwise(heaps))
    assert effect(100 * len(heaps), sum(heaps), len(heaps) - 1, scatter) == pytest.approx(10, rel=0.1)
