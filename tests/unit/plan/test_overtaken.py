"""A canary that another change overtakes: what it carries moves back only as fast as stable can take it."""

from __future__ import annotations

from typing import Any

import pytest

from pilotboat.plan.build import dig
from pilotboat.plan.capacity import carries
from pilotboat.plan.types import Plan
from unit.plan.test_course import Canary
from unit.plan.world import types

WANT = 8
STEPS = [{"weight": weight, "hold": "1h"} for weight in (25, 50, 75)]


class Watched(Canary):
    """The miniature, looked at after every write of the operator and after every act of Kubernetes."""

    def __init__(self, lent: int = 0, **changes: Any) -> None:
        self.lent, self.old, self.before, self.serial_of_actions = lent, "", 1000, 0
        super().__init__(**{"replicas": WANT, "steps": STEPS} | changes)

    def ready(self, revision: str) -> int:
        return sum(self.serves(name) for name in self.pods if name.startswith(f"chat-{revision}-"))

    def ask(self, verb: str) -> None:
        self.serial_of_actions += 1
        action = {"verb": verb, "id": str(self.serial_of_actions)}
        self.edit(rollout={**self.parent["spec"]["rollout"], "action": action})

    def overtaken(self, revision: str) -> None:
        """From now on that canary is left; what it has now is the most it may have."""
        self.old, self.before = revision, self.shares.get(revision, 0)

    def leave(self, third: str) -> None:
        """Until that canary's pods are asked to go; nothing of the next begins before."""
        for _ in range(80):
            if self.old not in self.replicas:
                return
            assert third not in self.replicas
            self.follow()
            self.carry_out(self.plan())
        raise AssertionError((self.shares, self.replicas))

    def check(self) -> None:
        if not self.old:
            return
        whole = dig(self.parent, "spec", "replicas") - self.lent
        for revision, share in self.shares.items():
            assert share <= 10 * carries(self.ready(revision), whole), (revision, self.shares, self.replicas)
        assert self.shares.get(self.old, 0) <= self.before, "what is left never gets more"
        self.before = self.shares.get(self.old, 0)

    def follow(self) -> None:
        super().follow()
        self.check()

    def carry_out(self, plan: Plan) -> bool:
        """And once more before Kubernetes does anything."""
        wrote = super().carry_out(plan)
        self.check()
        super().carry_out(self.plan())
        self.check()
        return wrote


def reached(cluster: Watched, weight: int) -> str:
    """A canary at that weight; 100: in the middle of its promotion."""
    new = cluster.push(7)
    cluster.settle()
    for step in STEPS[1:]:
        if step["weight"] <= weight:
            cluster.ask("Skip")
            cluster.settle()
    if weight == 100:
        cluster.ask("Promote")
        cluster.carry_out(cluster.plan())
        assert cluster.status["rollout"]["phase"] == "Promoting"
    assert cluster.shares[new] == 10 * min(weight, 75) or weight == 100
    return new


ENOUGH = 2 * WANT
"""Room for one more, and for those that end: they hold their places until they are gone."""
SURGE = pytest.param({"room": ENOUGH}, id="one more")
TIGHT = pytest.param({"room": WANT + 1, "lent": 1}, id="one lent while another ends")
LENT = pytest.param({"surge": "Never", "room": WANT, "lent": 1}, id="one lent")
STARVED = pytest.param({"room": WANT, "lent": 1}, id="one lent for want of room")
ROOMY = pytest.param({"surge": "Always"}, id="twice the room")
EVERYWHERE = pytest.mark.parametrize("room", [SURGE, TIGHT, LENT, STARVED, ROOMY])
AT_EACH_STEP = pytest.mark.parametrize("weight", [25, 50, 75, 100])


@EVERYWHERE
@AT_EACH_STEP
def test_a_third_revision_begins_when_stable_has_taken_back_what_the_second_carried(
    weight: int, room: dict[str, Any]
) -> None:
    cluster = Watched(**room)
    second = reached(cluster, weight)
    cluster.overtaken(second)
    third = cluster.push(8)
    cluster.leave(third)
    assert cluster.settle()
    assert cluster.shares == {third: 250, cluster.first: 750}
    assert [each["outcome"] for each in cluster.status["rollouts"]] == ["Superseded"]
    assert [reason for reason, _ in cluster.story].count("RolloutSuperseded") == 1
    cluster.ask("Promote")
    assert cluster.settle()
    assert (cluster.shares, cluster.replicas) == ({third: 1000}, {third: WANT})
    assert types(cluster.status)["Ready"] == "True"


@EVERYWHERE
@AT_EACH_STEP
@pytest.mark.parametrize("way", ["the spec as it was", "rollbackTo"])
def test_a_return_to_stable_takes_what_the_canary_carried(weight: int, room: dict[str, Any], way: str) -> None:
    cluster = Watched(**room)
    cluster.overtaken(reached(cluster, weight))
    back(cluster, way)
    assert cluster.settle()
    assert (cluster.shares, cluster.replicas) == ({cluster.first: 1000}, {cluster.first: WANT})
    assert types(cluster.status)["Ready"] == "True"
    assert "rollout" not in cluster.status


