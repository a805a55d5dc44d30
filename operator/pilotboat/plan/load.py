"""Who bears how much: whether the replicas elsewhere bear what those of a zone answer, each revision by its share of
the traffic; and what a revision's replicas bear where a zone gets less than its share.

Owns: that arithmetic. Must not know: zones' states, how traffic is moved, how replicas shift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from . import build, capacity, diagnose, shares
from .types import Observed

ALIKE = ""
"""In the place of a revision: all replicas, where each gets as much as any other."""

Counts = Mapping[str, int]
"""Replicas by revision."""


@dataclass(frozen=True)
class Load:
    """What all replicas together have to bear."""

    whole: int = 0
    """Replicas that bear all of the traffic: those asked for, without spare ones and one that is lent to a canary."""
    weights: Mapping[str, int] = field(default_factory=lambda: {ALIKE: 100})
    """Per cent of the traffic by revision; beside no canary that of all replicas alike."""

    def part(self, revision: str | None) -> str:
        """As what a replica of that revision counts."""
        return revision if revision and revision in self.weights else ALIKE

    def answering(self, counts: Counts) -> int:
        """How many of these replicas are of a revision that has requests."""
        return sum(count for part, count in counts.items() if self.weights.get(part))

    def kept(self, here: Counts, elsewhere: Counts) -> dict[str, int]:
        """Of the replicas that serve in a zone, as many of each revision as are missing elsewhere of those it needs.

        A revision that nobody serves elsewhere keeps nobody where others can bear its requests too: they get them."""
        if not self._missing(elsewhere, elsewhere):
            return {}
        missing = self._missing(elsewhere, Counter(here) + Counter(elsewhere))
        return {revision: min(count, here[revision]) for revision, count in missing.items() if here.get(revision)}

    def _missing(self, serving: Counts, there: Counts) -> dict[str, int]:
        """What these lack for their revisions' shares; who has nobody `there` has his answered by others."""
        needs = {name: capacity.need(weight, self.whole) for name, weight in shares.alive(self.weights, there).items()}
        return {name: lacking for name, need in needs.items() if (lacking := need - serving.get(name, 0)) > 0}


def bearing(observed: Observed, revision: str, zones: Mapping[str, int]) -> int:
    """What the ready replicas of a revision bear, in hundredths of one; `zones`: who get less than their share, and how
    many per cent of it."""
    ready = filter(diagnose.ready, build.of_revision(observed.pods, revision))
    nodes = (observed.nodes.get(build.dig(pod, "spec", "nodeName") or "") for pod in ready)
    return sum(zones.get(node.zone, 100) if node else 100 for node in nodes)
