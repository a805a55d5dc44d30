"""Synthetic traffic: the same prompts to stable and canary in turn, counted by minute as a gateway counts users'.

Owns: the schedule and the counts. Must not know: what a gate makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pilotboat.api.base import seconds
from pilotboat.api.probing import TrafficResult, TrafficWork

from .client import Version
from .drive import Drive
from .errors import Unanswered
from .faults import Faults, blames_caller
from .measure import Tally, bucket
from .progress import Progress


def schedule(per_minute: int, length: int) -> list[float]:
    """When the requests are due: evenly, two for each prompt."""
    pairs = max(per_minute * length // 60, 1)
    return [number * 30 / per_minute for number in range(2 * pairs)]


def turn(number: int) -> tuple[int, int]:
    """Which prompt and which version (0 or 1) the request is for: who is first changes from prompt to prompt."""
    pair, second = divmod(number, 2)
    return pair, (pair + second) % 2


class TrafficRun:
    """Sends, and counts in the minute in which a request ended."""

    def __init__(self, work: TrafficWork, stable: Version, canary: Version, clock: Callable[[], float]) -> None:
        self._work, self._clock = work, clock
        self._versions = (stable, canary)
        self._faults = (Faults(stable), Faults(canary))
        self._minutes: tuple[dict[int, Tally], dict[int, Tally]] = ({}, {})

    async def run(self, prompts: Sequence[str], progress: Progress) -> TrafficResult:
        """Raises ProbeError where a version calls every request wrong."""
        due = schedule(self._work.per_minute, seconds(self._work.duration))
        drive = Drive(len(due))

        async def send(number: int, at: float) -> None:
            pair, which = turn(number)
            await self._send(which, prompts[pair % len(prompts)], at)

        async with progress.telling(lambda: f"traffic: {drive.words()}, {self._failed} failed"):
            await drive.run(due, self._work.concurrency, send)
        for faults, minutes in zip(self._faults, self._minutes, strict=True):
            faults.check(sum(tally.requests for tally in minutes.values()))
        stable, canary = (
            [tally.minute(start) for start, tally in sorted(minutes.items())] for minutes in self._minutes
        )
        return TrafficResult(stable=stable, canary=canary, held_back=drive.held_back)

    @property
    def _failed(self) -> int:
        return sum(faults.count for faults in self._faults)

    async def _send(self, which: int, prompt: str, due: float) -> None:
        try:
            timing = await self._versions[which].stream(prompt, self._work.max_tokens, due)
        except Unanswered as fault:
            self._faults[which].note(fault)
            tally = self._tally(which)
            tally.errors += not blames_caller(fault.kind) and fault.kind != "429"
            return
        tally = self._tally(which)
        tally.first_token[bucket(timing.first_ms)] += 1
        if timing.per_token_ms is not None:
            tally.per_token[bucket(timing.per_token_ms)] += 1

    def _tally(self, which: int) -> Tally:
        """The minute that is now, with one more request in it."""
        tally = self._minutes[which].setdefault(int(self._clock()) // 60 * 60, Tally())
        tally.requests += 1
        return tally
