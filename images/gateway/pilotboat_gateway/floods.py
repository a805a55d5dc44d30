"""How much feedback HAProxy has refused of late, told from counts that begin anew with each of its workers.

Owns: the last minute, by deployment. Must not know: why it refuses, who is told.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

LATELY = 60.0
"""Seconds."""


class Floods:
    """Looked at each second or so."""

    def __init__(self) -> None:
        self._before: Mapping[str, int] | None = None
        """None: what was refused before the first look is nobody's news."""
        self._grown: deque[tuple[float, Counter[str]]] = deque()

    def see(self, counts: Mapping[str, int], now: float) -> None:
        """By deployment: refused since the worker began."""
        before = counts if self._before is None else self._before
        grown = Counter({name: _grown(before.get(name, 0), count) for name, count in counts.items()})
        self._before = counts
        if grown := +grown:
            self._grown.append((now, grown))

    def lately(self, now: float) -> dict[str, int]:
        """By deployment: refused within LATELY, where any was."""
        while self._grown and now - self._grown[0][0] >= LATELY:
            self._grown.popleft()
        return dict(sum((grown for _, grown in self._grown), Counter[str]()))


def _grown(before: int, count: int) -> int:
    """A count that is lower than before is another worker's."""
    return count - before if count >= before else count
