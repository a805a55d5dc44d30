"""Zones, counted: how many nodes and replicas each has, and how many of them fail.

Owns: when a zone fails. Must not know: how long it has failed, and what follows from that (zones.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..api import labels
from . import diagnose
from .build import Raw, dig
from .load import Counts, Load
from .losses import Sight
from .types import Node

_UNSEEN = Sight(up=False)


@dataclass(frozen=True)
class Zone:
    """One zone, counted."""

    name: str
    nodes: int = 0
    suspect: int = 0
    replicas: int = 0
    failing: int = 0
    serving: Counts = field(default_factory=dict)
    """Ready replicas, by what counts apart (load.py)."""
    canned: str | None = None
    """Why the canned inference of a replica there failed, empty where none did; None: none was made yet."""

    @property
    def ready(self) -> int:
        """All of these."""
        return sum(self.serving.values())

    def fails(self, threshold: int) -> bool:
        """Whether as many nodes and replicas fail as the threshold says, in per cent."""
        nodes = 100 * self.suspect >= threshold * self.nodes
        return bool(self.nodes) and nodes and 100 * self.failing >= threshold * self.replicas

    @property
    def told(self) -> str:
        """In words."""
        return f"{self.suspect} of {self.nodes} nodes and {self.failing} of {self.replicas} replicas fail"


@dataclass(frozen=True)
class World:
    """All zones, counted, by name."""

    zones: Mapping[str, Zone] = field(default_factory=dict)
    load: Load = field(default_factory=Load)

    def bad(self, threshold: int) -> list[str]:
        """Zones that fail now."""
        return [name for name, zone in self.zones.items() if zone.fails(threshold)]

    def answering(self, names: Iterable[str]) -> int:
        """Ready replicas in these zones that requests may be for."""
        return sum(self.load.answering(self.zones[name].serving) for name in names)


def count(
    pods: Sequence[Raw], nodes: Mapping[str, Node], failing: frozenset[str], seen: Mapping[str, Sight], load: Load
) -> World:
    """The zones of all nodes that have one; `failing` are names of lost replicas, `seen` what gateways see of them."""
    found: dict[str, dict[str, int]] = {}
    serving: dict[str, Counter[str]] = {}
    canned: dict[str, set[str]] = {}
    for node in nodes.values():
        if node.zone:
            zone = found.setdefault(node.zone, dict.fromkeys(("nodes", "suspect", "replicas", "failing"), 0))
            serving.setdefault(node.zone, Counter())
            zone["nodes"] += 1
            zone["suspect"] += node.suspect is not None
    for pod in pods:
        where = nodes.get(dig(pod, "spec", "nodeName") or "")
        if where and where.zone and diagnose.lasting(pod):
            lost, sight = pod["metadata"]["name"] in failing, seen.get(pod["metadata"]["name"], _UNSEEN)
            found[where.zone]["replicas"] += 1
            found[where.zone]["failing"] += lost
            # of a node that it does not hear of Kubernetes calls all replicas unready, those too that serve
            if (diagnose.ready(pod) or sight.up) and not lost:
                serving[where.zone][load.part(dig(pod, "metadata", "labels", labels.REVISION))] += 1
            canned.setdefault(where.zone, set()).update(sight.canned)
    worst = {name: max(told) for name, told in canned.items() if told}
    zones = {name: Zone(name, **found[name], serving=serving[name], canned=worst.get(name)) for name in sorted(found)}
    return World(zones, load)
