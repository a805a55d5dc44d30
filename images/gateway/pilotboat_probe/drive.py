"""An open loop: requests are sent when they are due, whether or not earlier ones have been answered.

Owns: keeping time, and saying where it could not. Must not know: what is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

LATE = 0.1
"""Seconds after which a request counts as late: a generator short of CPU, not a tick of the scheduler."""

TOLERATED = 0.01
"""Part of the requests that may be late or held back."""

Send = Callable[[int, float], Awaitable[None]]
"""Sends one request, by its number and the time at which it is due on the loop's clock; raises nothing."""


@dataclass
class Drive:
    """How it went, and how it is going."""

    planned: int
    sent: int = 0
    held_back: int = 0
    late: int = 0
    under_way: int = 0
    seconds: float = 0.0
    """From the beginning until the last one was due."""

    @property
    def kept_up(self) -> bool:
        """Whether what was sent is what was asked for."""
        return self.late + self.held_back <= TOLERATED * self.planned

    def words(self) -> str:
        """For a line of progress."""
        return f"{self.sent} of {self.planned} requests sent, {self.under_way} under way"

    async def run(self, due: Sequence[float], concurrency: int, send: Send) -> None:
        """Send each at its time, in seconds from now; return when all were answered."""
        clock = asyncio.get_running_loop().time
        began = clock()
        async with asyncio.TaskGroup() as group:
            for number, offset in enumerate(due):
                await asyncio.sleep(max(began + offset - clock(), 0))
                if self.under_way >= concurrency:
                    self.held_back += 1
                    continue
                self.late += clock() - began - offset > LATE
                self.sent += 1
                self.under_way += 1
                group.create_task(self._one(number, began + offset, send))
            self.seconds = clock() - began

    async def _one(self, number: int, due: float, send: Send) -> None:
        try:
            await send(number, due)
        finally:
            self.under_way -= 1
