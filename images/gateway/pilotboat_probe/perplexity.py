"""The perplexity run: stable and canary say of answers that are given how likely they hold them.

Owns: the order of asking. Must not know: what is made of the probabilities (compare.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pilotboat.api.probing import PerplexityResult, PerplexityWork, Reference

from . import compare
from .client import Answer, Version
from .faults import Faults, patiently
from .progress import Progress


class PerplexityRun:
    """Asks about all references, a few at once."""

    def __init__(self, work: PerplexityWork, stable: Version, canary: Version) -> None:
        self._work, self._faults = work, (Faults(stable), Faults(canary))
        self._done = 0

    async def run(self, references: Sequence[Reference], progress: Progress) -> PerplexityResult:
        """Raises ProbeError where a version calls every request wrong, as one that cannot tell does."""
        room = asyncio.Semaphore(self._work.concurrency)
        telling = progress.telling(lambda: f"perplexity: {self._done} of {len(references)} references done")
        async with telling, asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(reference, room)) for reference in references]
        for faults in self._faults:
            faults.check(len(references))
        return compare.likeness(references, [task.result() for task in tasks])

    async def _one(self, reference: Reference, room: asyncio.Semaphore) -> compare.Pair:
        async with room:
            stable, canary = [await self._ask(reference, faults) for faults in self._faults]
            self._done += 1
            return stable, canary

    async def _ask(self, reference: Reference, faults: Faults) -> Answer | None:
        return await patiently(lambda: faults.version.given(reference.prompt, reference.answer), faults)
