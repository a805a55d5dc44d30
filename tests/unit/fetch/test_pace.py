"""When an address is too slow to lead anywhere."""

from __future__ import annotations

import pytest

from pilotboat_fetch.pace import FLOOR, WINDOW, Pace

ENOUGH = int(FLOOR * WINDOW)


@pytest.mark.parametrize(
    ("blocks", "slow"),
    [
        ([(1, 1)] * 119, 0),
        ([(1, 1)] * 120, 1),
        ([(29, 1)] * 25, 5),
        ([(120, ENOUGH - 1)], 1),
        ([(120, ENOUGH)], 0),
        ([(1, ENOUGH), *[(1, 0)] * 119], 0),
        ([(60, ENOUGH), (60, 0), (60, 0), (60, 1)], 1),
        ([(120, 0), (120, 0), (120, ENOUGH)], 0),
        ([(120, 0), (120, ENOUGH), (120, 0)], 1),
        ([(600, 4 * ENOUGH)], 1),
    ],
    ids=[
        *("not for long enough", "a byte a second", "a byte every 29 s", "just below", "just enough"),
        *("a burst counts for as long as it is looked at", "and not for longer", "well again", "anew", "one long wait"),
    ],
)
def test_how_often_in_a_row_it_was_too_slow(blocks: list[tuple[float, int]], slow: int) -> None:
    pace, now, found = Pace(), 0.0, []
    pace.begin(now)
    for seconds, size in blocks:
        now += seconds
        found.append(pace.add(now, size))
    assert pace.slow == slow
    assert found[-1] == (slow > 0)


def test_answers_that_break_off_in_time_are_looked_at_together_and_rests_between_them_are_not() -> None:
    pace = Pace()
    for start in range(0, 12_000, 1_000):
        pace.begin(start)
        assert pace.add(start + 10, 1) == (start == 11_000)
    assert pace.slow == 1
