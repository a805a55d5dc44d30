"""Lines about how far a probe is: to stdout, every few seconds, for `kubectl logs`.

Owns: when a line is due. Must not know: what is being measured.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TextIO

EVERY_SECONDS = 3.0


class Progress:
    """Prints now, and at intervals while something goes on."""

    def __init__(self, out: TextIO | None = None, every: float = EVERY_SECONDS) -> None:
        self._out, self._every = out or sys.stdout, every

    def say(self, text: str) -> None:
        """One line now."""
        print(f"probe {text}", file=self._out, flush=True)

    @asynccontextmanager
    async def telling(self, words: Callable[[], str]) -> AsyncIterator[None]:
        """Say the words at intervals until the block ends, and once then."""
        task = asyncio.create_task(self._tell(words))
        try:
            yield
        finally:
            task.cancel()
        self.say(words())

    async def _tell(self, words: Callable[[], str]) -> None:
        while True:
            await asyncio.sleep(self._every)
            self.say(words())
