"""The deep health check: one token through the engine, for whoever must know that it still infers and has no API key.

Owns: that nobody can load the engine by asking. Must not know: HTTP, engines.

One inference runs at a time, and what came of it is kept for a while: whoever asks meanwhile is told the same. One that
hangs is never joined by another, or they would take one place of the engine after the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine

KEPT = 5.0
"""Seconds for which an outcome stands."""
PATIENCE = 20.0
"""Seconds for one token, the wait for a free place included; a gateway waits for 30."""

Infer = Callable[[], Coroutine[None, None, str]]


class DeepCheck:
    """`infer` says why it failed, and nothing where it did not. `quiet`: seconds without a sign of life of what runs; a
    token that waits behind others that go on is as good as one."""

    def __init__(
        self, infer: Infer, quiet: Callable[[], float], patience: float = PATIENCE, kept: float = KEPT
    ) -> None:
        self._infer = infer
        self._quiet = quiet
        self._patience = patience
        self._kept = kept
        self._task: asyncio.Task[str] | None = None
        self._began = self._ended = 0.0

    async def outcome(self) -> str:
        """Why the engine does not infer; empty where it does."""
        task = self._task
        if task is None or (task.done() and time.monotonic() - self._ended >= self._kept):
            self._began = time.monotonic()
            task = self._task = asyncio.create_task(self._run())
        await asyncio.wait((task,), timeout=max(0.0, self._began + self._patience - time.monotonic()))
        if task.done():
            return task.result()
        return "" if self._quiet() < self._patience / 2 else f"no token within {self._patience:g} s"

    async def _run(self) -> str:
        try:
            return await self._infer()
        finally:
            self._ended = time.monotonic()
