"""Nodes and zones that are really lost: links cut, agents stopped, everything on a node dead; under load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lab import faults, nodes
from lab.cluster import GPUS
from lab.layout import Lab, Node
from pilotboat.api import labels
from tests.e2e import flapping
from tests.e2e.caller import Caller
from tests.e2e.conftest import MDEP, PATIENCE, Space, fake
from tools import demo

pytestmark = [pytest.mark.e2e, pytest.mark.alone]
COUNTED = ("pilotboat_recovery_seconds_count", "pilotboat_recovery_part_seconds_count")
"""Of each histogram the series that tells how many there were."""


@pytest.fixture
def lost(lab: Lab, space: Space, chat: str, caller: Caller) -> Iterator[Node]:
    """The node to be lost, which is not the caller's, and whole again afterwards."""
    chosen = next(node for node in lab.nodes if node.name != caller.node)
    try:
        yield chosen
    finally:
        faults.power_on(chosen)
        space.cluster.run("wait", f"node/{chosen.name}", "--for=condition=Ready", "--timeout=300s")


def on(space: Space, node: Node) -> list[str]:
    """Replicas on a node."""
    return [pod["metadata"]["name"] for pod in space.pods("chat") if pod["spec"].get("nodeName") == node.name]


def field(space: Space, path: str, value: str, timeout: str = PATIENCE) -> None:
    """Until a field of the status has that value."""
    try:
        space.cluster.run("wait", f"{MDEP}/chat", f"--for=jsonpath={path}={value}", f"--timeout={timeout}")
    except Exception as error:
        raise AssertionError(json.dumps(space.status(MDEP, "chat"), indent=1)) from error


def shares(space: Space) -> dict[str, int]:
    """What zones get that do not get all of theirs, as gateways are told."""
    return flapping.shares(space.cluster, "chat")


def told(space: Space) -> dict[str, Any]:
    return dict(space.status(MDEP, "chat")["recovery"]["last"])


