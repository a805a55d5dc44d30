"""What a fault would hit, and every refusal: the limit, the last replica, the last gateway, what is unwell."""

from __future__ import annotations

from typing import Any

import pytest

from pilotboat.rehearse import aim, world
from pilotboat.rehearse.errors import Refused
from pilotboat.rehearse.file import Limit
from tests.unit.rehearse.objects import ZONES, fault, gateways, parent, raw_pod, replicas, seen


def test_a_fault_of_a_pod_takes_the_first_ready_one_or_the_one_that_is_named() -> None:
    here = seen(raw_pod("a", "n1", ready=False), raw_pod("b", "n2"), raw_pod("c", "n3"))
    assert aim.target(fault("killProcess"), here).told == "b (n2)"
    assert aim.target(fault("killProcess", pod="c"), here).told == "c (n3)"


def test_a_node_takes_all_its_pods_with_it() -> None:
    here = seen(raw_pod("a", "n1"), raw_pod("b", "n1"), raw_pod("c", "n2"), ways=gateways("n1", "n2"))
    hit = aim.target(fault("cutNode"), here)
    assert (hit.told, hit.nodes, hit.zone, hit.whole_zone) == ("node n1: a, b", ("n1",), "zone-1", False)
    assert [pod.name for pod in hit.gateways] == ["gateway-n1"]


def test_a_zone_takes_all_its_nodes() -> None:
    here = world.World(**{**seen().__dict__, "zones": ZONES | {"n4": "zone-2"}})
    hit = aim.target(fault("cutZone", zone="zone-2"), here)
    assert (hit.told, hit.nodes, hit.whole_zone) == ("zone zone-2: b", ("n2", "n4"), True)


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("deletePod", {"pod": "z"}, "has no pod z; it has a, b, c"),
        ("cutNode", {"node": "n9"}, "there is no node n9; there are n1, n2, n3"),
        ("cutZone", {"zone": "moon"}, "there is no zone moon; there are zone-1"),
    ],
)
def test_what_is_not_there_cannot_be_hit(kind: str, more: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        aim.target(fault(kind, **more), seen())


def test_a_zone_without_a_label_or_without_a_replica() -> None:
    unlabelled = world.World(**{**seen().__dict__, "zones": dict.fromkeys(ZONES, "")})
    with pytest.raises(Refused, match="label nodes"):
        aim.target(fault("cutZone"), unlabelled)
    with pytest.raises(Refused, match="no replica on n3"):
        aim.target(fault("cutZone", zone="zone-3"), seen(raw_pod("a", "n1"), raw_pod("b", "n2")))


def test_spare_replicas_belong_to_the_whole() -> None:
    aim.whole(seen(replicas=2, spare=1))


def check(kind: str, here: world.World, **limit: int) -> None:
    chosen = fault(kind)
    aim.check(chosen, aim.target(chosen, here), here, Limit(**limit))  # type: ignore[arg-type]


TWO_ON_ONE = (raw_pod("a", "n1"), raw_pod("b", "n1"), raw_pod("c", "n2"))


@pytest.mark.parametrize(
    ("kind", "limit", "words"),
    [
        ("cutNode", {}, r"would hit 2 replicas \(a, b\); limit.replicas allows 1"),
        ("cutNode", {"replicas": 2, "nodes": 0}, r"would hit 1 nodes \(n1\); limit.nodes allows 0"),
        ("cutZone", {"replicas": 2}, r"would hit 1 zones \(zone-1\); limit.zones allows 0"),
    ],
)
def test_beyond_the_limit(kind: str, limit: dict[str, int], words: str) -> None:
    with pytest.raises(Refused, match=words):
        check(kind, seen(*TWO_ON_ONE), **limit)


def test_within_the_limit() -> None:
    check("cutZone", seen(*TWO_ON_ONE), replicas=2, zones=1)
    check("killProcess", seen())


@pytest.mark.parametrize(
    "others", [(), (raw_pod("b", "n2", ready=False),), (raw_pod("b", "n2", deletionTimestamp="t"),)]
)
def test_never_the_last_ready_replica(others: tuple[Any, ...]) -> None:
    with pytest.raises(Refused, match="no ready replica elsewhere"):
        check("killProcess", seen(raw_pod("a", "n1"), *others))


def test_never_the_last_gateway() -> None:
    with pytest.raises(Refused, match="no ready gateway elsewhere"):
        check("cutNode", seen(ways=gateways("n1")))
    leaving = world.pods([raw_pod("gateway-n3", "n3", deletionTimestamp="t")], "server")
    with pytest.raises(Refused, match="no ready gateway elsewhere"):
        check("cutNode", seen(ways=(*gateways("n1"), *leaving)))
    check("cutNode", seen(ways=gateways("n1", "n3")))


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (seen(ready="False"), "Ready is False: R: words"),
        (seen(replicas=4), "3 of 4 replicas are ready"),
        (seen(spare=1), "3 of 4 replicas are ready"),
        (
            seen(raw_pod("a", "n1"), raw_pod("b", "n2"), raw_pod("c", "n3"), raw_pod("d", "n3", ready=False)),
            "of 4 pods",
        ),
        (seen(rollout={"canary": "bbbb"}), r"a rollout is under way \(canary bbbb\)"),
    ],
)
def test_a_deployment_that_is_not_fit(here: world.World, words: str) -> None:
    with pytest.raises(Refused, match=words):
        aim.whole(here)
    aim.whole(seen())


def test_a_condition_of_an_earlier_generation_says_nothing() -> None:
    raw = parent()
    raw["metadata"]["generation"] = 2
    with pytest.raises(Refused, match="earlier generation"):
        aim.whole(world.model_deployment(raw, replicas(), ()))


def test_the_control_is_whole_when_its_controller_says_so() -> None:
    raw = {
        "metadata": {"namespace": "team", "name": "bare", "generation": 2},
        "spec": {"replicas": 3},
        "status": {"observedGeneration": 2, "availableReplicas": 3, "updatedReplicas": 3},
    }
    aim.whole(world.control(raw, replicas()))
    with pytest.raises(Refused, match="not all of its replicas"):
        aim.whole(world.control({**raw, "status": {"observedGeneration": 1}}, replicas()))


def test_pods_that_are_over_are_not_counted() -> None:
    over = raw_pod("old", "n1")
    over["status"]["phase"] = "Failed"
    assert [pod.name for pod in replicas(over, raw_pod("a", "n1"))] == ["a"]
