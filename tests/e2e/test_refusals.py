"""Where it is best to do nothing: most of the world looks bad, or nobody has said which zones there are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from lab import faults
from lab.layout import Lab
from lab.procs import wait_until
from tests.e2e.caller import Caller
from tests.e2e.conftest import MDEP, Space, hub_pod
from tests.e2e.test_recovery import shares

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.long]
ZONE = "topology.kubernetes.io/zone"
RATHER_US = "2 of 3 zones look bad at once: that is more likely the observer's fault"
LOST_AFTER = 15.0
"""Seconds that a zone fails until it is lost, where it is."""


@pytest.fixture
def beside_the_leader(space: Space) -> Caller:
    """Calls from the node of the operator that leads, which has to see what happens elsewhere."""
    caller = Caller(space.cluster)
    caller.start(hub_pod(space)["spec"]["containers"][0]["image"], space.leader()["spec"]["nodeName"])
    return caller


def names(space: Space) -> set[str]:
    """The replicas there are."""
    return {pod["metadata"]["name"] for pod in space.pods("chat")}


def suspected(space: Space) -> list[dict[str, Any]]:
    """Zones that fail and are not lost."""
    return [zone for zone in space.status(MDEP, "chat").get("zones", ()) if zone["state"] == "Suspect"]


def age(zone: dict[str, Any]) -> float:
    """Seconds for which it has been in its state."""
    return (datetime.now(UTC) - datetime.fromisoformat(zone["since"])).total_seconds()


def test_two_zones_of_three_that_fall_silent_keep_their_requests_for_it_is_rather_we_who_are_cut_off(
    lab: Lab, space: Space, chat: str, beside_the_leader: Caller
) -> None:
    before, caller = names(space), beside_the_leader
    silent = [node for node in lab.nodes if node.name != caller.node]
    with caller.load(chat, threads=4, pause=0.1) as load:
        try:
            for node in silent:
                faults.cut(node)
            long_enough = "Two zones that fail for longer than they would need to be lost"
            wait_until(
                lambda: [age(zone) > 2 * LOST_AFTER for zone in suspected(space)] == [True, True],
                what=long_enough,
                timeout=180,
            )
            told = [zone["message"] for zone in suspected(space)]
            assert all(
                "2 of 3 zones look bad at once: that is more likely the observer's fault" in each for each in told
            )
            assert shares(space) == {}
            assert before <= names(space), "nothing is deleted on suspicion"
        finally:
            for node in silent:
                faults.restore(node)
        space.reason(MDEP, chat, "ZonesHealthy", "ZonesUp")
        space.has(chat, 3)
        space.wait(MDEP, chat, "Ready")
    assert names(space) == before
    assert load.failed == {}, load.wrong
    assert "ZoneLost" not in {reason for reason, _ in space.events(chat)}


def test_where_nodes_have_no_zones_it_says_so_and_all_goes_on(
    lab: Lab, space: Space, chat: str, caller: Caller
) -> None:
    before = names(space)
    with caller.load(chat, threads=4, pause=0.1) as load:
        try:
            space.cluster.run("label", "nodes", "--all", f"{ZONE}-")
            told = space.reason(MDEP, chat, "ZonesHealthy", "ZonesNotLabelled")
            assert told == f"3 of 3 nodes have no label {ZONE}"
            space.wait(MDEP, chat, "Ready")
            assert shares(space) == {}
        finally:
            for node in lab.nodes:
                space.cluster.run("label", "node", node.name, f"{ZONE}={node.zone}")
        space.reason(MDEP, chat, "ZonesHealthy", "ZonesUp")
    assert names(space) == before
    assert load.failed == {}, load.wrong
