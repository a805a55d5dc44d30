"""A zone whose link comes and goes: its traffic is moved away once, and not back before it can be trusted.

`make soak` does so for twenty minutes: FLAPPING_MINUTES. What a shorter time would show is in test_recovery.py.
"""

from __future__ import annotations

import os

import pytest

from lab.layout import Lab
from tests.e2e.caller import Caller
from tests.e2e.conftest import MDEP, Space, fake
from tests.e2e.flapping import flap, routed

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.long]
MINUTES = int(os.environ.get("FLAPPING_MINUTES", "20"))
THREADS = 3


def test_twenty_minutes_of_flapping_are_two_moves_at_most_and_cost_no_request(
    lab: Lab, space: Space, caller: Caller
) -> None:
    """A request under way through the cut zone's gateway is asked again, as OpenAI's client does."""
    space.apply("ModelDeployment", "chat", fake(replicas=3, zones={"spread": "Required"}))
    space.wait(MDEP, "chat", "Ready")
    zone = next(node.zone for node in lab.nodes if node.name != caller.node)
    followed, pods = routed(space.cluster, "chat", zone), []
    looks = (followed.follow, lambda: pods.append(len(space.pods("chat"))))
    with caller.load("chat", threads=THREADS, pause=0.1, seconds=60 * MINUTES + 600, again=2) as load:
        cuts = flap(lab, zone, MINUTES, looks)
    print(f"cut {cuts} times; shares {followed.shares}, {max(pods)} pods at most", flush=True)
    print(f"{load.whole} requests, {load.again} of them asked again", flush=True)
    assert load.failed == {}, load.wrong
    assert load.again <= THREADS * cuts
    assert 0 in followed.shares, "it was moved"
    assert followed.moves <= 2, followed.shares
    assert max(pods) <= 5, "one stands in for the replica there, and for a stand-in that was given to its node"
    space.wait(MDEP, "chat", "Ready")
