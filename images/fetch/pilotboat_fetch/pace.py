"""How fast an address delivers, and when that leads nowhere.

Owns: the floor. Must not know: what is transferred, what comes of it.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOOR = 1024
"""Bytes a second. dnf gives a mirror up below 1000 (its `minrate`), and any line that carries a model has more."""
WINDOW = 120.0
"""Seconds over which that is averaged; dnf takes 30. Proxies that look into what they pass on let it drip meanwhile."""


@dataclass
class Pace:
    """Of one address, over all answers that it gives: one that breaks off in time is no faster for that."""

    slow: int = 0
    """How often in a row it was below the floor."""
    _since: float = 0.0
    _waited: float = 0.0
    _came: int = 0

    def begin(self, now: float) -> None:
        """Something is asked for. What was waited for since the last answer was not its fault."""
        self._since = now

    def add(self, now: float, size: int = 0) -> bool:
        """So many bytes more. Whether it has been found too slow by that."""
        self._waited, self._came, self._since = self._waited + now - self._since, self._came + size, now
        if self._waited < WINDOW:
            return False
        self.slow = self.slow + 1 if self._came < FLOOR * self._waited else 0
        self._waited, self._came = 0.0, 0
        return self.slow > 0