def between(earlier: str, later: str) -> float:
    """Seconds from one time of the status to another."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def recoveries(space: Space, caller: Caller, fault: str) -> dict[str, float]:
    """How many from such a fault the operator that leads has measured: by what was reached, and by part."""
    page = caller.page(f"http://{space.leader()['status']['podIP']}:8080/metrics")
    return {
        sample.labels.get("until") or sample.labels["part"]: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name in COUNTED and sample.labels["fault"] == fault
    }


def test_a_dead_node_costs_no_request_and_gets_a_replacement_elsewhere(
    lab: Lab, space: Space, caller: Caller, lost: Node
) -> None:
    """All operators are killed in the middle of it: who leads next goes on where they were."""
    before = on(space, lost)
    assert len(before) == 1
    with caller.load("chat", threads=4, pause=0.1) as load:
        faults.power_off(lost)
        field(space, "{.status.recovery.nodes[0].counted}", "true")
        noticed = told(space)["detectedAt"]
        space.cluster.run("delete", "pods", f"-n{demo.SYSTEM}", demo.OPERATORS, "--grace-period=0", "--force")
        space.cluster.run(
            "wait", f"{MDEP}/chat", "--for=jsonpath={.status.recovery.last.readyAt}", f"--timeout={PATIENCE}"
        )
        space.wait(MDEP, "chat", "Ready")
    assert load.failed == {}, load.wrong
    there = on(space, lost)  # and a stand-in, maybe: Kubernetes trusts the node for longer than we do
    assert set(before) <= set(there), "nothing is deleted on suspicion"
    assert len(space.pods("chat")) - len(there) == 3, "and one stands in for one"
    fault = told(space)
    assert fault["detectedAt"] == noticed
    assert fault["subject"] in (f"node {lost.name}", f"zone {lost.zone}")
    assert fault["trafficMovedAt"] <= fault["replacedAt"] <= fault["readyAt"]
    parts = {"schedule", "pull", "fetch", "load"}  # who has just begun to lead was not told how long it warmed up
    assert parts <= fault["seconds"].keys()
    assert sum(fault["seconds"].values()) <= between(fault["replacedAt"], fault["readyAt"]) + 1
    space.told("chat", "NodeLost", "Recovered")
    counted = recoveries(space, caller, fault["fault"])
    assert {"moved", "replaced", "ready"} | parts <= counted.keys()
    assert min(counted.values()) >= 1
    faults.power_on(lost)
    space.has("chat", 3)
    space.cluster.run("wait", f"{MDEP}/chat", "--for=jsonpath={.status.recovery.nodes}", "--timeout=300s")
    space.wait(MDEP, "chat", "Ready")


def test_a_spare_takes_a_lost_replicas_place_at_once_and_the_count_is_made_whole_when_there_is_room(
    lab: Lab, space: Space, caller: Caller, lost: Node
) -> None:
    """Until then nothing new can be placed but on the dead node, which Kubernetes still trusts for a while."""
    zones = {"spread": "Required", "spare": 1, "failback": {"after": "20s", "stepHold": "5s"}}
    space.apply("ModelDeployment", "chat", fake(replicas=2, zones=zones))
    space.wait(MDEP, "chat", "Ready")
    before = sorted(pod["metadata"]["name"] for pod in space.pods("chat"))
    there = [node.name for node in lab.nodes if node != lost]
    try:
        with caller.load("chat", threads=4, pause=0.1) as load:
            space.cluster.run("cordon", *there)
            faults.cut(lost)
            told_as_spare = space.reason(MDEP, "chat", "Ready", "SparesPending")
            over = told(space)
            space.cluster.run("uncordon", *there)
            space.wait(MDEP, "chat", "Ready")
            elsewhere = {pod["metadata"]["name"] for pod in space.pods("chat")} - set(on(space, lost))
            faults.restore(lost)
            space.has("chat", 3)
            space.wait(MDEP, "chat", "Ready")
    finally:
        space.cluster.run("uncordon", *there)
    assert load.failed == {}, load.wrong
    assert "1 of 1 spare replicas find no place" in told_as_spare
    assert over["subject"] in (f"node {lost.name}", f"zone {lost.zone}")
    assert over["detectedAt"] <= over["readyAt"]
    assert "seconds" not in over, "the loss was over, and nothing had been made for it"
    assert len(elsewhere) == 3, "two were there, and one stands in for the one that was lost"
    assert len(elsewhere & set(before)) == 2
    assert len({pod["spec"]["nodeName"] for pod in space.pods("chat")}) == 3, "the surplus went where there were two"


def test_a_zone_that_is_cut_off_gets_no_traffic_and_goes_back_by_steps(
    lab: Lab, space: Space, caller: Caller, lost: Node
) -> None:
    """Its pods live on and come back by themselves; whoever was made in their place goes when that is trusted."""
    before = on(space, lost)
    with caller.load("chat", threads=4, pause=0.1) as load:
        faults.partition(lab, lost.zone)
        space.reason(MDEP, "chat", "ZonesHealthy", "ZoneLost")
        assert shares(space) == {lost.zone: 0}
        space.wait(MDEP, "chat", "Ready")
        faults.heal(lab, lost.zone)
        space.reason(MDEP, "chat", "ZonesHealthy", "ZoneReturning")
        space.reason(MDEP, "chat", "ZonesHealthy", "ZonesUp")
        field(space, "{.status.recovery.nodes[0].counted}", "false")
        space.wait(MDEP, "chat", "Ready")
    assert load.failed == {}, load.wrong
    assert on(space, lost) == before
    assert len(space.pods("chat")) == 3
    assert told(space)["subject"] in (f"node {lost.name}", f"zone {lost.zone}"), "whichever was lost first was it all"
    space.told("chat", "NodeLost", "Recovered")
    space.told("chat", "NodeLost", "ZoneSuspect", "ZoneLost", "ZoneReturning", "ZonesUp")
    said = [message for reason, message in space.events("chat") if reason == "ZoneReturning"]
    steps = [f"gets {share} % of its share of the requests" for share in (10, 25, 50)]
    assert said == [f"zone {lost.zone} {words}" for words in ("is well again, and not trusted yet", *steps)]


def test_a_zone_that_serves_in_part_keeps_its_requests_until_others_can_bear_them(
    lab: Lab, space: Space, caller: Caller, lost: Node
) -> None:
    """Its node is silent, and one of two replicas is dead: what the other answers is one sixth of what is asked for."""
    zones = {"spread": "Required", "failover": {"threshold": 50}}
    space.apply("ModelDeployment", "chat", fake(replicas=6, zones=zones))
    space.has("chat", 6)
    space.wait(MDEP, "chat", "Ready")
    with caller.load("chat", threads=4, pause=0.1) as load:
        faults.stop_kubelet(lost)
        end(space, lost, on(space, lost)[0])
        said = space.reason(MDEP, "chat", "ZonesHealthy", "CapacityPending")
        assert "1 replicas are missing elsewhere" in said
        assert shares(space) == {}
        space.apply("ModelDeployment", "chat", fake(replicas=6, zones=zones | {"spare": 1}))
        space.reason(MDEP, "chat", "ZonesHealthy", "ZoneLost")
        assert shares(space) == {lost.zone: 0}
    assert load.failed == {}, load.wrong


def end(space: Space, node: Node, pod: str) -> None:
    """Its server dies, and without a kubelet nobody starts it anew."""
    told = space.cluster.get("pod", pod)["status"]["containerStatuses"]
    (container,) = (each["containerID"].removeprefix("containerd://") for each in told if each["name"] == "server")
    done = nodes.containerd(node).ctr("tasks", "kill", "--signal", "SIGKILL", container)
    assert done.returncode == 0, done.stderr


def test_nodes_whose_agents_die_keep_their_replicas_because_these_serve(lab: Lab, space: Space, caller: Caller) -> None:
    """Two of three, so most of the world looks bad: nothing is made, nothing is deleted, nobody's traffic moves."""
    space.apply("ModelDeployment", "chat", fake(replicas=3, zones={"spread": "Required"}))
    space.wait(MDEP, "chat", "Ready")
    before = sorted(pod["metadata"]["name"] for pod in space.pods("chat"))
    silent = [node for node in lab.nodes if node.name != caller.node][:2]  # who calls is reached through its kubelet
    try:
        with caller.load("chat", threads=4, pause=0.1) as load:
            for node in silent:
                faults.stop_kubelet(node)
            for node in silent:
                space.cluster.run("wait", f"node/{node.name}", "--for=condition=Ready=Unknown", "--timeout=300s")
            field(space, "{.status.recovery.nodes[1].name}", silent[1].name)
            assert shares(space) == {}
            assert "standIns" not in space.status(MDEP, "chat")["recovery"]
    finally:
        for node in silent:
            faults.start_kubelet(node)
        space.cluster.run("wait", "nodes", "--all", "--for=condition=Ready", "--timeout=300s")
    space.wait(MDEP, "chat", "Ready")
    assert load.failed == {}, load.wrong
    assert sorted(pod["metadata"]["name"] for pod in space.pods("chat")) == before


