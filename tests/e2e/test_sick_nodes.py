"""Nodes that live and are not well: a device out of order, a disk that is full, an image that is not there.

What a node's status says is simulated, as the lab's GPUs are (`lab.sickness`); scheduler, kubelets and pods are real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import faults, nodes, procs, sickness
from lab.cluster import GPUS
from lab.layout import Lab, Node
from tests.e2e.caller import Caller
from tests.e2e.conftest import MDEP, PATIENCE, Space, fake
from tools import demo

pytestmark = [pytest.mark.e2e, pytest.mark.alone]


@pytest.fixture(autouse=True)
def cured(lab: Lab) -> Iterator[None]:
    """All nodes are well again afterwards."""
    yield
    sickness.cure(lab)


@pytest.fixture
def sick(lab: Lab, caller: Caller) -> Node:
    """The node that will not be well, which is not the caller's."""
    return next(node for node in lab.nodes if node.name != caller.node)


def on(space: Space, node: Node) -> list[str]:
    """Replicas on a node that are neither over nor going."""
    return [
        pod["metadata"]["name"]
        for pod in space.pods("chat")
        if pod["spec"].get("nodeName") == node.name and pod["status"]["phase"] in ("Pending", "Running")
    ]


def rather_on(*names: str) -> dict[str, Any]:
    """A pod template for these nodes, as long as there is room."""
    here = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": names}]}
    terms = [{"weight": 100, "preference": here}]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}
    return {**fake()["podTemplate"], "affinity": affinity}


def recovery(space: Space) -> dict[str, Any]:
    return dict(space.status(MDEP, "chat").get("recovery") or {})


def one_device_less(node: Node) -> None:
    """As its device plugin says it."""
    sickness.devices(node, GPUS - 1)


@pytest.mark.long
@pytest.mark.parametrize("breaks", [one_device_less, sickness.xid])
def test_a_device_out_of_order_costs_its_replica_nothing_until_it_fails_and_gets_it_a_place_elsewhere_first(
    lab: Lab, space: Space, caller: Caller, breaks: Callable[[Node], None]
) -> None:
    """Each replica takes all GPUs of a node, so one node is free, and one has a replica and not the caller."""
    zones = {"failback": {"after": "20s"}}
    space.apply("ModelDeployment", "chat", fake(replicas=2, gpu={"count": GPUS}, zones=zones))
    space.wait(MDEP, "chat", "Ready")
    sick = next(node for node in lab.nodes if node.name != caller.node and on(space, node))
    (replica,) = on(space, sick)
    with caller.load("chat", threads=4, pause=0.1) as load:
        breaks(sick)
        space.cluster.run("wait", f"{MDEP}/chat", "--for=jsonpath={.status.recovery.nodes}", f"--timeout={PATIENCE}")
        seen = recovery(space)
        assert (seen["nodes"][0]["name"], seen["nodes"][0]["fault"]) == (sick.name, "GPUFault")
        assert not seen["nodes"][0].get("counted"), "its replica serves"
        assert len(space.pods("chat")) == 2
        space.signal(replica, "STOP")
        space.told("chat", "GPUFault")
        space.has("chat", 3)
        space.wait(MDEP, "chat", "Ready")
        assert on(space, sick) == [replica], "nothing is deleted on suspicion"
        told = recovery(space)["last"]
        assert (told["fault"], told["subject"]) == ("GPUFault", f"node {sick.name}")
        assert told["detectedAt"] <= told["replacedAt"] <= told["readyAt"]
        assert {"schedule", "pull", "fetch", "load", "warm"} == told["seconds"].keys()
        sickness.cure(lab)
        space.signal(replica, "CONT")
        space.has("chat", 2)
        space.wait(MDEP, "chat", "Ready")
    assert load.failed == {}, load.wrong
    assert "standIns" not in recovery(space), "which of the three went is Kubernetes' choice"


