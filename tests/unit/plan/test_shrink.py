"""Which replicas go when there are to be fewer: by tables, and through a zone's loss and return."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.plan import shrink
from pilotboat.plan.load import Useless
from pilotboat.plan.types import Manifest, Node, Observed
from tests.unit.plan.test_recovery import World
from unit.plan.world import Pod, Raw

NODES = {f"{zone}{number}": Node(f"{zone}{number}", zone) for zone in "abc" for number in (1, 2)}


def deployment(replicas: int, revision: str = "one") -> Raw:
    meta = {"name": f"chat-{revision}", "labels": {labels.REVISION: revision}}
    return {"kind": "Deployment", "metadata": meta, "spec": {"replicas": replicas}}


def pods(*placed: str, revision: str = "one", costs: Mapping[str, str] | None = None) -> list[Raw]:
    """Ready ones, the oldest first; a `!` behind the node: one that does not serve. Names are as they are placed."""
    made = []
    for number, place in enumerate(placed):
        pod = Pod(f"{place}.{number}", revision=revision).made(f"2026-01-01T00:00:{number:02}Z").serving()
        pod.raw["spec"]["nodeName"] = place.rstrip("!")
        if place.endswith("!"):
            pod.unready()
        if costs and place in costs:
            pod.raw["metadata"]["annotations"] = {labels.DELETION_COST: costs[place]}
        made.append(pod.raw)
    return made


def observed(found: list[Raw], *deployments: Raw, nodes: Mapping[str, Node] = NODES) -> Observed:
    return Observed({}, deployments, tuple(found), nodes=nodes)


def costs(
    seen: Observed, made: Manifest, told: Sequence[Raw] = (), zones: Mapping[str, int] | None = None
) -> dict[str, str | None]:
    """`told`: the pods as Kubernetes has them, where that is not as they are."""
    return shrink.costs(seen, [made], Useless(seen, tuple(told) or seen.pods, zones or {}))


@pytest.mark.parametrize(
    ("placed", "left", "going"),
    [
        (("a1", "a2", "b1", "b2"), 3, {"b2.3"}),
        (("b1", "b2", "a1", "b2"), 3, {"b2.3"}),
        (("b1", "b2", "c1", "c2", "a1"), 3, {"c2.3", "b2.1"}),
        (("a1", "b1", "b1", "b2"), 3, {"b1.2"}),
        (("a1!", "b1", "b2", "c1"), 3, {"a1!.0"}),
        (("a1!", "b1", "b2", "c1"), 2, {"a1!.0", "b2.2"}),
        (("a1", "b1", "c1"), 1, {"c1.2", "b1.1"}),
        (("a1", "a2", "a1"), 2, set()),
        (("a1", "b1"), 2, set()),
        (("a1", "b1"), 0, set()),
    ],
)
def test_zones_keep_as_many_as_each_other(placed: tuple[str, ...], left: int, going: set[str]) -> None:
    """The fullest zone gives, there the fullest node, there the youngest; with nothing to choose nothing is said."""
    seen = observed(pods(*placed), deployment(len(placed)))
    assert costs(seen, deployment(left)) == dict.fromkeys(going, shrink.FIRST)


def test_who_was_to_go_and_stayed_is_as_good_as_any_other() -> None:
    seen = observed(pods("a1", "b1", "b2", costs={"a1": shrink.FIRST, "b2": shrink.FIRST}), deployment(3))
    assert costs(seen, deployment(2)) == {"a1.0": None}


def test_a_cost_that_somebody_else_gave_leaves_the_choice_to_him() -> None:
    seen = observed(pods("a1", "b1", "b2", costs={"a1": "-50"}), deployment(3))
    assert costs(seen, deployment(2)) == {}


def test_a_rollout_takes_all_of_them_in_the_end() -> None:
    found = [*pods("a1", "b1", "b2"), *pods("c1", revision="two")]
    assert costs(observed(found, deployment(3), deployment(1, "two")), deployment(2)) == {}


@pytest.mark.parametrize(
    ("placed", "zones", "left", "going"),
    [
        (("a1", "b1", "c1"), {}, 2, set()),
        (("a1", "b1", "c1"), {"b": 0}, 2, {"b1.1"}),
        (("b1", "b2", "c1"), {"b": 50}, 2, {"b1.0"}),
        (("b1", "b2", "c1"), {"b": 50}, 1, {"b1.0", "b2.1"}),
        (("b1", "b2", "c1"), {"b": 50}, 0, set()),
        (("b1", "a1", "c1"), {"a": 10, "b": 50}, 2, {"a1.1"}),
        (("b1!", "b2", "c1"), {"b": 0}, 2, set()),
        (("b1!", "b2", "c1"), {"b": 0}, 1, {"b2.1"}),
    ],
)
def test_beside_another_revision_those_go_first_that_bear_nothing(
    placed: tuple[str, ...], zones: dict[str, int], left: int, going: set[str]
) -> None:
    """Kubernetes itself takes those that are not ready, and takes all others for as good as each other."""
    found = [*pods(*placed), *pods("c2", revision="two")]
    seen = observed(found, deployment(3), deployment(1, "two"))
    assert costs(seen, deployment(left), zones=zones) == dict.fromkeys(going, shrink.FIRST)


def test_beside_another_revision_the_dead_go_first_whom_kubernetes_calls_ready() -> None:
    believed, told = pods("a1", "b1!", "c1"), pods("a1", "b1", "c1")
    for raw, same in zip(told, believed, strict=True):
        raw["metadata"]["name"] = same["metadata"]["name"]
    other = pods("c2", revision="two")
    seen = observed([*believed, *other], deployment(3), deployment(1, "two"))
    assert costs(seen, deployment(2), [*told, *other]) == {"b1!.1": shrink.FIRST}
    assert costs(seen, deployment(2)) == {}


def test_without_nodes_nothing_is_said() -> None:
    assert costs(observed(pods("a1", "b1", "b2"), deployment(3), nodes={}), deployment(2)) == {}


class Wide(World):
    """Two nodes in each zone; by their names, for the miniature's scheduler takes the first of nodes that are equal."""

    zones: Mapping[str, str] = {f"{number}{zone}": zone for number in (1, 2) for zone in "abc"}

    @property
    def by_zone(self) -> Counter[str | None]:
        return Counter(self.zones.get(self.node_of(name) or "") for name in self.pods)


@pytest.mark.parametrize("trusted", [set(), {"1a"}])
def test_a_zone_that_came_back_keeps_its_replica(trusted: set[str]) -> None:
    """It became ready last, and every replica has a node of its own: to a ReplicaSet it would be the first to go."""
    world = Wide(replicas=3)
    before: Any = dict(world.by_zone)
    assert before == {"a": 1, "b": 1, "c": 1}
    world.trusted = trusted
    for node in ("1a", "2a"):
        world.lose(node)
    world.passes(120)
    world.trusted = set()
    assert world.asked[0] > 3
    for node in ("1a", "2a"):
        world.heal(node)
    world.passes(1500)
    assert world.asked == (3, None)
    assert dict(world.by_zone) == before
