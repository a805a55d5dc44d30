"""The time by which plans count: the machine's, without its jumps.

Owns: how quickly a jump is made up for. Must not know: what is timed.

Holds and hold-downs are written into status as times, so that a new leader goes on counting. Were they compared with
the machine's clock alone, one that is set an hour ahead would end all of them at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

SLEW = 0.25
"""Most of a second by which a second is longer or shorter while a jump is made up for: an hour takes four. What plans
compare with besides, pods' and gateways' times, is told by other machines, so it cannot be put off for ever."""


def uptime() -> float:
    """Seconds that nobody sets, and that go on while a machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """Called, it gives the time; never less than before."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = uptime) -> None:
        self._wall = wall
        self._steady = steady
        self._at = steady()
        self._time = wall()

    def __call__(self) -> datetime:
        passed = self._steady() - self._at
        self._at += passed
        behind = self._wall() - (self._time + passed)
        most = SLEW * passed
        self._time += passed + min(most, max(-most, behind))
        return datetime.fromtimestamp(self._time, UTC)