@pytest.mark.long
def test_where_every_gpu_is_taken_lost_replicas_wait_for_one_and_say_so(lab: Lab, space: Space, caller: Caller) -> None:
    spread = {"spread": "Required", "failback": {"after": "20s"}}
    space.apply("ModelDeployment", "chat", fake(replicas=3 * GPUS, gpu={"count": 1}, zones=spread))
    space.wait(MDEP, "chat", "Ready")
    node = next(node for node in lab.nodes if node.name != caller.node)
    try:
        with caller.load("chat", threads=4, pause=0.1) as load:
            faults.power_off(node)
            told = space.reason(MDEP, "chat", "ZonesHealthy", "CapacityPending")
        assert load.failed == {}, load.wrong
        assert "Insufficient nvidia.com/gpu" in told
        assert space.status(MDEP, "chat")["ready"] == f"{2 * GPUS}/{3 * GPUS}"
    finally:
        faults.power_on(node)
    space.wait(MDEP, "chat", "Ready")
    space.has("chat", 3 * GPUS)
    space.told("chat", "CapacityPending", "Recovered")


def test_a_node_that_is_drained_costs_no_request_and_waits_for_no_replica_that_is_dead_anyway(
    lab: Lab, space: Space, caller: Caller
) -> None:
    """One after the other goes, as the budget allows; whoever serves nobody goes though the budget is used up."""
    first, second = (node for node in lab.nodes if node.name != caller.node)
    space.apply("ModelDeployment", "chat", fake(replicas=3))  # where a node is cordoned, two have to share one
    space.wait(MDEP, "chat", "Ready")
    try:
        with caller.load("chat", threads=4, pause=0.1) as load:
            drain(space, first)
            assert on(space, first) == []
            space.wait(MDEP, "chat", "Ready")
        assert load.failed == {}, load.wrong
        space.cluster.run("uncordon", first.name)
        here = on(space, second)
        stuck = [here[0], next(p["metadata"]["name"] for p in space.pods("chat") if p["metadata"]["name"] != here[0])]
        for name in stuck:
            space.signal(name, "STOP")
        space.cluster.run("wait", "pod", *stuck, "--for=condition=Ready=False", "--timeout=300s")
        drain(space, second, "--grace-period=5")
        assert on(space, second) == []
        space.wait(MDEP, "chat", "Ready")
    finally:
        space.cluster.run("uncordon", first.name, second.name)


def drain(space: Space, node: Node, *options: str) -> None:
    """As an administrator does it before a reboot; the hub and the operator are another test's."""
    ours = f"--pod-selector={labels.MANAGED_BY}={labels.MANAGER}"
    space.cluster.run("drain", node.name, ours, "--delete-emptydir-data", "--timeout=300s", *options)
