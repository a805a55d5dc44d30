"""The control plane, a node's runtime and links at fault, with a caller that never stops: nothing is lost or made anew.

Every request has a connection and a look-up of its own, as the worst of applications do, and none is asked again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lab import faults
from lab.kube import Client
from lab.layout import SERVICE_ADDRESS, Lab, Node
from lab.procs import wait_until
from pilotboat.api import labels
from tests.e2e.caller import CUT_OFF, Caller, Counted
from tests.e2e.conftest import MDEP, Space, spread
from tools import demo

pytestmark = [pytest.mark.e2e, pytest.mark.alone]
CALLS: dict[str, Any] = {"threads": 4, "pause": 0.1, "fresh": True}
BOTH = "app.kubernetes.io/instance in (chat,pilotboat-gateway)"


@contextmanager
def undone(lab: Lab, space: Space) -> Iterator[None]:
    """Whatever becomes of the test, the lab is whole again, and that before the caller's counts are fetched."""
    try:
        yield
    finally:
        faults.undo(lab)
        space.cluster.run("wait", "nodes", "--all", "--for=condition=Ready", "--timeout=300s")


@pytest.fixture
def patient(lab: Lab) -> Iterator[None]:
    """Kubernetes does not call nodes unheard of while it is itself away: that would take all pods out of all Services.

    See docs/reliability.md for what comes of an API server that is away for longer than nodes may be silent.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LAB_NODE_GRACE", "120")
        begin_anew(lab, "kube-controller-manager")
        yield
    begin_anew(lab, "kube-controller-manager")


def begin_anew(lab: Lab, program: str) -> None:
    faults.stop_central(lab, program)
    faults.start_central(lab, program)


def lasts(seconds: float) -> None:
    """How long a fault lasts is part of the fault: no condition tells its end."""
    time.sleep(seconds)


def made(space: Space) -> dict[str, tuple[str, int]]:
    """Everything that belongs to the deployment and its gateway: its identity, and how often its containers began."""
    kinds = "pods,deployments,replicasets,services,configmaps,poddisruptionbudgets"
    found = json.loads(space.cluster.run("get", kinds, f"--selector={BOTH}", "-ojson"))["items"]
    return {f"{each['kind']} {each['metadata']['name']}": (each["metadata"]["uid"], begun(each)) for each in found}


def begun(each: dict[str, Any]) -> int:
    return sum(c["restartCount"] for c in each.get("status", {}).get("containerStatuses", ()))


def kept(before: dict[str, tuple[str, int]]) -> dict[str, tuple[str, int]]:
    """All but gateways: Kubernetes ends one in peace that was 15 seconds on a node which it could not hear."""
    return {name: was for name, was in before.items() if not name.startswith("Pod pilotboat-gateway-")}


def aside(lab: Lab, caller: Caller) -> Node:
    """A node to be hit: with a replica and a gateway, but not the caller's."""
    return next(node for node in lab.nodes if node.name != caller.node)


def on(space: Space, node: Node) -> list[str]:
    """Replicas on a node."""
    return [pod["metadata"]["uid"] for pod in space.pods("chat") if pod["spec"].get("nodeName") == node.name]


def told(load: Counted, least: int, streams: int = 0) -> None:
    """Every request was answered at the first attempt, and there were enough of them to mean something.

    `streams`: how many may have ended after their first token, from where nobody can ask elsewhere.
    """
    cut_off = load.failed.get(CUT_OFF, 0)
    print(f"{load.whole} requests whole, {load.failed or 'none'} lost", flush=True)
    assert load.failed.keys() <= {CUT_OFF}, load.wrong
    assert cut_off <= streams, load.wrong
    assert load.whole >= least


def lease(space: Space) -> dict[str, Any]:
    """Which replica of the operator leads, and its last word on it."""
    found = json.loads(space.cluster.run("get", "lease", "pilotboat", f"-n{demo.SYSTEM}", "-ojson"))
    return dict(found["spec"])


def leads(space: Space) -> str:
    """When the operator last said that it leads."""
    return str(lease(space)["renewTime"])


