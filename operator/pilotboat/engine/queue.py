"""Which parents want work: client-go's work queue, for one event loop.

Owns: order, coalescing, back-off, delays. Must not know: what the work is.

A key that is added while it waits is there once; one added while it is worked on comes again after `done`. So no two
workers ever have the same key, and no wake-up is lost.

An echo is the news of what the work itself has done, such as a status that it wrote. It is a wake-up like any other,
but for one thing: it does not come before a retry that is due anyway. Else work that fails and tells of it in other
words each time would know no back-off.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

from .kinds import Key

FIRST_DELAY = 0.5
LONGEST_DELAY = 300.0
JITTER = 0.2


class Queue:
    """First come, first served: a noisy key waits behind all others."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._waiting: deque[Key] = deque()
        self._dirty: dict[Key, float] = {}
        self._processing: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._echoes: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._ready = asyncio.Event()
        self._random = rng or random.Random()

    def add(self, key: Key) -> None:
        """The key wants work, as soon as may be."""
        if key in self._dirty:
            return
        self._dirty[key] = self._now()
        if key not in self._processing:
            self._waiting.append(key)
            self._ready.set()

    def echo(self, key: Key) -> None:
        """The key wants work for what its own work has done: when that has ended well, or else with its retry."""
        if key in self._processing or key in self._failures:
            self._echoes.add(key)
        else:
            self.add(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """The key wants work by then; an earlier date already set stands."""
        due = self._now() + seconds
        timer = self._timers.get(key)
        if timer and timer.when() <= due:
            return
        if timer:
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_at(due, self._due, key)

    def retry(self, key: Key, at_least: float = 0) -> float:
        """The work failed: again after a delay that doubles from 0.5 s to 5 min. Returns the delay."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._echoes.discard(key)
        delay = min(FIRST_DELAY * 2.0 ** min(failures, 30), LONGEST_DELAY)
        delay = max(delay, at_least) * (1 + self._random.uniform(0 if delay < at_least else -JITTER, JITTER))
        self.add_after(key, delay)
        return delay

    def succeeded(self, key: Key) -> None:
        """Back-off starts anew."""
        self._failures.pop(key, None)
        if key in self._echoes:
            self._echoes.discard(key)
            self.add(key)

    def forget(self, key: Key) -> None:
        """The key is gone: no delay or failure of it is kept."""
        self._failures.pop(key, None)
        self._echoes.discard(key)
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()

    async def get(self) -> tuple[Key, float]:
        """The next key, and when it was first added; call `done` for it in any case."""
        while not self._waiting:
            self._ready.clear()
            await self._ready.wait()
        key = self._waiting.popleft()
        added = self._dirty.pop(key)
        self._processing[key] = self._now()
        return key, added

    def done(self, key: Key) -> None:
        """The worker is through with it, whatever came of it."""
        del self._processing[key]
        if key in self._dirty:
            self._waiting.append(key)
            self._ready.set()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def busy(self) -> int:
        """Keys being worked on."""
        return len(self._processing)

    @property
    def delayed(self) -> int:
        """Keys with a date in the future."""
        return len(self._timers)

    def oldest_work(self) -> float:
        """Seconds that the longest running piece of work has taken so far."""
        return self._now() - min(self._processing.values(), default=self._now())

    def waiting_for(self) -> float:
        """Seconds that the key first in line has waited."""
        return self._now() - self._dirty[self._waiting[0]] if self._waiting else 0.0

    def _due(self, key: Key) -> None:
        del self._timers[key]
        self.add(key)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
