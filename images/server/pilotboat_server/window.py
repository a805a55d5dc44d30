"""Quantiles over the last minutes: what a person asks first, and what the client library's summaries do not give.

Pure: time is passed in.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

SECONDS = 300.0
SAMPLES = 4096


@dataclass
class Window:
    """Values of the last `seconds`, at most `samples` of them: the oldest go first."""

    seconds: float = SECONDS
    samples: int = SAMPLES
    _entries: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, now: float, value: float) -> None:
        """One observation."""
        self._entries.append((now, value))
        if len(self._entries) > self.samples:
            self._entries.popleft()

    def quantiles(self, now: float, wanted: Sequence[float]) -> list[float]:
        """The smallest value that at least that share of values does not exceed; NaN where there is none."""
        while self._entries and self._entries[0][0] < now - self.seconds:
            self._entries.popleft()
        values = sorted(value for _, value in self._entries)
        return [values[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan for share in wanted]
