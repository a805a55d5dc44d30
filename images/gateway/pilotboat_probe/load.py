"""The load run: requests to the canary at a given rate, before it gets users.

Owns: when requests are due, how long their prompts are, what is counted. Must not know: what is too slow.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from pilotboat.api.base import seconds
from pilotboat.api.probing import LoadResult, LoadWork

from .client import Version
from .drive import Drive
from .errors import Unanswered
from .faults import Faults
from .measure import kinds, quantiles
from .progress import Progress

TEXT = """
    time year people way day man thing woman life child world school state family student group country problem hand
    part place case week company system program question work government number night point home water room mother
    area money story fact month lot right study book eye job word business issue side kind head house service friend
"""
WORDS = TEXT.split()
"""Words that are one token in nearly every vocabulary."""

SHORT, LONG = 16, 144
"""Words of the two prompts from whose length in tokens the rest are made."""


def arrivals(rate: float, length: float, seed: int) -> list[float]:
    """Seconds at which requests are due: a Poisson process that has as many as the rate says, one at least."""
    draw = random.Random(seed)
    return sorted(draw.random() * length for _ in range(max(round(rate * length), 1)))


@dataclass(frozen=True)
class Lengths:
    """How many tokens a prompt has: so many before its first word, and so many a word."""

    before: float = 0.0
    each: float = 1.0

    @classmethod
    def fitted(cls, short: int, long: int) -> Lengths:
        """From the tokens of the prompts of SHORT and of LONG words."""
        each = max((long - short) / (LONG - SHORT), 0.1)
        return cls(max(short - SHORT * each, 0.0), each)

    def words(self, tokens: int) -> int:
        """Words of a prompt of so many tokens, one at least."""
        return max(round((tokens - self.before) / self.each), 1)


class LoadRun:
    """Sends, and counts what comes."""

    def __init__(self, work: LoadWork, canary: Version) -> None:
        self._work, self._canary, self._faults = work, canary, Faults(canary)
        self._draw, self._lengths = random.Random(work.seed), Lengths()
        self._first: list[float] = []
        self._per_token: list[float] = []
        self._prompt_tokens: list[int] = []

    async def run(self, progress: Progress) -> LoadResult:
        """Raises ProbeError where the canary calls every request wrong."""
        self._lengths = await self._learn_lengths()
        due = arrivals(self._work.rate, seconds(self._work.duration), self._work.seed)
        drive = Drive(len(due))
        async with progress.telling(lambda: f"load: {drive.words()}, {self._faults.count} failed"):
            await drive.run(due, self._work.concurrency, self._send)
        self._faults.check(drive.sent)
        return self._result(drive)

    async def _learn_lengths(self) -> Lengths:
        """What the canary counts of two prompts. One that fails now will fail in the load, where it counts."""
        try:
            short, long = [(await self._canary.whole(self._prompt(n), 1)).prompt_tokens for n in (SHORT, LONG)]
        except Unanswered:
            return Lengths()
        return Lengths.fitted(short, long) if short and long else Lengths()

    async def _send(self, number: int, due: float) -> None:
        tokens = self._draw.choice(self._work.prompt_tokens)
        prompt = self._prompt(self._lengths.words(tokens))
        try:
            timing = await self._canary.stream(prompt, self._work.max_tokens, due)
        except Unanswered as fault:
            return self._faults.note(fault)
        self._first.append(timing.first_ms)
        self._per_token += [timing.per_token_ms] if timing.per_token_ms is not None else []
        self._prompt_tokens += [timing.prompt_tokens] if timing.prompt_tokens is not None else []

    def _prompt(self, words: int) -> str:
        """Drawn anew each time, so that no cache of beginnings makes it light."""
        return " ".join(self._draw.choices(WORDS, k=words))

    def _result(self, drive: Drive) -> LoadResult:
        counted = self._prompt_tokens
        return LoadResult(
            planned=drive.planned,
            sent=drive.sent,
            held_back=drive.held_back,
            ok=len(self._first),
            errors=kinds(self._faults.kinds),
            first_token=quantiles(self._first),
            per_token=quantiles(self._per_token),
            prompt_tokens=round(sum(counted) / len(counted), 1) if counted else None,
            asked_qps=self._work.rate,
            achieved_qps=round(drive.sent / max(drive.seconds, seconds(self._work.duration)), 3),
            late=drive.late,
            kept_up=drive.kept_up,
        )
