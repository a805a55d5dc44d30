"""Stop strings for engines that have none of their own: text is held back while it may be the beginning of one.

Pure. Must not know: tokens, engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class StopMatcher:
    """Feed text as it comes; what `feed` returns may be shown."""

    stops: Sequence[str]
    held: str = ""
    stopped: bool = False

    def feed(self, text: str) -> str:
        """Text that is safe to show; after a stop string was seen, `stopped` is true and nothing more comes."""
        if self.stopped:
            return ""
        whole = self.held + text
        found = [at for stop in self.stops if (at := whole.find(stop)) >= 0]
        if found:
            self.stopped, self.held = True, ""
            return whole[: min(found)]
        keep = max((_overlap(whole, stop) for stop in self.stops), default=0)
        self.held = whole[len(whole) - keep :]
        return whole[: len(whole) - keep]

    def flush(self) -> str:
        """What was held back, at the end of the answer."""
        rest, self.held = self.held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