def led(space: Space, since: str) -> None:
    """Until some replica of the operator leads, by a later word than that."""
    wait_until(lambda: leads(space) > since, what="A leader's word", timeout=90)


def operators(space: Space) -> dict[str, dict[str, Any]]:
    """Both replicas of the operator, by name."""
    found = json.loads(space.cluster.run("get", "pods", f"-n{demo.SYSTEM}", demo.OPERATORS, "-ojson"))["items"]
    return {pod["metadata"]["name"]: pod for pod in found}


def cut_off(lab: Lab, pod: dict[str, Any], *addresses: str) -> Node:
    """Nothing that the pod sends there arrives; its node."""
    (node,) = faults.named(lab, pod["spec"]["nodeName"])
    faults.cut_off(node, pod["status"]["podIP"], *addresses)
    return node


@pytest.mark.usefixtures("patient")
def test_an_etcd_that_stands_still_costs_nothing(lab: Lab, space: Space, chat: str, caller: Caller) -> None:
    before = made(space)
    with caller.load(chat, **CALLS) as load:
        with undone(lab, space):
            faults.pause(lab, "etcd")
            lasts(20)
            assert not Client.load(lab.kubeconfig).ready()
        led(space, leads(space))
        space.cluster.run("scale", MDEP, chat, "--replicas=4")
        space.cluster.run("wait", f"{MDEP}/{chat}", "--for=jsonpath={.status.readyReplicas}=4", "--timeout=300s")
        space.wait(MDEP, chat, "Ready")
    assert before.items() <= made(space).items(), "somebody was made anew"
    told(load, 200)


@pytest.mark.long
@pytest.mark.usefixtures("patient")
def test_an_api_server_that_is_gone_for_a_minute_costs_nothing(
    lab: Lab, space: Space, chat: str, caller: Caller
) -> None:
    before, revision = made(space), space.status(MDEP, chat)["currentRevision"]
    with caller.load(chat, **CALLS) as load:
        with undone(lab, space):
            faults.stop_central(lab, "kube-apiserver")
            lasts(60)
        led(space, leads(space))
        space.wait(MDEP, chat, "Ready")
        assert made(space) == before
        space.apply("ModelDeployment", chat, spread(inference={"maxLength": 1024}))
        space.cluster.run("wait", f"{MDEP}/{chat}", "--for=jsonpath={.status.observedGeneration}=2", "--timeout=300s")
        space.wait(MDEP, chat, "Ready")
    assert space.status(MDEP, chat)["currentRevision"] != revision
    told(load, 500)


def test_a_runtime_that_dies_takes_no_container_with_it(lab: Lab, space: Space, chat: str, caller: Caller) -> None:
    """Its node is not Ready and its pods are called unready, but they serve: nobody stands in for them."""
    node, before = aside(lab, caller), made(space)
    with caller.load(chat, **CALLS) as load:
        with undone(lab, space):
            faults.stop_containerd(node)
            space.cluster.run("wait", f"node/{node.name}", "--for=condition=Ready=False", "--timeout=300s")
            field = f"--for=jsonpath={{.status.recovery.nodes[0].name}}={node.name}"
            space.cluster.run("wait", f"{MDEP}/{chat}", field, "--timeout=300s")
            assert "standIns" not in space.status(MDEP, chat)["recovery"]
        space.wait(MDEP, chat, "Ready")
    assert kept(before).items() <= made(space).items()
    told(load, 200)


