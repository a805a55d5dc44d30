"""The quality run: each prompt to stable, to the canary and to stable once more, greedily.

Owns: the order of asking. Must not know: how likeness is measured (compare.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilotboat.api.probing import QualityResult, QualityWork

from . import compare
from .client import Answer, Version
from .errors import CouldNotMeasure
from .faults import Faults, patiently
from .progress import Progress
from .together import together


@dataclass(frozen=True)
class _Answers:
    """To one prompt."""

    stable: Answer | None
    canary: Answer | None
    again: Answer | None


class QualityRun:
    """Asks all prompts, a few at once."""

    def __init__(self, work: QualityWork, stable: Version, canary: Version) -> None:
        self._work, self._stable, self._canary = work, stable, canary
        self._faults = {version.role: Faults(version) for version in (stable, canary)}

    async def run(self, prompts: Sequence[str], progress: Progress) -> QualityResult:
        """Raises ProbeError where there is nothing to compare."""

        def words(done: int) -> str:
            return f"quality: {done} of {len(prompts)} prompts done"

        return self._result(prompts, await together(prompts, self._one, self._work.concurrency, progress, words))

    async def _one(self, prompt: str) -> _Answers:
        stable = await self._ask(self._stable, prompt)
        canary = await self._ask(self._canary, prompt)
        again = await self._ask(self._stable, prompt)
        return _Answers(stable, canary, again)

    async def _ask(self, version: Version, prompt: str) -> Answer | None:
        return await patiently(lambda: version.whole(prompt, self._work.max_tokens), self._faults[version.role])

    def _result(self, prompts: Sequence[str], answers: Sequence[_Answers]) -> QualityResult:
        of_stable, of_canary = self._faults[self._stable.role], self._faults[self._canary.role]
        of_stable.check(2 * len(prompts))
        of_canary.check(len(prompts))
        if of_stable.count == 2 * len(prompts):
            raise CouldNotMeasure(f"{self._stable} answered no prompt, so there is no measure: {of_stable.first}")
        pairs = [(entry.stable, entry.canary) for entry in answers]
        return QualityResult(
            prompts=len(prompts),
            canary=compare.agreement(pairs),
            itself=compare.agreement((entry.stable, entry.again) for entry in answers),
            stable_failed=sum(None in (entry.stable, entry.again) for entry in answers),
            canary_failed=sum(entry.canary is None for entry in answers),
            examples=compare.examples(prompts, pairs),
        )
