"""What of a zone's requests the replicas elsewhere bear, each revision by its share."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pilotboat.plan.capacity import need
from pilotboat.plan.load import ALIKE, Load

Two = tuple[int, int]
"""Of stable, of the canary."""


def both(counts: Two) -> dict[str, int]:
    return {"s": counts[0], "c": counts[1]}


def beside(canary: int, whole: int = 10) -> Load:
    """A canary that has so many per cent."""
    return Load(whole, {"c": canary, "s": 100 - canary})


@pytest.mark.parametrize(
    ("canary", "here", "elsewhere", "kept"),
    [
        (10, (2, 0), (9, 1), {}),
        (10, (2, 1), (8, 2), {"s": 1}),  # there are ten, but not of those who bear nine tenths
        (50, (4, 1), (6, 4), {"c": 1}),
        (50, (3, 3), (4, 3), {"s": 1, "c": 2}),
        (0, (2, 0), (9, 5), {"s": 1}),  # it bears nothing yet, or nothing any more
        (0, (2, 2), (10, 0), {}),
        (100, (1, 2), (0, 9), {"c": 1}),
        (10, (2, 1), (10, 0), {}),  # the canary's requests go to stable, which bears them
        (10, (0, 1), (9, 0), {"c": 1}),  # which does not
        (10, (1, 0), (9, 0), {"s": 1}),  # and has them already
        (90, (1, 1), (0, 10), {}),
        (90, (1, 1), (0, 9), {"s": 1}),
        (50, (2, 2), (0, 0), {"s": 2, "c": 2}),
        (50, (0, 0), (2, 2), {}),  # nobody there answers: there is nothing to keep
        (50, (0, 0), (0, 0), {}),
    ],
)
def test_each_revision_keeps_what_its_own_replicas_elsewhere_do_not_bear(
    canary: int, here: Two, elsewhere: Two, kept: dict[str, int]
) -> None:
    assert beside(canary).kept(both(here), both(elsewhere)) == kept


@pytest.mark.parametrize(
    ("whole", "here", "elsewhere", "kept"), [(3, 2, 2, 1), (3, 2, 3, 0), (3, 1, 0, 1), (0, 2, 0, 0)]
)
def test_beside_no_canary_all_replicas_are_alike(whole: int, here: int, elsewhere: int, kept: int) -> None:
    load = Load(whole)
    assert load.part("any") == ALIKE
    assert sum(load.kept({ALIKE: here}, {ALIKE: elsewhere}).values()) == kept


def test_whoever_has_no_share_counts_as_neither() -> None:
    assert [beside(10).part(revision) for revision in ("s", "c", "older", None)] == ["s", "c", ALIKE, ALIKE]


counts = st.tuples(st.integers(0, 12), st.integers(0, 12))


@given(st.integers(0, 100), st.integers(0, 12), counts, counts)
def test_whoever_loses_nothing_but_what_others_bear_is_sent_no_more_than_he_carries(
    weight: int, whole: int, here: Two, elsewhere: Two
) -> None:
    """Where a zone is emptied, what is left of each revision carries what it then has: the whole where it is alone."""
    load, there = beside(weight, whole), both(elsewhere)
    assume(any(both(here).values()))
    if load.kept(both(here), there):
        return
    alone = [name for name in there if there[name]] if sum(map(bool, elsewhere)) == 1 else []
    for name, share in load.weights.items():
        gets = 100 if name in alone and share else 0 if alone else share
        answered = there[name] >= need(gets, whole)
        assert answered or not (both(here)[name] or alone), "or nobody in the zone could have helped"