@pytest.mark.long
@pytest.mark.parametrize(
    "fault",
    [lambda node: faults.slow(node, "64kbit"), lambda node: faults.lose(node, 10)],
    ids=["slow", "lossy"],
)
def test_a_bad_link_costs_time_and_no_request(
    lab: Lab, space: Space, chat: str, caller: Caller, fault: Callable[[Node], None]
) -> None:
    """A replica whose probes come too late is as good as dead: streams that it had begun may end with it."""
    node, before = aside(lab, caller), made(space)
    with caller.load(chat, stream=True, tokens=20, **CALLS) as load:
        with undone(lab, space):
            fault(node)
            lasts(30)
        space.wait(MDEP, chat, "Ready")
        space.reason(MDEP, chat, "ZonesHealthy", "ZonesUp")
    assert kept(before).items() <= made(space).items()
    told(load, 200, streams=load.whole // 100)


@pytest.mark.long
@pytest.mark.parametrize("way", [faults.Way.IN, faults.Way.OUT])
def test_a_link_that_carries_one_way_only_is_as_good_as_cut(
    lab: Lab, space: Space, chat: str, caller: Caller, way: faults.Way
) -> None:
    node = aside(lab, caller)
    before = on(space, node)
    with caller.load(chat, **CALLS) as load:
        with undone(lab, space):
            faults.cut_one_way(node, way)
            space.reason(MDEP, chat, "ZonesHealthy", "ZoneLost")
            space.wait(MDEP, chat, "Ready")
        space.reason(MDEP, chat, "ZonesHealthy", "ZonesUp")
        space.has(chat, 3)
    assert on(space, node) == before
    told(load, 200)


@pytest.mark.long
def test_a_leader_that_is_cut_off_is_followed_by_another_and_nothing_is_done_twice(
    lab: Lab, space: Space, chat: str, caller: Caller
) -> None:
    """It lives, and sees replicas and gateways; what it cannot reach is the API server, nor hear that another leads."""
    before, leader = made(space), str(lease(space)["holderIdentity"])
    first = operators(space)[leader]
    with caller.load(chat, **CALLS) as load:
        with undone(lab, space):
            cut_off(lab, first, SERVICE_ADDRESS)
            space.cluster.run("scale", MDEP, chat, "--replicas=4")
            wait_until(lambda: lease(space)["holderIdentity"] not in ("", leader), what="Another leads", timeout=120)
            follower = lease(space)["holderIdentity"]
            space.cluster.run("wait", f"{MDEP}/{chat}", "--for=jsonpath={.status.readyReplicas}=4", "--timeout=300s")
            space.wait(MDEP, chat, "Ready")
            ended = "The end, by its own hand, of who led"
            wait_until(lambda: begun(operators(space)[leader]) > begun(first), what=ended, timeout=120)
        space.cluster.run("wait", f"-n{demo.SYSTEM}", f"pod/{leader}", "--for=condition=Ready", "--timeout=300s")
        led(space, leads(space))
    assert lease(space)["holderIdentity"] == follower, "who comes back stands by"
    after = made(space)
    assert before.items() <= after.items()
    assert [name.split()[0] for name in after.keys() - before.keys()] == ["Pod"], "one replica more, and once"
    told(load, 200)


@pytest.mark.long
def test_operators_that_reach_no_gateway_take_nothing_from_anybody(
    lab: Lab, space: Space, chat: str, caller: Caller
) -> None:
    """It is rather they who are cut off: no gateway leaves its Service, nobody stands in, and an update goes on."""
    gateways = [pod["status"]["podIP"] for pod in space.pods(labels.GATEWAY)]
    before, revision = made(space), space.status(MDEP, chat)["currentRevision"]
    with caller.load(chat, **CALLS) as load:
        with undone(lab, space):
            cut = [cut_off(lab, pod, *gateways) for pod in operators(space).values()]
            lasts(20)
            assert sum(map(faults.vanished, cut)) > len(gateways), "somebody leads, and asked in vain"
            assert made(space) == before
            serving = [pod["metadata"]["labels"][labels.SERVING] for pod in space.pods(labels.GATEWAY)]
            assert set(serving) == {labels.SERVES}
            assert "standIns" not in space.status(MDEP, chat).get("recovery", {})
            space.apply("ModelDeployment", chat, spread(inference={"maxLength": 1024}))
            observed = "--for=jsonpath={.status.observedGeneration}=2"
            space.cluster.run("wait", f"{MDEP}/{chat}", observed, "--timeout=300s")
            space.wait(MDEP, chat, "Ready")
        space.reason(MDEP, chat, "ZonesHealthy", "ZonesUp")
    assert space.status(MDEP, chat)["currentRevision"] != revision
    told(load, 200)
