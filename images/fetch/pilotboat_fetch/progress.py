"""Lines about how far a fetch is: to stdout, every few seconds, for `kubectl logs`.

Owns: counting and wording. Must not know: what is being transferred.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

EVERY_SECONDS = 3.0


class Progress:
    """Bytes of one item. Call `add` for each block; it prints when a line is due."""

    def __init__(self, name: str, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._out, self._clock = name, out or sys.stdout, clock
        self._started = self._printed = clock()
        self._moved = 0
        self.done = 0
        self.total: int | None = None

    def say(self, text: str) -> None:
        """One line now."""
        print(f"fetch {self._name}: {text}", file=self._out, flush=True)

    def kept(self, size: int) -> None:
        """Bytes that were there already: they count as done and not for the speed."""
        self.done += size

    def add(self, size: int) -> None:
        """Bytes that just arrived."""
        self.done += size
        self._moved += size
        now = self._clock()
        if now - self._printed >= EVERY_SECONDS:
            self._printed = now
            self.say(self.line(now - self._started))

    def line(self, elapsed: float) -> str:
        """`45 %, 108.0 MiB of 241.4 MiB, 38.1 MiB/s, 4 s left`."""
        speed = self._moved / elapsed if elapsed > 0 else 0.0
        if not self.total:
            return f"{mib(self.done)}, {mib(speed)}/s"
        left = f", {max(self.total - self.done, 0) / speed:.0f} s left" if speed else ""
        return f"{100 * self.done // self.total} %, {mib(self.done)} of {mib(self.total)}, {mib(speed)}/s{left}"


def mib(size: float) -> str:
    """A size in words."""
    return f"{size / (1 << 20):.1f} MiB"
