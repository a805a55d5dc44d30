"""What the soak calls a growth."""

from __future__ import annotations

import pytest

from tests.e2e.growth import grown, halves


@pytest.mark.parametrize(
    ("samples", "floor", "grows"),
    [
        ([100], 0, False),
        ([100, 102, 101, 103], 0, False),
        ([60, 60, 100, 100, 101, 100, 102, 100, 103, 100, 101, 100], 0, False),  # it was new at first
        ([100, 101, 99, 100, 101, 100, 250, 100], 0, False),  # one was busy
        ([100, 110, 120, 130, 140, 150, 160, 170], 0, True),
        ([100, 120, 140, 160, 180, 100], 0, True),  # it began anew at last, which first and last would not tell
        ([10, 20, 30, 40, 50, 60], 100, False),
    ],
)
def test_a_growth_that_goes_on_is_one_and_chance_is_none(samples: list[int], floor: int, grows: bool) -> None:
    assert grown(samples, floor) is grows


def test_of_an_odd_number_the_one_in_the_middle_counts_for_nobody() -> None:
    assert halves([1, 2, 1000, 3, 4]) == (1.5, 3.5)
