"""Lost replicas: who is believed, what is remembered, and how long."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.recovery import LostNode
from pilotboat.api.routing import Evidence, Sighting
from pilotboat.plan import losses
from pilotboat.plan.build import timestamp
from pilotboat.plan.losses import Losses
from pilotboat.plan.types import Node, Observed
from tests.unit.plan.world import DIED, NOW, Pod, deployment_spec, parent

AFTER = 300.0
DEAD = Node("node-1", "a", ready=False, lost="kubelet stopped posting node status")
SICK = Node("node-1", "a", fault="7 of 8 nvidia.com/gpu are offered")
WELL = Node("node-1", "a")
ELSEWHERE = Node("node-2", "b")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def see(
    seconds: float,
    pods: list[Pod],
    node: Node = DEAD,
    known: Losses | None = None,
    told: dict[str, bool] | None = None,
    asks: bool = False,
    told_for: float = 3,
) -> Losses:
    now = at(seconds).timestamp() + 1e6
    heard = {pod: Sighting(up=up, since=now - told_for) for pod, up in (told or {}).items()}
    answers = (Evidence(gateway="g", now=now, replicas=heard),) if told is not None else ()
    observed = Observed(
        parent("ModelDeployment", "chat", deployment_spec()),
        pods=tuple(pod.raw for pod in pods),
        nodes={"node-1": node, "node-2": ELSEWHERE},
        evidence=answers,
        evidence_at=(at(seconds),) * len(answers),
    )
    return losses.look(observed, known.nodes if known else (), AFTER, asks, at(seconds))


def lost_by(seconds: float, *pods: Pod) -> Losses:
    """On a node that has been silent by then for so long that no word of others is waited for any more."""
    return see(seconds, list(pods), known=see(seconds - losses.PATIENCE, list(pods)))


def test_a_replica_that_is_not_ready_on_a_lost_node_is_lost_where_nobody_can_be_asked() -> None:
    pods = Pod("p").unready(), Pod("q").serving()
    assert not see(0, list(pods)).pods, "there may be more such nodes, and then it is rather us"
    found = lost_by(0, *pods)
    assert found.pods == {"p"}
    assert found.nodes[0].fault == "NodeLost"


def test_gateways_are_waited_for_and_then_done_without() -> None:
    first = see(0, [Pod("p").unready()], asks=True)
    assert not first.pods
    assert first.nodes[0].since
    assert first.look_again is not None
    later = see(losses.PATIENCE + 1, [Pod("p").unready()], known=first, asks=True)
    assert later.pods == {"p"}


def test_a_replica_that_a_gateway_reaches_is_not_lost_however_silent_its_node_is() -> None:
    first = see(0, [Pod("p").unready()], asks=True)
    assert not see(2, [Pod("p").unready()], known=first, told={"p": True}, asks=True).pods
    assert see(2, [Pod("p").unready()], known=first, told={"p": False}, asks=True).pods == {"p"}


@pytest.mark.parametrize(
    ("pod", "lost"),
    [
        (Pod("p").placed(), False),
        (Pod("p").loading(), False),
        (Pod("p").looping(1), False),
        (Pod("p").serving(), False),
        (Pod("p").unready(), True),
        (Pod("p").restarted(137).condition("Ready", "False", since=DIED), True),
    ],
)
def test_where_a_device_is_out_of_order_only_who_served_is_lost(pod: Pod, lost: bool) -> None:
    """A new one gets a device that is well. One that has died several times since it served did serve."""
    silent = see(0, [pod], SICK)
    assert silent.pods == ({"p"} if lost else set())
    first = see(0, [pod], SICK, asks=True)
    reached = {"p": pod.raw["status"].get("conditions", [])[-1]["status"] == "True"}
    assert see(2, [pod], SICK, first, told=reached, asks=True).pods == silent.pods


@pytest.mark.parametrize("node", [DEAD, SICK])
def test_one_that_serves_again_counts_at_once_and_is_trusted_by_and_by(node: Node) -> None:
    """Nodes can be silent for days while their replicas serve."""
    lost = see(10, [Pod("p").unready()], node, asks=True, known=see(0, [Pod("p").unready()], node))
    assert lost.failing == {"p"}
    back = see(20, [Pod("p").serving()], node, lost, told={"p": True}, asks=True)
    assert (back.pods, back.failing) == ({"p"}, frozenset())
    flapped = see(500, [Pod("p").serving()], node, back, told={"p": True}, asks=True, told_for=AFTER - 1)
    assert flapped.pods == {"p"}, "that of before does not count"
    trusted = see(501, [Pod("p").serving()], node, back, told={"p": True}, asks=True, told_for=AFTER)
    assert not trusted.pods
    again = see(520, [Pod("p").unready()], node, trusted, told={"p": False}, asks=True)
    assert again.failing == {"p"}
    assert (again.nodes[0].losses, again.nodes[0].since) == (2, "2026-05-01T12:08:21Z"), "it is another loss"


@pytest.mark.parametrize("asks", [True, False])
def test_of_a_silent_node_what_kubernetes_said_before_lets_nobody_go(asks: bool) -> None:
    """It calls replicas there ready for most of a minute, and a new operator has not asked anybody yet."""
    down = {"p": False}
    lost = see(3, [Pod("p").serving()], DEAD, see(0, [Pod("p").serving()], DEAD, asks=True), told=down, asks=True)
    assert lost.failing == {"p"}
    assert see(20, [Pod("p").serving()], DEAD, lost, asks=asks).failing == {"p"}
    again = Pod("p").serving().condition("Ready", "True", since=timestamp(at(30)))
    assert see(40, [again], DEAD, lost, asks=asks) != lost
    assert not see(40, [again], DEAD, lost, asks=asks).failing, "it has been heard of since"
    assert see(30 + AFTER - 1, [again], DEAD, lost, asks=asks).pods == {"p"}
    assert not see(30 + AFTER, [again], DEAD, lost, asks=asks).pods


def test_of_a_node_with_a_sick_device_kubernetes_knows_and_the_time_counts_from_the_suspicion() -> None:
    lost = see(0, [Pod("p").unready()], SICK)
    again = see(20, [Pod("p").serving()], SICK, see(10, [Pod("p").serving()], WELL, lost))
    assert (again.pods, again.failing) == ({"p"}, frozenset())
    assert see(20 + 2 * AFTER - 1, [Pod("p").serving()], SICK, again).pods == {"p"}
    assert not see(20 + 2 * AFTER, [Pod("p").serving()], SICK, again).pods


def test_of_many_lost_nodes_each_counts_and_of_those_that_are_well_again_some_are_remembered() -> None:
    names = [f"n{number:02d}" for number in range(3 * losses.REMEMBERED)]
    pods = [Pod(f"p-{name}").unready() for name in names]
    for pod, name in zip(pods, names, strict=True):
        pod.raw["spec"]["nodeName"] = name

    def look(seconds: float, lost: str | None, known: Losses, asks: bool = False) -> Losses:
        nodes = {name: Node(name, "a", lost=lost) for name in names}
        nodes |= {f"well-{name}": Node(f"well-{name}", "b") for name in names}
        observed = Observed(parent("ModelDeployment", "chat", deployment_spec()), pods=tuple(p.raw for p in pods))
        observed = dataclasses.replace(observed, nodes=nodes)
        return losses.look(observed, known.nodes, AFTER, asks, at(seconds))

    first = look(0, "silent", Losses(), asks=True)
    found = look(losses.PATIENCE, "silent", first, asks=True)
    assert len(found.pods) == len(names)
    assert found.stand_ins([pod.raw for pod in pods], len(names)) == len(names)
    back = look(60, None, found)
    assert len(back.pods) == len(names), "they are stood in for until they are trusted"
    assert len(look(60 + AFTER + losses.HEARD_BY, None, back).nodes) == losses.REMEMBERED


def test_an_answer_from_before_the_suspicion_says_nothing() -> None:
    first = see(10, [Pod("p").unready()], asks=True)
    observed = Observed(
        parent("ModelDeployment", "chat", deployment_spec()),
        pods=(Pod("p").unready().raw,),
        nodes={"node-1": DEAD, "node-2": ELSEWHERE},
        evidence=(Evidence(gateway="g", now=0, replicas={"p": Sighting(up=True, since=0)}),),
        evidence_at=(at(5),),
    )
    assert losses.look(observed, first.nodes, AFTER, True, at(10 + losses.PATIENCE)).pods == {"p"}


def test_a_node_that_is_gone_took_its_replicas_with_it() -> None:
    observed = Observed(
        parent("ModelDeployment", "chat", deployment_spec()),
        pods=(Pod("p").unready().raw,),
        nodes={"node-2": ELSEWHERE},
    )
    assert losses.look(observed, (), AFTER, False, NOW).pods == {"p"}


def test_where_no_node_may_be_seen_nothing_is_lost() -> None:
    observed = Observed(parent("ModelDeployment", "chat", deployment_spec()), pods=(Pod("p").unready().raw,))
    assert losses.look(observed, (), AFTER, False, NOW) == Losses()


def test_the_surplus_goes_when_the_node_has_been_well_long_enough_and_not_before() -> None:
    lost = lost_by(0, Pod("p").unready())
    back = see(60, [Pod("p").serving()], WELL, lost)
    assert back.pods == {"p"}
    assert not back.failing
    assert see(60 + AFTER - 1, [Pod("p").serving()], WELL, back).pods == {"p"}
    assert not see(60 + AFTER, [Pod("p").serving()], WELL, back).pods


def test_a_replica_that_is_not_ready_when_its_node_is_trusted_is_waited_for_a_little() -> None:
    """Without that the ReplicaSet would end it, and keep who stands in for it."""
    lost = lost_by(0, Pod("p").unready())
    well = see(10, [Pod("p").unready()], node=WELL, known=lost)
    trusted = see(10 + AFTER, [Pod("p").unready()], node=WELL, known=well)
    assert trusted.pods == {"p"}
    assert trusted.look_again is not None
    assert trusted.look_again.total_seconds() == pytest.approx(losses.HEARD_BY, abs=1)
    assert not see(11 + AFTER, [Pod("p").serving()], node=WELL, known=trusted).pods
    assert not see(10 + AFTER + losses.HEARD_BY, [Pod("p").unready()], node=WELL, known=trusted).pods


def test_each_further_loss_doubles_the_time_up_to_an_hour() -> None:
    assert [
        losses.held_for(LostNode(name="n", fault="NodeLost", since="2026-05-01T12:00:00Z", losses=n), AFTER)
        for n in (1, 2, 3, 9)
    ] == [
        300,
        600,
        1200,
        3600,
    ]


def test_a_replica_that_is_evicted_meanwhile_has_none_in_its_place_any_more() -> None:
    lost = lost_by(0, Pod("p").unready())
    assert not see(300, [Pod("p").unready().leaving()], known=lost).pods


def test_thirty_second_flaps_for_twenty_minutes_ask_for_one_stand_in_once() -> None:
    known, counts = Losses(), []
    for second in range(0, 1200, 5):
        down = second // 30 % 2 == 0
        known = see(second, [Pod("p").unready() if down else Pod("p").serving()], DEAD if down else WELL, known)
        counts.append(len(known.pods))
    assert counts == [0, 0] + [1] * (len(counts) - 2)
    assert known.nodes[0].losses > 10


@given(st.lists(st.tuples(st.integers(1, 400), st.booleans(), st.booleans()), max_size=40))
def test_there_are_never_more_stand_ins_than_replicas_that_were_lost(story: list[tuple[int, bool, bool]]) -> None:
    known, second = Losses(), 0
    for wait, down, ready in story:
        second += wait
        pods = [Pod("p").serving() if ready else Pod("p").unready(), Pod("q").serving()]
        known = see(second, pods, DEAD if down else WELL, known)
        assert known.pods <= {"p"}
        assert len(known.nodes) <= 1
        assert known.nodes == see(second, pods, DEAD if down else WELL, known).nodes, "the same look changes nothing"


@given(st.integers(-3600, 3600))
def test_a_clock_that_jumps_back_only_waits_longer(jump: int) -> None:
    lost = lost_by(0, Pod("p").unready())
    back = see(60, [Pod("p").serving()], WELL, lost)
    found = see(60 + jump, [Pod("p").serving()], WELL, back)
    assert found.pods == ({"p"} if jump < AFTER else frozenset())


def test_what_came_of_canned_inferences_is_told_with_the_sight() -> None:
    told = [
        Evidence(gateway=name, now=0, replicas={"p": Sighting(up=True, since=100, canned=canned)})
        for name, canned in (("a", ""), ("b", None), ("c", "HTTP 500"))
    ]
    observed = Observed(parent={}, evidence=tuple(told), evidence_at=(NOW, NOW, NOW))
    assert losses.sights(observed, None)["p"] == losses.Sight(True, canned=frozenset({"", "HTTP 500"}))


def of_many(
    seconds: float,
    silent: int,
    nodes: int,
    known: Losses | None = None,
    told: dict[str, bool] | None = None,
    told_at: float | None = None,
    asks: bool = True,
    **more: Node,
) -> Losses:
    """So many nodes with a replica each, p1 and so on, of which the first are silent; `told` by a gateway, and when."""
    now = at(seconds)
    there = {f"n{k}": Node(f"n{k}", "a", lost="silent" if k <= silent else None) for k in range(1, nodes + 1)} | more
    pods = [Pod(f"p{k}").unready() if k <= silent else Pod(f"p{k}").serving() for k in range(1, nodes + 1)]
    for k, pod in enumerate(pods, 1):
        pod.raw["spec"]["nodeName"] = f"n{k}"
    heard = {pod: Sighting(up=up, since=now.timestamp() - 3) for pod, up in (told or {}).items()}
    answers = (Evidence(gateway="g", now=now.timestamp(), replicas=heard),) if told is not None else ()
    observed = Observed(
        parent("ModelDeployment", "chat", deployment_spec()),
        pods=tuple(pod.raw for pod in pods),
        nodes=there,
        evidence=answers,
        evidence_at=(at(seconds if told_at is None else told_at),) * len(answers),
    )
    return losses.look(observed, known.nodes if known else (), AFTER, asks, now)


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize(
    ("silent", "nodes", "lost"),
    [(1, 1, 0), (1, 2, 1), (2, 2, 0), (1, 3, 1), (2, 3, 0), (3, 3, 0), (3, 6, 3), (4, 6, 0), (6, 6, 0)],
)
def test_where_most_nodes_are_silent_and_no_gateway_tells_it_is_rather_us(
    silent: int, nodes: int, lost: int, asks: bool
) -> None:
    first = of_many(0, silent, nodes, asks=asks)
    found = of_many(3600, silent, nodes, first, asks=asks)
    assert len(found.pods) == lost
    assert len(found.unjudged) == silent - lost
    assert len(found.nodes) == silent, "they stay suspected"
    assert found.nodes == of_many(3600, silent, nodes, found, asks=asks).nodes, "the same look changes nothing"


def test_of_a_cut_the_first_that_are_told_are_lost_no_more_than_the_last() -> None:
    """Kubernetes tells of one after the other. Two of three that are heard of again leave one that is lost."""
    first = of_many(0, 1, 3, asks=False)
    assert first.look_again is not None
    second = of_many(5, 2, 3, first, asks=False)
    assert not first.pods | second.pods
    later = of_many(60, 3, 3, of_many(losses.PATIENCE, 3, 3, second, asks=False), asks=False)
    assert (later.pods, later.unjudged) == (frozenset(), {"p1", "p2", "p3"})
    assert of_many(61, 1, 3, later, asks=False).pods == {"p1"}


def test_as_soon_as_a_gateway_answers_it_is_believed_however_many_it_calls_lost() -> None:
    cut = of_many(30, 3, 3, of_many(0, 3, 3))
    assert cut.unjudged == {"p1", "p2", "p3"}
    assert of_many(40, 3, 3, cut, told=dict.fromkeys(("p1", "p2", "p3"), False)).pods == {"p1", "p2", "p3"}
    some = of_many(40, 3, 3, cut, told={"p1": True, "p2": False})
    assert (some.pods, some.unjudged) == ({"p2", "p3"}, frozenset()), (
        "of p3 it knows nothing, so Kubernetes' word counts"
    )
    assert [node.since for node in some.nodes] == [node.since for node in cut.nodes]


@pytest.mark.parametrize(("told", "told_at"), [({}, None), ({"p1": False}, -5)])
def test_a_gateway_that_knows_no_replica_or_has_answered_before_says_nothing(
    told: dict[str, bool], told_at: float | None
) -> None:
    cut = of_many(30, 3, 3, of_many(0, 3, 3), told=told, told_at=told_at)
    assert (cut.pods, len(cut.unjudged)) == (frozenset(), 3)


def test_where_fewer_are_silent_those_that_still_are_count_at_once() -> None:
    cut = of_many(30, 3, 3, of_many(0, 3, 3))
    assert of_many(31, 1, 3, cut).pods == {"p1"}
    assert of_many(31, 0, 3, cut) == Losses()


def test_what_was_lost_before_most_fell_silent_stays_lost_and_what_served_again_is_not_lost_anew() -> None:
    lost = of_many(10, 1, 3, of_many(0, 1, 3))
    cut = of_many(70, 3, 3, of_many(60, 3, 3, lost))
    assert (cut.pods, cut.failing, cut.unjudged) == ({"p1"}, {"p1"}, {"p2", "p3"})
    for before in (of_many(20, 1, 3, lost, told={"p1": True}), of_many(20, 0, 3, lost)):
        assert (before.pods, before.failing) == ({"p1"}, frozenset()), "it serves again, or its node is well"
        cut = of_many(70, 3, 3, of_many(60, 3, 3, before))
        assert (cut.pods, cut.failing) == ({"p1"}, frozenset()), "or there would be more stand-ins"
        assert cut.unjudged == {"p1", "p2", "p3"}


def test_a_device_that_is_out_of_order_and_a_node_that_is_deleted_are_no_silence() -> None:
    sick = {"n3": Node("n3", "a", fault="7 of 8 nvidia.com/gpu are offered")}
    first = of_many(0, 3, 4, n4=Node("n4", "a", lost="silent"), **sick)
    assert of_many(30, 3, 4, first, n4=Node("n4", "a", lost="silent"), **sick).pods == {"p3"}
    observed = Observed(
        parent("ModelDeployment", "chat", deployment_spec()),
        pods=(Pod("p").unready().raw,),
        nodes={name: Node(name, lost="silent") for name in ("a", "b")},
    )
    assert losses.look(observed, (), AFTER, False, NOW).pods == {"p"}
