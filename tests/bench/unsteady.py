"""What goes on for longer than a rehearsal's faults: operators that are killed, and a zone whose link comes and goes.

Owns: both under load, on ours and on the plain Deployment at once. Must not know: how either is deployed, or the goals.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lab.layout import current
from tests.e2e.caller import Caller, Counted
from tests.e2e.flapping import endpoints, flap, routed
from tools import demo
from tools.kube import Cluster
from tools.steps import StepFailed, step

WATCHED = 40.0
"""Seconds of load after the operators' end: a Lease that nobody gives back is taken after 15 to 20."""
LOAD = {"threads": 3, "pause": 0.1, "again": 2}
"""A connection that breaks before any answer is asked anew, twice, as OpenAI's client does: of both sides."""


@dataclass(frozen=True)
class Pair:
    """The ModelDeployment and the plain Service beside it, and what calls both."""

    cluster: Cluster
    caller: Caller
    ours: str
    service: str
    model: str
    """That the plain one's servers call theirs."""

    @contextmanager
    def called(self, seconds: float) -> Iterator[tuple[Counted, Counted]]:
        """Both, while the block runs, but for no longer than so many seconds."""
        wishes = {**LOAD, "seconds": seconds}
        with (
            self.caller.load(self.ours, **wishes) as ours,
            self.caller.load(self.model, host=self.service, **wishes) as other,
        ):
            yield ours, other


@dataclass(frozen=True)
class Flapped:
    """What a zone that flaps has cost each: requests lost, moves of its traffic, seconds for a thousand requests."""

    lost: tuple[int, int]
    moves: tuple[int, int]
    thousand: tuple[float, float]


def operators_killed(pair: Pair) -> tuple[int, int]:
    """All of them at once, with no time to give back the Lease: requests that each lost."""
    with step("Every operator is killed"), pair.called(600) as called:
        pair.cluster.run("delete", "pods", f"-n{demo.SYSTEM}", demo.OPERATORS, "--grace-period=0", "--force")
        time.sleep(WATCHED)  # the load that is measured
    pair.cluster.run("rollout", "status", f"-n{demo.SYSTEM}", "deployment/pilotboat", "--timeout=180s")
    return _lost(*called)


def flapping(pair: Pair, zone: str, minutes: float) -> Flapped:
    """The zone's link is cut and healed for so long."""
    followed = routed(pair.cluster, pair.ours, zone), endpoints(pair.cluster, pair.service, zone)
    began = time.monotonic()
    with step(f"The link of {zone} comes and goes for {minutes:g} minutes"), pair.called(60 * minutes + 300) as called:
        cuts = flap(current(), zone, minutes, [each.follow for each in followed])
    seconds = time.monotonic() - began
    if not all(0 in each.shares for each in followed):
        print(f"cut {cuts} times, and shares were {[each.shares for each in followed]}", flush=True)
    lost = _lost(*called)
    ours, other = called
    moves = followed[0].moves, followed[1].moves
    return Flapped(lost, moves, (1000 * seconds / ours.whole, 1000 * seconds / other.whole))


def _lost(*called: Counted) -> tuple[int, int]:
    """Those that failed before their first token, whatever the tries."""
    if not all(each.whole for each in called):
        raise StepFailed("callers got no whole answer at all: the load itself was broken")
    ours, other = (sum(each.failed.values()) for each in called)
    return ours, other


def image(cluster: Cluster) -> str:
    """One with Python, which every node has: the hub's."""
    hub: dict[str, Any] = json.loads(cluster.run("get", "deployment", "hub", f"-n{demo.DEMO}", "-ojson"))
    return str(hub["spec"]["template"]["spec"]["containers"][0]["image"])
