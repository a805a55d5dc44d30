"""How traffic is split over revisions where nothing but their replicas decides.

Owns: shares in proportion to ready replicas. Must not know: what a revision is, who reads the shares.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..api.routing import WHOLE


def by_ready(ready: Sequence[int]) -> list[int]:
    """Shares per mille that add up to WHOLE, by largest remainder; all to the first where nothing is ready."""
    total = sum(ready)
    if not total:
        return [WHOLE if place == 0 else 0 for place in range(len(ready))]
    shares = [count * WHOLE // total for count in ready]
    largest = sorted(range(len(ready)), key=lambda place: (-(ready[place] * WHOLE % total), place))
    for place in largest[: WHOLE - sum(shares)]:
        shares[place] += 1
    return shares
