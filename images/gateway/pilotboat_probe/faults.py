"""What all requests to one version came to, and when that says that nothing can be measured.

Owns: asking again, and counting what was not answered. Must not know: what was asked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from .client import Answer, Version
from .errors import KeyRefused, Refused, Unanswered, WrongAnswer

PASSING = ("429", "502", "503", "504", "unreachable", "cut")
"""Faults after which the same version is asked again: users may be keeping it busy."""

PAUSES = (0.5, 2.0)
"""Seconds before each further try."""


@dataclass
class Faults:
    """Requests of one version without a whole answer."""

    version: Version
    kinds: Counter[str] = field(default_factory=Counter)
    first: str = ""
    """What was said of the first of them."""

    @property
    def count(self) -> int:
        """All of them."""
        return self.kinds.total()

    def note(self, fault: Unanswered) -> None:
        """One more."""
        self.first = self.first or str(fault)
        self.kinds[fault.kind] += 1

    def check(self, asked: int) -> None:
        """Raise where every request was called wrong, or answered with nonsense: that is not how a version fares.

        Whatever else went wrong, even with all of them, is what was to be found out.
        """
        if not asked or self.count < asked:
            return
        if set(self.kinds) <= {"401", "403"}:
            raise KeyRefused(f"{self.version}: the API key is not accepted")
        if set(self.kinds) == {"invalid"}:
            raise WrongAnswer(f"{self.version}: {self.first}")
        if all(blames_caller(kind) for kind in self.kinds):
            raise Refused(f"{self.version} refuses every request: {self.first}")


async def patiently(ask: Callable[[], Awaitable[Answer]], faults: Faults) -> Answer | None:
    """The answer, asked for again where the fault may pass; None where there was none, which is noted."""
    for pause in (*PAUSES, None):
        try:
            return await ask()
        except Unanswered as fault:
            if pause is None or fault.kind not in PASSING:
                faults.note(fault)
                return None
        await asyncio.sleep(pause)
    raise AssertionError("the last try returns")


def blames_caller(kind: str) -> bool:
    """Whether it is an answer of 400 to 499, 429 apart: that one is about the server."""
    return len(kind) == 3 and kind.startswith("4") and kind != "429"
