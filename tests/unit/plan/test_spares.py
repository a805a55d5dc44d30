"""Spare replicas that find no place: they are told, and disturb nothing; against the cluster in miniature."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotboat.api.crd import MODEL_DEPLOYMENT
from pilotboat.plan.types import Plan
from tests.unit.plan.cluster import FULL, Cluster, cut, writes
from tests.unit.plan.test_course import Canary
from tests.unit.plan.test_recovery import World
from tests.unit.plan.world import check_schema, condition, types

Trace = list[dict[str, int]]
LONGEST = 9
"""No pass here has as many writes."""


def cluster(replicas: int = 3, spare: int = 2, room: int = 4) -> Cluster:
    """By default one of two spares has a place."""
    made = Cluster(replicas, room)
    made.edit(zones={"spare": spare})
    made.settle()
    return made


def status(of: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = of.parent["status"]
    check_schema(MODEL_DEPLOYMENT, found)
    return found


def asked(of: Cluster) -> dict[str, int]:
    """Replicas of each revision's Deployment."""
    return {d["metadata"]["name"]: d["spec"]["replicas"] for d in of.deployments}


def serving(of: Cluster) -> int:
    return sum(map(of.serves, of.pods))


def later(of: Cluster, seconds: int = 400, step: int = 5) -> Iterator[None]:
    """Pass by pass."""
    for _ in range(0, seconds, step):
        of.now += timedelta(seconds=step - 1)
        of.carry_out(of.plan())
        of.follow()
        yield


def rolled(of: Cluster, size: int = 7) -> tuple[str, Trace, int]:
    """Another revision is asked for: its name, what was asked of the Deployments, and the fewest that served."""
    of.edit(inference={"batchSize": size})
    trace, lowest = [asked(of)], serving(of)
    for _ in later(of):
        lowest = min(lowest, serving(of))
        if trace[-1] != asked(of):
            trace.append(asked(of))
    return f"chat-{status(of)['updateRevision']}", trace, lowest


def turns(trace: Trace, name: str) -> int:
    """How often the replicas of a revision grew after they had shrunk, or the other way round."""
    moves = [after - before for before, after in pairwise(each.get(name, 0) for each in trace) if after != before]
    return sum((before > 0) != (after > 0) for before, after in pairwise(moves))


def test_they_are_told_with_the_way_out() -> None:
    found = status(cluster())
    told = condition(found, "Ready")
    assert (told["status"], told["reason"]) == ("False", "SparesPending")
    assert "1 of 2 spare replicas" in told["message"]
    assert "spec.zones.spare" in told["message"]
    assert FULL in told["message"]
    assert (found["ready"], found["replicas"], types(found)["Available"]) == ("4/5", 5, "True")
    assert condition(found, "Progressing")["reason"] == "SparesPending"


def test_the_revision_counts_as_rolled_out() -> None:
    """Else its successor would be no canary, and it could not be kept when its source goes away."""
    found = status(cluster())
    assert found["currentRevision"] == found["updateRevision"]


def test_a_failure_is_forgotten_once_all_serve_that_have_a_place() -> None:
    there = cluster()
    name = next(each for each in sorted(there.pods) if there.serves(each))
    there.pods[name][1].died(1)
    there.carry_out(there.plan())
    assert "lastFailure" in status(there)
    there.pods[name][1].serving()
    there.settle()
    assert "lastFailure" not in status(there)


def test_with_more_room_they_come_by_themselves() -> None:
    there = cluster()
    there.room = 5
    assert there.settle()
    assert (status(there)["ready"], types(status(there))["Ready"]) == ("5/5", "True")


@pytest.mark.parametrize("room", [4, 5])
@pytest.mark.parametrize("spare", [1, 2, 3])
def test_a_changed_spec_rolls_out(spare: int, room: int) -> None:
    there = cluster(spare=spare, room=room)
    new, trace, lowest = rolled(there)
    assert lowest >= 3
    assert {name for name, count in asked(there).items() if count} == {new}
    assert asked(there)[new] == 3 + spare
    assert status(there)["currentRevision"] == new.removeprefix("chat-")
    assert serving(there) == min(room, 3 + spare)
    assert all(turns(trace, name) == 0 for name in trace[-1])
    assert there.settle()


def test_a_broken_revision_costs_no_more_than_the_spares_and_nothing_flaps() -> None:
    there = cluster()
    there.edit(inference={"batchSize": 7})
    there.broken.add((there.plan().status or {})["updateRevision"])
    _, trace, lowest = rolled(there)
    assert lowest >= 3
    assert all(turns(trace, name) == 0 for name in trace[-1])
    _, trace, lowest = rolled(there, size=8)
    assert lowest >= 3
    assert types(status(there))["Available"] == "True"
    assert condition(status(there), "Ready")["reason"] == "SparesPending"


