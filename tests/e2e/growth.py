"""Whether something grew over a run: the later half of its samples against the earlier one.

Owns: that judgement. Must not know: what was sampled.

Medians, so that neither a process that began just then nor one that was busy decides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

MOST = 1.25
"""What the later half may be of the earlier one: a growth that went on would be more."""


def halves(samples: Sequence[float]) -> tuple[float, float]:
    """The median of each; the sample in the middle of an odd number is in neither."""
    half = len(samples) // 2
    return (median(samples[:half]), median(samples[-half:])) if half else (samples[0], samples[0])


def grown(samples: Sequence[float], floor: float = 0) -> bool:
    """Whether the later half is above the earlier one by more than chance; up to the floor nothing is."""
    earlier, later = halves(samples)
    return later > MOST * max(earlier, floor)
