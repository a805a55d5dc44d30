"""How often and how long to wait before trying again, and when to stop.

Owns: the schedule, Retry-After, the lines that tell of a wait. Must not know: what is tried.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from .errors import FetchError

T = TypeVar("T")
RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 525)})
"""The last are Cloudflare's, where the server behind it is away."""


class Again(Exception):
    """An attempt failed and another may not: `error` is what it comes to when there is none."""

    def __init__(self, error: FetchError, wait: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.wait = error, wait


def _silent(text: str) -> None:
    pass


def _nothing() -> int:
    return 0


@dataclass(frozen=True)
class Backoff:
    """A few attempts with short waits between them; and where those fail, rounds of them with ever longer waits.

    Waits are in seconds, double, and have jitter; a server's Retry-After comes first.
    """

    attempts: int = 6
    first: float = 0.5
    longest: float = 30.0
    bearable: float = 120.0
    """The longest Retry-After that is waited for between attempts; a longer one ends the round."""
    rest: float = 15.0
    longest_rest: float = 300.0
    patience: float = 0.0
    """How long nothing may get on before no further round is begun."""
    say: Callable[[str], None] = _silent
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def briefly(self, attempt: Callable[[], T], reached: Callable[[], int] = _nothing) -> T:
        """What `attempt` returns, after some in a row in which `reached` did not grow. Raises the last Again."""
        failures, best = 0, reached()
        while True:
            try:
                return attempt()
            except Again as again:
                failures = 1 if reached() > best else failures + 1
                best = max(best, reached())
                wait = _doubled(self.first, failures, self.longest) if again.wait is None else again.wait
                if failures >= self.attempts or wait > self.bearable:
                    raise
                self.say(f"{again}; attempt {failures} of {self.attempts}, the next in {wait:.1f} s")
                self.sleep(wait)

    def patiently(self, attempts: Callable[[], T], reached: Callable[[], int] = _nothing) -> T:
        """What a round of attempts returns. Raises the error of the last round when there is no patience left."""
        since, failures, best = self.clock(), 0, reached()
        while True:
            try:
                return attempts()
            except Again as again:
                if reached() > best:
                    since, failures, best = self.clock(), 0, reached()
                failures += 1
                wait = max(_doubled(self.rest, failures, self.longest_rest), again.wait or 0.0)
                left = since + self.patience - self.clock() - wait
                if left < 0:
                    raise again.error from again
                self.say(f"{again}; waits {wait:.0f} s, and goes on trying for {left:.0f} s after that")
                self.sleep(wait)


def _doubled(first: float, failures: int, longest: float) -> float:
    return float(min(first * 2 ** (failures - 1), longest) * random.uniform(0.5, 1.0))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks us to wait: a number or a date."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # of an empty one, too
        return None
    if moment.tzinfo is None:  # without a zone, or with -0000, which says that it is UTC
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
