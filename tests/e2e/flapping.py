"""A zone whose link comes and goes, and how often somebody's traffic was moved meanwhile.

Owns: the link, and the counting. Must not know: whose traffic it is, or what is expected of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from lab import faults
from lab.layout import Lab
from tools.kube import Cluster

CUT, BACK = 50.0, 25.0
"""Seconds for which the link is cut, so that the zone is lost each time, and then there."""


@dataclass
class Followed:
    """What one share of a zone's traffic became, each time that it changed."""

    look: Callable[[], int]
    """Per cent of its traffic now."""
    shares: list[int] = field(default_factory=lambda: [100])

    def follow(self) -> None:
        """Look once more."""
        share = self.look()
        self.shares += [share] if share != self.shares[-1] else []

    @property
    def moves(self) -> int:
        """How often its traffic was taken away, or it got some again."""
        had = [share > 0 for share in self.shares]
        return sum(a != b for a, b in pairwise(had))


def shares(cluster: Cluster, name: str) -> dict[str, int]:
    """What zones get that do not get all of theirs, as gateways are told."""
    route = json.loads(cluster.run("get", "configmap", f"{name}-route", "-ojson"))["data"]["route.json"]
    found: dict[str, int] = json.loads(route)["zones"]
    return found


def routed(cluster: Cluster, name: str, zone: str) -> Followed:
    """The share that gateways are told to give."""
    return Followed(lambda: shares(cluster, name).get(zone, 100))


def endpoints(cluster: Cluster, service: str, zone: str) -> Followed:
    """What a plain Service does: each of its ready endpoints gets its part, and no other gets any."""

    def look() -> int:
        selector = f"-lkubernetes.io/service-name={service}"
        slices = json.loads(cluster.run("get", "endpointslices", selector, "-ojson"))["items"]
        there = [each for found in slices for each in found["endpoints"] or () if each.get("zone") == zone]
        return 100 * any(each["conditions"].get("ready") for each in there)

    return Followed(look)


def flap(lab: Lab, zone: str, minutes: float, looks: Sequence[Callable[[], object]]) -> int:
    """Cuts the zone's link and heals it, again and again; how often. All look as it goes on, about once a second."""
    cuts, end = 0, time.monotonic() + 60 * minutes
    try:
        while time.monotonic() < end:
            faults.partition(lab, zone)
            cuts += 1
            _looking(CUT, looks)
            faults.heal(lab, zone)
            _looking(BACK, looks)
    finally:
        faults.heal(lab, zone)
    return cuts


def _looking(seconds: float, looks: Sequence[Callable[[], object]]) -> None:
    """For so long, which is the fault's own time."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for look in looks:
            look()
        time.sleep(min(1.0, left))