def test_a_full_disk_lets_replicas_serve_and_one_that_is_evicted_comes_elsewhere(
    lab: Lab, space: Space, caller: Caller, sick: Node
) -> None:
    """Kubernetes keeps new pods away; with `Required` the zone would have to have the next one all the same."""
    space.apply("ModelDeployment", "chat", fake(replicas=3, zones={"spread": "Required"}))
    space.wait(MDEP, "chat", "Ready")
    (replica,) = on(space, sick)
    with caller.load("chat", threads=4, pause=0.1) as load:
        sickness.full_disk(sick)
        taint = "{.spec.taints[?(@.key=='node.kubernetes.io/disk-pressure')].effect}"
        space.cluster.run("wait", f"node/{sick.name}", f"--for=jsonpath={taint}=NoSchedule", f"--timeout={PATIENCE}")
        assert on(space, sick) == [replica], "what serves goes on"
        assert recovery(space) == {}, "and nobody stands in for it"
        sickness.evict(lab, str(space.cluster.namespace), replica)
        procs.wait_until(lambda: len(serving(space) - {replica}) == 3, what="Three replicas that serve", timeout=120)
        space.wait(MDEP, "chat", "Ready")
    assert load.failed == {}, load.wrong
    assert on(space, sick) == []
    assert recovery(space)["last"]["fault"] == "PodLost"


@pytest.fixture
def elsewhere(lab: Lab, space: Space, sick: Node) -> Iterator[str]:
    """A name that the server's image has on every node but the sick one; there is no registry to pull it from."""
    name, stores = "localhost/not-everywhere:1", [nodes.containerd(node) for node in lab.nodes if node != sick]
    path = "{.items[0].spec.containers[0].env[?(@.name=='PILOTBOAT_IMAGES_SERVER')].value}"
    server = space.cluster.run("get", "pods", f"-n{demo.SYSTEM}", demo.OPERATORS, f"-ojsonpath={path}")
    for store in stores:
        assert store.ctr("images", "tag", "--force", server, name).returncode == 0
    yield name
    for store in stores:
        store.ctr("images", "remove", name)


@pytest.mark.long
def test_who_is_to_stand_in_on_a_node_that_lacks_the_image_names_it_and_comes_elsewhere_when_that_is_cordoned(
    lab: Lab, space: Space, caller: Caller, sick: Node, elsewhere: str
) -> None:
    """Nobody's requests fail meanwhile: the node that is lost has had one replica of two."""
    lost = next(node for node in lab.nodes if node.name not in (caller.node, sick.name))
    zones = {"spread": "Required", "failback": {"after": "20s"}}
    engine, template = {"type": "Fake", "image": elsewhere}, rather_on(lost.name, caller.node)
    space.apply("ModelDeployment", "chat", fake(replicas=2, engine=engine, zones=zones, podTemplate=template))
    space.wait(MDEP, "chat", "Ready")
    assert on(space, sick) == []
    try:
        with caller.load("chat", threads=4, pause=0.1) as load:
            faults.cut(lost)
            told = space.reason(MDEP, "chat", "Ready", "ImagePullError")
            (stuck,) = on(space, sick)
            assert told.startswith(f"{stuck} on node {sick.name}: image of container server: ")
            assert elsewhere in told
            space.cluster.run("cordon", sick.name)
            space.cluster.run("delete", "pod", stuck)
            space.wait(MDEP, "chat", "Ready")
            faults.restore(lost)
            space.has("chat", 2)
            space.wait(MDEP, "chat", "Ready")
    finally:
        faults.restore(lost)
        space.cluster.run("uncordon", sick.name)
        space.cluster.run("wait", f"node/{lost.name}", "--for=condition=Ready", f"--timeout={PATIENCE}")
    assert load.failed == {}, load.wrong


def serving(space: Space) -> set[str]:
    """Replicas that are ready by their conditions."""
    said = {pod["metadata"]["name"]: pod["status"].get("conditions") or () for pod in space.pods("chat")}
    return {name for name, each in said.items() if any(c["type"] == "Ready" and c["status"] == "True" for c in each)}
