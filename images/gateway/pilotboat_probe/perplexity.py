"""The perplexity run: stable and canary say of answers that are given how likely they hold them.

Owns: the order of asking. Must not know: what is made of the probabilities (compare.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from pilotboat.api.probing import PerplexityResult, PerplexityWork, Reference

from . import compare
from .client import Answer, Version
from .errors import Unanswered
from .faults import Faults, patiently
from .progress import Progress
from .together import together

FAILED = "500"
"""What a server answers whose engine fails at a request, as at tokens of which it has no probability (NaN)."""


class PerplexityRun:
    """Asks about all references, a few at once."""

    def __init__(self, work: PerplexityWork, stable: Version, canary: Version) -> None:
        self._work, self._faults = work, (Faults(stable), Faults(canary))

    async def run(self, references: Sequence[Reference], progress: Progress) -> PerplexityResult:
        """Raises ProbeError where a version calls every request wrong, as one that cannot tell does."""

        def words(done: int) -> str:
            return f"perplexity: {done} of {len(references)} references done"

        pairs = await together(references, self._one, self._work.concurrency, progress, words)
        for faults in self._faults:
            faults.check(len(references))
        return compare.likeness(references, pairs)

    async def _one(self, reference: Reference) -> compare.Pair:
        stable, canary = [await self._ask(reference, faults) for faults in self._faults]
        return stable, canary

    async def _ask(self, reference: Reference, faults: Faults) -> Answer | None:
        async def given() -> Answer:
            for _ in range(2):  # what fails at these tokens fails again; what does not says nothing of them
                try:
                    return await faults.version.given(reference.prompt, reference.answer)
                except Unanswered as fault:
                    if fault.kind != FAILED:
                        raise
            return compare.BROKEN

        return await patiently(given, faults)
