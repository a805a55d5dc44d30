"""Whether this replica is of any use: judged by progress, not by answering.

Owns: the judgement. Must not know: how it is asked.
"""

from __future__ import annotations

import asyncio

from .queue import Queue
from .resync import Resync, where

STUCK = 180.0
"""Seconds of one pass, or of a filled queue that nothing leaves, after which the workers count as stuck."""


class Health:
    """Of a leader; a standby that answers is well."""

    def __init__(self, queue: Queue, resync: Resync, *, interval: float) -> None:
        self._queue = queue
        self._resync = resync
        self._oldest_list = 3 * interval
        self._finished = asyncio.get_running_loop().time()
        self.working = False
        """True once everything was seen and workers run; before, nothing can be stuck."""

    def finished(self) -> None:
        """A pass ended."""
        self._finished = asyncio.get_running_loop().time()

    def complaints(self) -> list[str]:
        """What is wrong; nothing where all is well."""
        if not self.working:
            return []
        found = []
        if self._queue.oldest_work() > STUCK:
            found.append(f"a pass takes {self._queue.oldest_work():.0f} s")
        idle = asyncio.get_running_loop().time() - self._finished
        if self._queue.waiting_for() > STUCK and idle > STUCK:
            found.append(f"{len(self._queue)} parents wait and no pass ended for {idle:.0f} s")
        if self._resync.age > self._oldest_list:
            found.append(f"no LIST of everything for {self._resync.age:.0f} s")
        found += [f"the watch of {told} is dead" for told in sorted(map(where, self._resync.deaf))]
        return found
