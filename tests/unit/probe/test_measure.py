"""Buckets, quantiles, kinds of errors: the arithmetic of counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.routing import BOUNDS
from pilotboat_probe.measure import MAX_KINDS, bucket, kinds, quantiles

TIMES = st.floats(0, 10_000_000)


@given(TIMES)
def test_a_bucket_holds_what_is_not_above_its_bound(value: float) -> None:
    index = bucket(value)
    assert index == len(BOUNDS) or value <= BOUNDS[index]
    assert index == 0 or value > BOUNDS[index - 1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (0, None, None, None)),
        ([7.0], (1, 7, 7, 7)),
        ([3.0, 1.0, 2.0], (3, 2, 3, 3)),
        ([float(n) for n in range(1, 101)], (100, 50, 95, 99)),
        ([float(n) for n in range(1, 202)], (201, 101, 191, 199)),
    ],
)
def test_quantiles_by_nearest_rank(values: list[float], expected: tuple[object, ...]) -> None:
    found = quantiles(values)
    assert (found.count, found.p50, found.p95, found.p99) == expected


@given(st.dictionaries(st.integers(100, 599).map(str), st.integers(1, 1000), max_size=60))
def test_no_error_is_lost_however_many_kinds(errors: dict[str, int]) -> None:
    told = kinds(errors)
    assert sum(told.values()) == sum(errors.values())
    assert len(told) <= MAX_KINDS + 1