@pytest.mark.parametrize("shape", [(3, 2, 6), (1, 1, 3), (2, 3, 9)])
def test_where_they_fit_a_rollout_goes_as_that_of_as_many_replicas(shape: tuple[int, int, int]) -> None:
    replicas, spare, room = shape
    _, trace, lowest = rolled(cluster(replicas, spare, room))
    assert (trace, lowest) == rolled(cluster(replicas + spare, 0, room))[1:]


def canary(replicas: int, spare: int, room: int, **rollout: Any) -> Canary:
    made = Canary(replicas, room, **rollout)
    made.edit(zones={"spare": spare})
    made.settle()
    return made


def walked(there: Canary) -> tuple[list[str], bool, int]:
    """A rollout to its end: what became of it, whether a replica was lent to the first step, the fewest that served."""
    there.push(7)
    there.settle()
    borrowed, lowest = None, serving(there)
    for _ in range(60):
        state = there.status.get("rollout")
        if state is None or state["phase"] == "Aborted":
            break
        if state["weight"] and borrowed is None:
            borrowed = state["borrowing"]
        there.minute()
        lowest = min(lowest, serving(there))
    there.settle()
    assert "sparesLent" not in there.status
    return [each["outcome"] for each in there.status.get("rollouts", ())], bool(borrowed), lowest


@pytest.mark.parametrize("surge", ["Auto", "Always", "Never"])
@pytest.mark.parametrize("room", [3, 4])
def test_a_canary_goes_as_without_spares_on_the_same_room(room: int, surge: str) -> None:
    (*ended, lowest), (*plain, least) = walked(canary(3, 2, room, surge=surge)), walked(canary(3, 0, room, surge=surge))
    assert ended == plain
    assert lowest >= least


@pytest.mark.parametrize(("surge", "room"), [("Auto", 5), ("Auto", 6), ("Always", 10), ("Never", 5)])
def test_where_they_fit_a_canary_goes_as_that_of_as_many_replicas(surge: str, room: int) -> None:
    assert walked(canary(3, 2, room, surge=surge)) == walked(canary(5, 0, room, surge=surge))


def test_a_canary_that_is_given_up_gives_the_spares_back() -> None:
    there = canary(3, 2, 4)
    bad = there.push(7)
    there.failing.add(bad)
    assert any(there.replicas == {bad: 1, there.first: 3} for _ in later(there))
    assert there.status["sparesLent"]
    assert not there.status["rollout"]["borrowing"]
    for _ in range(5):
        there.minute()
    assert there.status["rollout"]["phase"] == "Aborted"
    assert there.replicas == {there.first: 5}
    assert "sparesLent" not in there.status
    assert serving(there) == 4


@pytest.mark.parametrize("room", [3, 4])
@pytest.mark.parametrize("back", [False, True], ids=["a third", "the spec as it was"])
def test_a_canary_that_is_overtaken_gives_back_what_it_carries_while_the_spares_are_lent(back: bool, room: int) -> None:
    there = canary(3, 2, room, steps=[{"weight": 60, "hold": "1h"}])
    second = there.push(7)
    assert any(there.shares.get(second) for _ in later(there))
    there.edit(inference={} if back else {"batchSize": 8})
    trace, lent = [there.shares], []
    for _ in later(there):
        assert serving(there) >= 2
        if there.status.get("rollout", {}).get("phase") == "Draining":
            lent.append("sparesLent" in there.status)
            trace.append(there.shares)
    left = [shares.get(second, 0) for shares in trace]
    assert left == sorted(left, reverse=True)
    assert lent
    assert all(lent)
    assert second not in there.replicas
    assert [each["outcome"] for each in there.status["rollouts"]] == ["Superseded"]
    third = there.status["updateRevision"]
    assert there.replicas == {third: 5} if back else there.shares[third]


