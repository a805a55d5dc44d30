"""What status, events and the count say of losses: each once, however many there are at once; in the miniature."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import timedelta

import pytest

from pilotboat.api.recovery import Fault, RecoveryStatus
from pilotboat.plan import faults, recovery
from tests.unit.plan.test_recovery import ZONES, Cut, World
from tests.unit.plan.world import ended


def test_two_nodes_lost_one_after_the_other_are_two_losses() -> None:
    world = World()
    world.lose("n2")
    world.pass_on()
    assert world.books == (["node n2"], [], 0)
    world.lose("n3")
    world.passes(5)
    assert world.books == (["node n2", "node n3"], [], 0)
    world.passes(60)
    assert world.books == ([], ["node n2", "node n3"], 2)
    first, last = world.status["recovery"]["beside"][0], world.status["recovery"]["last"]
    for fault in (first, last):
        assert fault["detectedAt"] <= fault["replacedAt"] <= fault["readyAt"]
        assert fault["trafficMovedAt"]
    assert first["detectedAt"] < last["detectedAt"]
    assert world.told_of("NodeLost", "Recovered") == ["NodeLost", "NodeLost", "Recovered", "Recovered"]
    said = [event.message for event in world.events if event.reason == "Recovered"]
    assert ["node n2" in said[0], "node n3" in said[1]] == [True, True]


def test_two_nodes_lost_at_once_are_two_losses() -> None:
    world = World()
    world.lose("n2")
    world.lose("n3")
    world.passes(90)
    assert world.books == ([], ["node n2", "node n3"], 2)
    assert world.told_of("NodeLost", "Recovered") == ["NodeLost", "NodeLost", "Recovered", "Recovered"]


@pytest.mark.parametrize("after", range(4))
def test_an_operator_killed_after_any_write_loses_none(after: int) -> None:
    world = Cut(after)
    world.lose("n2")
    world.pass_on()
    world.lose("n3")
    world.passes(60)
    assert world.books == ([], ["node n2", "node n3"], 2)
    assert world.told_of("NodeLost", "Recovered") == ["NodeLost", "NodeLost", "Recovered", "Recovered"]


def test_each_loss_has_the_times_of_a_replacement_of_its_own() -> None:
    world = World()
    world.lose("n2")
    world.passes(10)
    world.lose("n3")
    world.passes(90)
    first, last = world.status["recovery"]["beside"][0], world.status["recovery"]["last"]
    assert first["seconds"]["load"] < last["seconds"]["load"], "in the miniature, who is made later takes longer"


def test_the_next_loss_begins_a_new_page() -> None:
    world = World()
    world.lose("n2")
    world.lose("n3")
    world.passes(90)
    world.delete(world.on("n1"))
    world.pass_on()
    open_now, over, count = world.books
    assert (len(open_now), over, count) == (1, [], 2)
    assert "beside" not in world.status["recovery"] or not world.status["recovery"]["beside"]


def test_a_zones_loss_takes_the_place_of_its_nodes() -> None:
    world = World(room=3)
    world.lose("n2")
    world.pass_on()
    began = world.status["recovery"]["last"]["detectedAt"]
    assert world.books == (["node n2"], [], 0)
    world.passes(60)
    assert world.books == (["zone b"], [], 0)
    last = world.status["recovery"]["last"]
    assert (last["fault"], last["detectedAt"]) == ("ZoneLost", began)
    assert last["trafficMovedAt"]
    world.heal("n2")
    world.passes(60)
    assert world.books == ([], ["zone b"], 1)
    assert world.told_of("Recovered") == ["Recovered"]


def test_a_zone_that_is_lost_when_its_nodes_loss_is_over_is_not_counted_again() -> None:
    """All its replicas have others in their place by then; its state and its event tell of it."""
    world = World()
    world.lose("n2")
    world.passes(12, step=2)
    assert world.books == ([], ["node n2"], 1)
    world.passes(60)
    assert world.weights == {"b": 0}
    assert world.books == ([], ["node n2"], 1)
    assert world.told_of("ZoneLost", "Recovered") == ["Recovered", "ZoneLost"]


def test_a_pod_that_goes_while_a_node_is_lost_is_on_record_beside_it() -> None:
    world = World(room=3)
    world.lose("n2")
    world.pass_on()
    name = world.on("n3")
    world.die(name)
    world.pass_on()
    assert world.books == (["node n2", f"pod {name}"], [], 0)
    assert world.status["recovery"]["last"]["fault"] == "ProcessDied"
    world.heal("n2")
    world.passes(30)
    assert world.books[1:] == (["node n2", f"pod {name}"], 2)
    assert world.told_of("NodeLost", "ProcessDied", "Recovered") == [
        "NodeLost",
        "ProcessDied",
        "Recovered",
        "Recovered",
    ]


def test_a_pod_that_goes_when_a_lost_nodes_replicas_have_others_in_their_place_is_on_record() -> None:
    world = World()
    world.lose("n2")
    world.passes(60)
    name = world.on("n3")
    world.delete(name)
    world.pass_on()
    assert world.books == ([f"pod {name}"], [], 1)
    world.passes(60)
    assert world.books == ([], [f"pod {name}"], 2)


def test_a_nodes_loss_takes_the_place_of_its_pods() -> None:
    """Kubernetes calls them unready before it is believed that their node is lost."""
    world = World(room=3)
    world.mute = True
    name = world.on("n2")
    world.lose("n2")
    world.pass_on()
    began = world.status["recovery"]["last"]["detectedAt"]
    assert world.books == ([f"pod {name}"], [], 0)
    world.passes(12, step=2)
    assert world.books == (["node n2"], [], 0)
    assert world.status["recovery"]["last"]["detectedAt"] == began
    world.heal("n2")
    world.passes(30)
    assert world.books == ([], ["node n2"], 1)


def test_a_replica_that_comes_and_goes_before_all_is_whole_is_one_loss() -> None:
    world = World(room=3)
    world.lose("n2")
    world.pass_on()
    name = world.on("n3")
    for _ in range(5):
        world.unready(name)
        world.pass_on()
        world.passes(10)
    assert world.books == ([f"pod {name}", "zone b"], [], 0)
    assert world.told().count("PodUnready") == 1


def test_a_node_that_is_lost_again_before_it_is_trusted_is_a_loss_where_that_leaves_too_few() -> None:
    world = World()
    world.lose("n2")
    world.passes(60)
    world.heal("n2")
    world.passes(30)
    assert world.books == ([], ["zone b"], 1)
    world.lose("n2")
    world.pass_on()
    assert world.books == ([], ["zone b"], 1), "its stand-in is there still"
    world.heal("n2")
    world.passes(30)
    world.room = 0
    world.lose("n1")
    world.pass_on()
    world.lose("n2")
    world.pass_on()
    assert world.books == (["node n1", "zone b"], [], 1)


def test_of_many_losses_at_once_the_oldest_are_told_together() -> None:
    world = World(replicas=12, room=20)
    world.room = 0
    names = [name for name in sorted(world.pods) if world.node_of(name) != "n1"]
    assert len(names) == faults.MOST
    world.lose("n1")
    world.pass_on()
    for name in names[:-1]:
        world.unready(name)
        world.pass_on()
    assert len(world.books[0]) == faults.MOST
    assert "beside" in world.status["recovery"]
    world.unready(names[-1])
    world.pass_on()
    beside, last = world.status["recovery"]["beside"], world.status["recovery"]["last"]
    assert (len(beside), last["subject"]) == (faults.MOST - 1, f"pod {names[-1]}")
    assert (beside[0]["subject"], beside[0]["replicas"]) == ("node n1", 5)
    world.heal("n1")
    world.passes(30)
    assert world.books[2] == faults.MOST == world.told().count("Recovered")


def test_while_a_loss_is_open_nothing_is_written_without_news() -> None:
    world = World(room=3)
    world.lose("n2")
    world.lose("n3")
    world.passes(60)
    assert len(world.books[0]) == 2
    before = json.dumps(world.status["recovery"], sort_keys=True)
    for _ in range(20):
        world.now += timedelta(seconds=7)
        assert not world.carry_out(world.plan())
    assert json.dumps(world.status["recovery"], sort_keys=True) == before


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_lost_the_books_are_whole(seed: int) -> None:
    """Every loss that was told ends, or a greater one takes its place; and each that ends is told and counted once."""
    chance, world = random.Random(seed), World(replicas=5, room=9 if seed % 2 else 5)
    seen: list[RecoveryStatus] = [RecoveryStatus()]
    for _ in range(25):
        served = [name for name in sorted(world.pods) if world.serves(name)]
        what = chance.choice(["lose", "heal", "heal", "die", "unready", "delete", "kill", "nothing"])
        if what in ("lose", "heal"):
            getattr(world, what)(chance.choice(list(ZONES)))
        elif what != "nothing" and served:
            getattr(world, what)(chance.choice(served))
        world.pass_on()
        for _ in range(chance.choice([0, 1, 3, 12])):
            world.passes(5)
            seen.append(RecoveryStatus.model_validate(world.status.get("recovery") or {}))
    for node in ZONES:
        world.heal(node)
    world.room = 99
    for _ in range(40):
        world.passes(5)
        seen.append(RecoveryStatus.model_validate(world.status.get("recovery") or {}))
    open_now, _, count = world.books
    assert not open_now
    assert count == world.told().count("Recovered")
    for each in seen:
        assert len(each.faults) <= faults.MOST
        subjects = Counter(fault.subject for fault in each.faults if fault.subject != faults.NAMELESS)
        assert set(subjects.values()) <= {1}


def gone(world: World, how: str) -> str:
    """A replica of n3 that went so, and the pass in which that is found."""
    name = world.on("n3")
    getattr(world, how)(name)
    world.gateways, world.left = ({},), ({},)
    world.pass_on()
    assert "trafficMovedAt" not in world.status["recovery"]["last"]
    return name


def fault_of(world: World) -> Fault:
    return Fault.model_validate(world.status["recovery"]["last"])


@pytest.mark.parametrize(("how", "fault"), [("unready", "PodUnready"), ("die", "ProcessDied"), ("delete", "PodLost")])
def test_when_traffic_moved_is_told_of_a_pod_too(how: str, fault: str) -> None:
    world = World()
    assert not recovery.wants_evidence(world.parent)
    name = gone(world, how)
    assert recovery.wants_evidence(world.parent), "gateways are asked from then on"
    out = world.now - timedelta(seconds=1)
    if how == "delete":
        world.left = ({name: out},)
    else:
        world.gateways = ({name: out},)
    world.pass_on()
    told = fault_of(world)
    assert (told.fault, told.subject, told.ready_at) == (fault, f"pod {name}", None)
    assert told.traffic_moved_at == out.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert not recovery.wants_evidence(world.parent), "there is nothing more to be asked"
    world.gateways, world.left = ({},), ({},)
    world.passes(60)
    assert fault_of(world).ready_at
    assert fault_of(world).traffic_moved_at == told.traffic_moved_at


def test_it_is_the_last_gateways_word_and_each_must_have_given_it() -> None:
    world = World()
    world.taking = 2
    name = gone(world, "unready")
    first, second = world.now, world.now + timedelta(seconds=2)
    world.gateways = ({name: first},)
    world.pass_on()
    assert fault_of(world).traffic_moved_at is None, "one of two has not answered"
    world.gateways, world.left = ({name: first}, {name: None}), ({}, {})
    world.pass_on()
    assert fault_of(world).traffic_moved_at is None, "one of two sends to it"
    world.gateways = ({name: first}, {name: second})
    world.pass_on()
    assert fault_of(world).traffic_moved_at == second.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_where_no_gateway_tells_no_time_is_made_up() -> None:
    world = World()
    gone(world, "delete")
    world.passes(60)
    last = world.status["recovery"]["last"]
    assert last["readyAt"]
    assert "trafficMovedAt" not in last
    assert not recovery.wants_evidence(world.parent)


@pytest.mark.parametrize("traffic", ["Direct", "HTTPRoute"])
def test_gateways_that_send_it_nothing_are_not_asked(traffic: str) -> None:
    world = World()
    gone(world, "unready")
    world.parent["spec"]["traffic"] = traffic
    assert not recovery.wants_evidence(world.parent)


def test_a_pod_without_a_name_is_asked_of_nobody() -> None:
    world = World()
    world.kill(world.on("n3"))
    world.pass_on()
    assert world.books == ([faults.NAMELESS], [], 0)
    assert not recovery.wants_evidence(world.parent)


def test_a_probe_that_fails_long_after_a_restart_is_not_the_restarts_fault() -> None:
    """And the replica began long ago: no time of a start is told of it."""
    world = World()
    name = world.on("n3")
    _, pod = world.pods[name]
    where = world.node_of(name)
    world.pods[name] = ("loading", pod.unready(since=world.time, lastState={"terminated": ended(137, "Error")}))
    pod.raw["spec"]["nodeName"] = where
    world.pass_on()
    assert world.status["recovery"]["last"]["fault"] == "PodUnready"
    world.passes(10)
    last = world.status["recovery"]["last"]
    assert last["readyAt"]
    assert "seconds" not in last
