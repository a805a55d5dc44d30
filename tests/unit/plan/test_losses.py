"""Lost replicas: who is believed, what is remembered, and how long."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.recovery import LostNode
from pilotboat.api.routing import Evidence, Sighting
from pilotboat.plan import losses
from pilotboat.plan.losses import Losses
from pilotboat.plan.types import Node, Observed
from tests.unit.plan.world import NOW, Pod, deployment_spec, parent

AFTER = 300.0
DEAD = Node("node-1", "a", ready=False, lost="kubelet stopped posting node status")
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
) -> Losses:
    heard = {pod: Sighting(up=up, since=at(seconds).timestamp() - 3) for pod, up in (told or {}).items()}
    answers = (Evidence(gateway="g", now=0, replicas=heard),) if told is not None else ()
    observed = Observed(
        parent("ModelDeployment", "chat", deployment_spec()),
        pods=tuple(pod.raw for pod in pods),
        nodes={"node-1": node, "node-2": ELSEWHERE},
        evidence=answers,
        evidence_at=(at(seconds),) * len(answers),
    )
    return losses.look(observed, known.nodes if known else (), AFTER, asks, at(seconds))


def test_a_replica_that_is_not_ready_on_a_lost_node_is_lost_where_nobody_can_be_asked() -> None:
    found = see(0, [Pod("p").unready(), Pod("q").serving()])
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


def test_an_answer_from_before_the_suspicion_says_nothing() -> None:
    first = see(10, [Pod("p").unready()], asks=True)
    observed = Observed(
        parent("ModelDeployment", "chat", deployment_spec()),
        pods=(Pod("p").unready().raw,),
        nodes={"node-1": DEAD},
        evidence=(Evidence(gateway="g", now=0, replicas={"p": Sighting(up=True, since=0)}),),
        evidence_at=(at(5),),
    )
    assert losses.look(observed, first.nodes, AFTER, True, at(17)).pods == {"p"}


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
    lost = see(0, [Pod("p").unready()])
    back = see(60, [Pod("p").serving()], WELL, lost)
    assert back.pods == {"p"}
    assert not back.failing
    assert see(60 + AFTER - 1, [Pod("p").serving()], WELL, back).pods == {"p"}
    assert not see(60 + AFTER, [Pod("p").serving()], WELL, back).pods


def test_each_further_loss_doubles_the_time_up_to_an_hour() -> None:
    assert [losses.held_for(LostNode(name="n", fault="NodeLost", since="", losses=n), AFTER) for n in (1, 2, 3, 9)] == [
        300,
        600,
        1200,
        3600,
    ]


def test_a_replica_that_is_evicted_meanwhile_has_none_in_its_place_any_more() -> None:
    lost = see(0, [Pod("p").unready()])
    assert not see(300, [Pod("p").unready().leaving()], known=lost).pods


def test_thirty_second_flaps_for_twenty_minutes_ask_for_one_stand_in_once() -> None:
    known, counts = Losses(), []
    for second in range(0, 1200, 5):
        down = second // 30 % 2 == 0
        known = see(second, [Pod("p").unready() if down else Pod("p").serving()], DEAD if down else WELL, known)
        counts.append(len(known.pods))
    assert counts == [1] * len(counts)
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
    lost = see(0, [Pod("p").unready()])
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
