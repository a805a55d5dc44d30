"""What a machine's clock does, and what plans count by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.engine.clock import SLEW, Clock

HOUR = 3600.0


class Machine:
    """With a clock that is set, and an uptime that is not."""

    def __init__(self) -> None:
        self.wall, self.uptime = 1_800_000_000.0, 50.0
        self.clock = Clock(lambda: self.wall, lambda: self.uptime)

    def after(self, seconds: float, jump: float = 0.0) -> float:
        """So much later, and the clock set by so much: what is told."""
        self.wall += seconds + jump
        self.uptime += seconds
        return self.clock().timestamp()


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 30.0, -30.0])
def test_a_jump_ends_no_wait_and_begins_none_anew(jump: float) -> None:
    machine = Machine()
    before = machine.after(1)
    assert machine.after(1, jump) - before == pytest.approx(1, abs=SLEW)
    assert machine.after(10) - before == pytest.approx(11, abs=11 * SLEW)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_in_the_end_it_tells_the_machines_time(jump: float) -> None:
    machine = Machine()
    machine.after(1, jump)
    told = [machine.after(10) for _ in range(round(HOUR / SLEW / 10) + 1)]
    assert told[-1] == pytest.approx(machine.wall)
    assert told[-2] != told[-1]


def test_a_clock_that_is_put_right_bit_by_bit_is_followed() -> None:
    machine = Machine()
    for _ in range(1000):
        assert machine.after(1, 0.0005) == pytest.approx(machine.wall)


@given(st.lists(st.tuples(st.floats(0, 600), st.floats(-2 * HOUR, 2 * HOUR)), max_size=40))
def test_it_goes_on_and_at_nearly_its_pace_whatever_happens(story: list[tuple[float, float]]) -> None:
    machine = Machine()
    before = machine.after(0)
    for seconds, jump in story:
        now = machine.after(seconds, jump)
        assert (1 - SLEW) * seconds - 1e-3 <= now - before <= (1 + SLEW) * seconds + 1e-3
        before = now
