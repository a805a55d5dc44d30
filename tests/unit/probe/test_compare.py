"""Likeness of answers, by tables; and what must hold of any two."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.probing import ProbeResult, Reference
from pilotboat.plan.canary.gates import perplexity
from pilotboat_probe.client import Answer
from pilotboat_probe.compare import BROKEN, IMPOSSIBLE, agreement, examples, likeness
from pilotboat_probe.report import measured


def words(text: str) -> Answer:
    return Answer(text, tuple(text.split()), None)


def scored(text: str, *logprobs: float) -> Answer:
    return Answer(text, tuple(text.split()), logprobs)


@pytest.mark.parametrize(
    ("one", "other", "exact", "prefix", "similarity"),
    [
        ("a b c d", "a b c d", 1, 1.0, 1.0),
        ("a b c d", "a b x d", 0, 0.5, 0.75),
        ("a b c d", "a b", 0, 0.5, 0.6667),
        ("a b c d", "x y z", 0, 0.0, 0.0),
        ("a b", "a  b", 0, 1.0, 1.0),
        ("", "", 1, 1.0, 1.0),
        ("", "a", 0, 0.0, 0.0),
    ],
)
def test_two_answers(one: str, other: str, exact: int, prefix: float, similarity: float) -> None:
    found = agreement([(words(one), words(other))])
    assert (found.answered, found.exact, found.prefix, found.similarity) == (1, exact, prefix, similarity)
    assert (found.log_likelihood, found.compared_tokens) == (None, 0)


def test_only_prompts_that_both_answered_are_compared() -> None:
    found = agreement([(words("a"), None), (None, words("a")), (None, None), (words("a b"), words("a c"))])
    assert (found.answered, found.unanswered, found.exact, found.prefix) == (1, 1, 0, 0.5)


def test_likelihood_is_compared_where_both_saw_the_same_text() -> None:
    found = agreement([(scored("a b c", -0.1, -0.2, -9.0), scored("a b x", -0.3, -0.6, -0.1))])
    assert (found.log_likelihood, found.compared_tokens) == (-0.3, 2)


@pytest.mark.parametrize("missing", [words("a b"), scored("x", -1.0), scored("a", -math.inf)])
def test_no_likelihood_where_nothing_can_be_compared(missing: Answer) -> None:
    assert agreement([(scored("a b", -0.1, -0.2), missing)]).log_likelihood is None


def referred(*prompts: str) -> list[Reference]:
    return [Reference(prompt=prompt, answer="a b") for prompt in prompts]


def test_perplexity_is_of_the_references_that_both_know() -> None:
    pairs = [
        (scored("a b", -1.0, -3.0), scored("a b", -1.5, -3.5)),
        (scored("a b", -2.0, -2.0), scored("ab", -3.0)),
        (words("a b"), scored("a b", -1.0, -1.0)),
        (scored("a b", -1.0, -1.0), None),
    ]
    found = likeness(referred("one", "two", "three", "four"), pairs)
    assert (found.references, found.gaps, found.worst) == (4, [0.5, -0.5], "one")
    assert found.stable == found.canary == pytest.approx(math.exp(2), abs=1e-4)


def test_an_impossible_token_does_not_decide_alone() -> None:
    found = likeness(referred("one"), [(scored("a b", -1.0, -1.0), scored("a b", -1.0, -math.inf))])
    assert found.gaps == [24.5]


@pytest.mark.parametrize(
    ("logprobs", "gap"),
    [
        ((math.nan, math.nan), 49.0),
        ((-1.0, math.nan), 24.5),
        ((math.inf, -1.0), 24.5),
        ((-3.4e38, -1.0), 24.5),
        ((1e-7, -2.0), 0.0),
        ((math.nan,) * 100, 49.0),
        ((-0.5,) * 4, 0.0),
    ],
)
def test_what_is_no_probability_counts_as_impossible(logprobs: tuple[float, ...], gap: float) -> None:
    """No more than that, though the canary cut the same text into many more tokens."""
    told = Answer("a b", tuple(map(str, logprobs)), logprobs)
    assert likeness(referred("one"), [(scored("a b", -1.0, -1.0), told)]).gaps == [gap]


def test_where_the_canarys_engine_fails_it_holds_nothing_likely() -> None:
    stable = scored("a b", -1.0, -1.0)
    pairs = [(stable, BROKEN), (stable, stable), (BROKEN, stable), (BROKEN, BROKEN), (None, BROKEN)]
    found = likeness(referred("one", "two", "three", "four", "five"), pairs)
    assert (found.gaps, found.canary_failed, found.worst) == ([49.0, 0.0], 1, "one")


ANY = st.lists(st.floats(), min_size=1, max_size=8).map(lambda told: Answer("a", tuple(map(str, told)), tuple(told)))


@given(st.lists(st.tuples(ANY, ANY), min_size=1, max_size=8))
def test_whatever_is_told_there_is_a_report_and_a_verdict(pairs: list[tuple[Answer, Answer]]) -> None:
    found = likeness(referred(*map(str, range(len(pairs)))), pairs)
    assert all(abs(gap) <= -IMPOSSIBLE for gap in found.gaps)
    told = measured(ProbeResult(canary="b", stable="a", perplexity=found))
    assert ProbeResult.model_validate(told.result).perplexity == found
    perplexity(found.gaps, 0.05)


def test_without_any_there_is_no_perplexity() -> None:
    found = likeness(referred("one"), [(words("c"), None)])
    assert (found.stable, found.canary, found.gaps, found.worst) == (None, None, [], "")


def test_the_earliest_differences_are_shown_from_where_they_begin() -> None:
    long = "same " * 20
    pairs = [(words("a b"), words("a b")), (words(long + "x"), words(long + "y")), (words("p q"), words("p r"))]
    found = examples(["equal", "late", "early"], [*pairs, (words("a"), None)][:3])
    assert [example.prompt for example in found] == ["early", "late"]
    assert found[1].stable.startswith("…")
    assert found[1].stable.endswith("same x")
    assert len(found[1].canary) < 40


ANSWERS = st.lists(st.sampled_from("abc"), max_size=12).map(lambda letters: words(" ".join(letters)))


@given(st.lists(st.tuples(ANSWERS, ANSWERS), max_size=8))
def test_measures_are_shares_and_symmetric_in_the_prefix(pairs: list[tuple[Answer, Answer]]) -> None:
    found, turned = agreement(pairs), agreement((other, one) for one, other in pairs)
    assert 0 <= found.prefix <= 1
    assert 0 <= found.similarity <= 1
    assert (found.exact, found.prefix) == (turned.exact, turned.prefix)
    assert agreement((one, one) for one, _ in pairs).exact == len(pairs)
