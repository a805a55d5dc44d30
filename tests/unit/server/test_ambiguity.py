"""In how many ways a pattern can take one text: exponentially many are refused, everyday ones are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat_server.ambiguity import MAX_FORKS, Looks, exponential

MANY = [
    r"^([a-z]|[a-z])+$",
    r"^([a-z]|\w)*x$",
    r"^(a|ab|b)+$",
    r"^(aa|a)*$",
    r"^(\w|\d)*$",
    r"^([a-z]|.)+$",
    r"^(x|[^y])*$",
    r"^(?:(a|b)|(b|c))+$",
    r"^(.|\n)*$",
    r"^(a*b?a*)+$",
    r"^(.*a.*b)*$",
    r"^([a-z]|[a-z]){0,20}$",
    "^" + "([a-z]|[a-z])" * (MAX_FORKS + 1) + "$",
    "^" + "a?" * 30 + "$",
    "^(" + "|".join(f"w{number:03}" for number in range(300)) + ")*$",
]
FEW = [
    "",
    "(((",
    r"^.*$",
    r"^[a-z]+$",
    r"^([a-z]+ ?)+$",
    r"^(a+)+$",
    r"^(foo|far|bar)+$",
    r"^([a-z]|\d)+$",
    r"^([A-Z][a-z]+ )*[A-Z][a-z]+$",
    r"^[^\"\\]*$",
    r"^\d{4}-\d{2}-\d{2}T(?:[01]\d|2[0-3]):[0-5]\dZ$",
    r"^((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)$",
    r"^[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}$",
    r"^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$",
    r"^(https?://)?[\w.-]+(/[\w.-]*)*$",
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$",
    "^" + "([a-z]|[a-z])" * MAX_FORKS + "$",
    "^(" + "|".join("abcdefghijklmnopqrstuvwxyz") + ")*$",
]


@pytest.mark.parametrize("pattern", MANY)
def test_a_pattern_with_exponentially_many_ways_is_known(pattern: str) -> None:
    assert exponential(pattern, Looks())


@pytest.mark.parametrize("pattern", FEW)
def test_a_pattern_of_everyday_has_few(pattern: str) -> None:
    assert not exponential(pattern, Looks())


def test_many_patterns_have_no_more_looks_than_one() -> None:
    looks = Looks()
    assert not exponential("^[a-z]+$", looks)
    assert any(exponential("^" + "a?" * 9 + "(b|c)$", looks) for _ in range(10_000))


@given(st.text(r"ab.[]^-\d()|?*+{}$,20ux", max_size=24))
def test_whatever_stands_there_is_read(pattern: str) -> None:
    exponential(pattern, Looks())


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=4, unique=True))
def test_alternatives_that_begin_differently_are_one_way_and_twice_the_same_are_two(letters: list[str]) -> None:
    assert not exponential(f"^({'|'.join(letters)})+$", Looks())
    assert exponential(f"^({'|'.join([*letters, letters[0]])})+$", Looks())
