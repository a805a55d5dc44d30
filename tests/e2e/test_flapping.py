"""A zone whose link comes and goes: its traffic is moved away once, and not back before it can be trusted.

`make soak` does so for twenty minutes: FLAPPING_MINUTES. What a shorter time would show is in test_recovery.py.
"""

from __future__ import annotations

import json
import os
import time
from itertools import pairwise

import pytest

from lab import faults
from lab.layout import Lab
from tests.e2e.caller import Caller
from tests.e2e.conftest import MDEP, Space, fake

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.long]
MINUTES = int(os.environ.get("FLAPPING_MINUTES", "20"))
CUT, BACK = 50.0, 25.0
"""Seconds for which the link is cut, so that the zone is lost each time, and then there."""
THREADS = 3


class Flapping:
    """One zone's link, and what was seen of the deployment meanwhile."""

    def __init__(self, space: Space, lab: Lab, zone: str) -> None:
        self.space = space
        self.lab = lab
        self.zone = zone
        self.cuts = 0
        self.shares = [100]
        """Of its traffic, in per cent, each that it had; the newest last."""
        self.most = 0
        """Most pods at once."""

    def once(self) -> None:
        faults.partition(self.lab, self.zone)
        self.cuts += 1
        self._look(CUT)
        faults.heal(self.lab, self.zone)
        self._look(BACK)
        print(f"cut {self.cuts} times; shares so far {self.shares}, {self.most} pods at most", flush=True)

    def _look(self, seconds: float) -> None:
        """For so long, which is the fault's own time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            route = json.loads(self.space.cluster.run("get", "configmap", "chat-route", "-ojson"))["data"]["route.json"]
            share = json.loads(route)["zones"].get(self.zone, 100)
            self.shares += [share] if share != self.shares[-1] else []
            self.most = max(self.most, len(self.space.pods("chat")))
            time.sleep(min(1.0, left))

    @property
    def moves(self) -> int:
        """How often its traffic was taken away, or it got some again."""
        had = [share > 0 for share in self.shares]
        return sum(a != b for a, b in pairwise(had))


def test_twenty_minutes_of_flapping_are_two_moves_at_most_and_cost_no_request(
    lab: Lab, space: Space, caller: Caller
) -> None:
    """A request under way through the cut zone's gateway is asked again, as OpenAI's client does."""
    space.apply("ModelDeployment", "chat", fake(replicas=3, zones={"spread": "Required"}))
    space.wait(MDEP, "chat", "Ready")
    flapping = Flapping(space, lab, next(node.zone for node in lab.nodes if node.name != caller.node))
    end = time.monotonic() + 60 * MINUTES
    try:
        with caller.load("chat", threads=THREADS, pause=0.1, seconds=60 * MINUTES + 600, again=2) as load:
            while time.monotonic() < end:
                flapping.once()
    finally:
        faults.heal(lab, flapping.zone)
    print(f"{load.whole} requests, {load.again} of them asked again", flush=True)
    assert load.failed == {}, load.wrong
    assert load.again <= THREADS * flapping.cuts
    assert 0 in flapping.shares, "it was moved"
    assert flapping.moves <= 2, flapping.shares
    assert flapping.most <= 5, "one stands in for the replica there, and for a stand-in that was given to its node"
    space.wait(MDEP, "chat", "Ready")