@given(replicas=st.integers(1, 4), spare=st.integers(1, 3), room=st.integers(1, 9))
@settings(max_examples=settings().max_examples // 5, deadline=None)
def test_whatever_the_room_it_rolls_out_as_without_spares(replicas: int, spare: int, room: int) -> None:
    there, plain = cluster(replicas, spare, room), cluster(replicas, 0, room)
    (new, trace, lowest), (_, _, least) = rolled(there), rolled(plain)
    assert lowest >= least
    assert all(turns(trace, name) == 0 for name in trace[-1])
    for each, wanted in ((there, replicas + spare), (plain, replicas)):
        assert ({n: count for n, count in asked(each).items() if count} == {new: wanted}) == (room > replicas)
    assert there.settle()


class Cut(Cluster):
    """An operator that dies after so many writes of every pass."""

    after = LONGEST

    def carry_out(self, plan: Plan) -> bool:
        assert writes(plan) < LONGEST
        begun = super().carry_out(cut(plan, self.after))
        return super().carry_out(self.plan()) or begun


@functools.cache
def lived(after: int) -> tuple[Any, ...]:
    there = Cut(3, room=4)
    there.edit(zones={"spare": 2})
    there.settle()
    there.after = after
    _, _, lowest = rolled(there)
    return asked(there), lowest, types(status(there)), there.serial, len(there.pods)


@pytest.mark.parametrize("after", range(LONGEST))
def test_an_operator_killed_after_any_write_ends_in_the_same_state(after: int) -> None:
    assert lived(after) == lived(LONGEST)


# evictions


def drained(there: Cluster) -> int:
    """Pods evicted one after the other, as far as the budget lets a drain of everything go, with no room elsewhere."""
    there.room, gone = 0, 0
    while there.evictions:
        there.kill(next(name for name in sorted(there.pods) if there.serves(name)))
        there.follow()
        there.carry_out(there.plan())
        gone += 1
    return gone


@pytest.mark.parametrize(("spare", "room"), [(0, 3), (0, 9), (2, 3), (2, 4), (2, 9)])
def test_a_drain_goes_on_until_one_less_serves_than_is_asked_for(spare: int, room: int) -> None:
    there = cluster(spare=spare, room=room)
    before = serving(there)
    assert before - drained(there) == 2


def test_a_stand_in_leaves_the_budget_as_it_is() -> None:
    there = World(spare=2)
    there.lose("n2")
    there.passes(60)
    budget = next(raw for ref, raw in there.objects.items() if ref.kind == "PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] == 2


def test_of_one_replica_and_its_spare_one_stays_where_both_have_a_place() -> None:
    assert cluster(replicas=1, spare=1, room=2).evictions == 1
    assert cluster(replicas=1, spare=1, room=1).evictions == 1, "as one replica without a spare, which has no budget"


# losses


def test_a_loss_that_spares_take_up_is_over_at_once() -> None:
    world = World(room=4, spare=2)
    world.lose("n2")
    world.passes(60)
    assert (world.status["ready"], condition(world.status, "Ready")["reason"]) == ("3/5", "SparesPending")
    last = world.status["recovery"]["last"]
    assert last["readyAt"] == last["detectedAt"]
    assert "seconds" not in last, "nothing was made anew"
    world.heal("n2")
    world.passes(1200, step=20)
    assert world.asked == (5, None)
    assert (world.status["ready"], condition(world.status, "Ready")["reason"]) == ("4/5", "SparesPending")


def test_who_stands_in_for_a_lost_one_has_room_before_a_spare() -> None:
    world = World(room=3, spare=1)
    assert (world.status["ready"], condition(world.status, "Ready")["reason"]) == ("3/4", "SparesPending")
    world.lose("n2")
    world.passes(60)
    assert condition(world.status, "Ready")["reason"] == "CapacityPending"
    assert condition(world.status, "ZonesHealthy")["reason"] == "CapacityPending"
    assert "readyAt" not in world.status["recovery"]["last"]
    world.room += 1
    world.passes(60)
    assert (world.status["ready"], condition(world.status, "Ready")["reason"]) == ("3/4", "SparesPending")
    assert world.status["recovery"]["last"]["readyAt"]


def test_a_pod_that_dies_is_on_record() -> None:
    world = World(room=4, spare=2)
    world.carry_out(world.plan())
    world.kill(next(name for name in sorted(world.pods) if world.serves(name)))
    for deployment in world.deployments:
        world.report(deployment)
    world.carry_out(world.plan())
    assert world.status["recovery"]["last"]["fault"] == "PodLost"
    world.passes(60)
    assert world.status["recovery"]["last"]["readyAt"]


def test_room_that_comes_in_the_middle_of_a_rollout_is_for_those_that_stand_in() -> None:
    """The spares are lent until the rollout is over: none of them waits beside a stand-in."""
    world = World(room=4, spare=2)
    world.edit(inference={"batchSize": 7})
    world.broken.add((world.plan().status or {})["updateRevision"])
    world.passes(300)
    assert world.status["sparesLent"]
    world.lose("n1")
    world.passes(30)
    lost = {name for name in world.pods if world.node_of(name) == "n1"}
    waits = [name for name in world.pods if world.node_of(name) is None]
    assert 0 < len(waits) <= len(lost)
    world.room += len(waits)
    world.passes(60)
    assert serving(world) >= 3
    world.heal("n1")
    world.passes(1200, step=20)
    world.broken.clear()
    world.passes(600)
    assert condition(world.status, "Ready")["reason"] in ("RolledOut", "SparesPending")
