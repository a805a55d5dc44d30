"""Who bears how much: whether the replicas elsewhere bear what those of a zone answer, each revision by its share of
the traffic; and what a revision's replicas bear where a zone gets less than its share, or some are lost.

Owns: that arithmetic. Must not know: zones' states, how traffic is moved, how replicas shift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from . import build, capacity, diagnose, shares
from .build import Raw
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
    return sum(_borne(observed, pod, zones) for pod in build.of_revision(observed.pods, revision))


def _borne(observed: Observed, pod: Raw, zones: Mapping[str, int]) -> int:
    node = observed.nodes.get(build.dig(pod, "spec", "nodeName") or "")
    return (zones.get(node.zone, 100) if node else 100) if diagnose.ready(pod) else 0


@dataclass(frozen=True)
class Useless:
    """Replicas that Kubernetes calls ready and that bear less than a whole one: lost ones, and those of a zone that
    gets less than its share. It takes them for as good as any."""

    observed: Observed
    told: tuple[Raw, ...]
    """The pods as Kubernetes has them, where `observed` knows better."""
    zones: Mapping[str, int]
    """Who get less than their share, and how many per cent of it."""

    @property
    def called(self) -> frozenset[str]:
        """Names of those that Kubernetes calls ready."""
        return frozenset(pod["metadata"]["name"] for pod in self.told if diagnose.ready(pod))

    def count(self, revision: str) -> int:
        """How many of a revision's replicas there are too few to bear what Kubernetes counts on."""
        called = sum(map(diagnose.ready, build.of_revision(self.told, revision)))
        return called - bearing(self.observed, revision, self.zones) // 100

    def among(self, pods: Iterable[Raw]) -> list[Raw]:
        """Those of these pods, who bear least in front."""
        called = self.called
        borne = [(_borne(self.observed, pod, self.zones), pod) for pod in pods if pod["metadata"]["name"] in called]
        return [pod for share, pod in sorted(borne, key=lambda each: each[0]) if share < 100]
