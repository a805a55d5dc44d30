"""How traffic is split over revisions by the replicas that they have.

Owns: shares in proportion to ready replicas, and who has a share that is nobody's. Must not know: what a revision is,
who reads the shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..api.routing import WHOLE


def by_ready(ready: Sequence[int]) -> list[int]:
    """Shares per mille that add up to WHOLE; all to the first where nothing is ready."""
    return apportioned(ready, WHOLE)


def apportioned(parts: Sequence[int], whole: int) -> list[int]:
    """Shares of the whole in proportion to the parts, by largest remainder; all to the first where all are 0."""
    total = sum(parts)
    if not total:
        return [whole if place == 0 else 0 for place in range(len(parts))]
    shares = [count * whole // total for count in parts]
    largest = sorted(range(len(parts)), key=lambda place: (-(parts[place] * whole % total), place))
    for place in largest[: whole - sum(shares)]:
        shares[place] += 1
    return shares


def alive(weights: Mapping[str, int], ready: Mapping[str, int]) -> Mapping[str, int]:
    """The weights in per cent, or all to the one of those with a weight of which alone anything is ready."""
    serving = [name for name, weight in weights.items() if weight and ready.get(name)]
    return {name: 100 * (name in serving) for name in weights} if len(serving) == 1 else weights
