"""Shares by ready replicas: whole, fair, and only for those that serve."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.routing import MAX_LANES, WHOLE
from pilotboat.plan.shares import alive, by_ready


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=MAX_LANES))
def test_they_are_whole_and_within_one_of_exact(ready: list[int]) -> None:
    shares = by_ready(ready)
    assert sum(shares) == WHOLE
    for share, count in zip(shares, ready, strict=True):
        assert not sum(ready) or abs(share - WHOLE * count / sum(ready)) < 1
        assert count or not share or not sum(ready)


@pytest.mark.parametrize(
    ("ready", "shares"),
    [([0], [1000]), ([0, 2], [0, 1000]), ([1, 2], [333, 667]), ([1, 1, 1], [334, 333, 333]), ([0, 0], [1000, 0])],
)
def test_examples(ready: list[int], shares: list[int]) -> None:
    assert by_ready(ready) == shares


@pytest.mark.parametrize(
    ("weights", "ready", "given"),
    [
        ({"a": 25, "b": 75}, {"a": 1, "b": 3}, {"a": 25, "b": 75}),
        ({"a": 25, "b": 75}, {"b": 3}, {"a": 0, "b": 100}),
        ({"a": 25, "b": 75}, {"a": 1, "b": 0}, {"a": 100, "b": 0}),
        ({"a": 25, "b": 75}, {}, {"a": 25, "b": 75}),
        ({"a": 0, "b": 100}, {"a": 1}, {"a": 0, "b": 100}),
    ],
    ids=["both", "one", "the other", "none", "one that is to have nothing yet"],
)
def test_who_alone_has_anything_ready_has_it_all(
    weights: dict[str, int], ready: dict[str, int], given: dict[str, int]
) -> None:
    assert alive(weights, ready) == given
