"""How often and how long to wait before trying again.

Owns: the schedule, Retry-After. Must not know: what is retried.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Backoff:
    """Exponential waits with jitter; a server's Retry-After comes first, up to `patience`."""

    attempts: int = 6
    first: float = 0.5
    longest: float = 30.0
    patience: float = 120.0
    sleep: Callable[[float], None] = time.sleep

    def wait(self, failures: int, retry_after: float | None = None) -> bool:
        """Wait after the given number of failures in a row. False: do not try again."""
        if failures >= self.attempts or (retry_after is not None and retry_after > self.patience):
            return False
        delay = min(self.first * 2 ** (failures - 1), self.longest) * random.uniform(0.5, 1.0)
        self.sleep(delay if retry_after is None else retry_after)
        return True


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks us to wait: a number or a date."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
