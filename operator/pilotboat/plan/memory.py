"""What to say of a container that was killed for want of memory: how much it had, and which fields to change.

Owns: the words. Must not know: pods, how the kill was noticed.
"""

from __future__ import annotations

from collections.abc import Mapping

LIMIT = "spec.podTemplate.resources.limits.memory"
REQUEST = "spec.podTemplate.resources.requests.memory"
_LESS: Mapping[str, str] = {
    "server": "lower spec.inference.maxLength or spec.inference.batchSize, or serve a smaller quantisation",
    "trainer": "lower spec.training.batchSize (gradientAccumulationSteps makes up for it) or spec.training.maxLength",
}
"""What makes a container need less, by its name."""
_OURS = (*_LESS, "fetch")
"""Containers whose resources the user sets."""


def killed(container: str, limit: str | None) -> str:
    """One sentence; `limit` is what the container had, where that is known."""
    if container not in _OURS:
        return f"container {container} used more memory than its limit{f' of {limit}' if limit else ''} and was killed"
    if limit:
        told = f"container {container} used more memory than its limit of {limit} and was killed: raise {LIMIT}"
    else:
        told = (
            f"container {container} was killed for want of memory; it has no limit of its own, so its node had no "
            f"more: set {REQUEST}, and it is placed where there is room"
        )
    return f"{told}; or {less}" if (less := _LESS.get(container)) else told