def back(cluster: Canary, way: str) -> None:
    if way == "rollbackTo":
        cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "rollbackTo": cluster.first})
    else:
        cluster.edit(inference={})


def small(cluster: Watched) -> str:
    new = cluster.push(7)
    cluster.settle()
    assert cluster.shares == {new: 50, cluster.first: 950}
    return new


def given_up(cluster: Watched) -> str:
    new = small(cluster)
    cluster.ask("Abort")
    cluster.settle()
    assert cluster.ready(new) == 1
    return new


def at_its_gate(cluster: Watched) -> str:
    rollout = cluster.parent["spec"]["rollout"]
    cluster.edit(rollout={**rollout, "analysis": {"quality": {}}})
    new = cluster.push(7)
    cluster.settle()
    assert (cluster.ready(new), cluster.shares) == (1, {cluster.first: 1000})
    return new


@pytest.mark.parametrize("way", ["the spec as it was", "rollbackTo", "a third"])
@pytest.mark.parametrize("reach", [small, given_up, at_its_gate], ids=lambda each: each.__name__)
def test_a_canary_that_is_left_never_gets_more_than_it_had(reach: Any, way: str) -> None:
    cluster = Watched(replicas=4, steps=[{"weight": 5, "hold": "1h"}], onFailure="Pause")
    left = reach(cluster)
    cluster.overtaken(left)
    if way == "a third":
        cluster.push(8)
    else:
        back(cluster, way)
    assert cluster.settle()
    assert left not in cluster.replicas
    outcomes = [each["outcome"] for each in cluster.status["rollouts"]]
    assert outcomes == ["Aborted" if reach is given_up else "Superseded"]


@pytest.mark.parametrize("second", [False, True], ids=["stable alone", "beside a canary"])
def test_what_is_not_known_of_stable_yet_is_no_proof_that_it_serves_nothing(second: bool) -> None:
    cluster = Watched(replicas=4)
    if second:
        cluster.overtaken(reached(cluster, 50))
    for deployment in cluster.deployments:
        if deployment["metadata"]["name"] == f"chat-{cluster.first}":
            deployment["metadata"]["generation"] += 1
    before, third = dict(cluster.replicas), cluster.push(8)
    shares = dict(cluster.shares)
    cluster.carry_out(cluster.plan())
    assert (cluster.replicas, cluster.shares) == (before, shares)
    assert cluster.settle()
    assert cluster.shares == {third: 250, cluster.first: 750}


def test_what_is_asked_before_the_third_begins_is_asked_of_it() -> None:
    cluster = Watched(room=ENOUGH)
    cluster.overtaken(reached(cluster, 50))
    third = cluster.push(8)
    cluster.ask("Promote")
    assert cluster.settle()
    assert cluster.shares == {third: 1000}


def test_one_that_fails_or_is_aborted_on_its_way_out_goes_at_once() -> None:
    for bad in (True, False):
        cluster = Canary(replicas=WANT, steps=STEPS)
        second = cluster.push(7)
        cluster.settle()
        cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "action": {"verb": "Promote", "id": "1"}})
        cluster.carry_out(cluster.plan())
        cluster.push(8)
        cluster.carry_out(cluster.plan())
        assert cluster.shares[second] > 0
        if bad:
            for name in [name for name in cluster.pods if name.startswith(f"chat-{second}-")]:
                cluster.kill(name)
            for deployment in cluster.deployments:
                cluster.report(deployment)
        else:
            cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "action": {"verb": "Abort", "id": "2"}})
        cluster.carry_out(cluster.plan())
        assert cluster.shares == {cluster.first: 1000}
        assert second not in cluster.replicas


def test_one_that_is_wanted_again_on_its_way_out_goes_on_from_what_it_has() -> None:
    cluster = Watched(room=ENOUGH)
    second = reached(cluster, 75)
    cluster.overtaken(second)
    cluster.push(8)
    for _ in range(3):
        cluster.follow()
        cluster.carry_out(cluster.plan())
    left = cluster.shares[second]
    assert 250 < left < 750
    cluster.push(7)
    assert cluster.settle()
    assert cluster.shares == {second: left, cluster.first: 1000 - left}
    cluster.old = ""
    cluster.ask("Promote")
    assert cluster.settle()
    assert cluster.shares == {second: 1000}


@pytest.mark.parametrize("surge", ["Auto", "Always"])
def test_a_replica_of_stable_that_finds_no_room_gets_the_canarys(surge: str) -> None:
    cluster = Watched(surge=surge, room=2 * WANT, lent=1)
    cluster.overtaken(reached(cluster, 50))
    cluster.kill(next(name for name in sorted(cluster.pods) if name.startswith(f"chat-{cluster.first}-")))
    for deployment in cluster.deployments:
        cluster.report(deployment)
    cluster.room = WANT if surge == "Auto" else len(cluster.pods)
    third = cluster.push(8)
    cluster.leave(third)
    cluster.room = 2 * WANT
    assert cluster.settle()
    assert cluster.shares == {third: 250, cluster.first: 750}
