"""A source that is missing while there is a canary: neither revision gets more traffic than it carries."""

from __future__ import annotations

from typing import Any

import pytest

from unit.plan.test_overtaken import ENOUGH, STARVED, SURGE, WANT, Watched, reached
from unit.plan.world import condition, types

GONE = {"source": {"fineTuneJob": {"name": "gone"}}}
TWO_ROOMS = pytest.mark.parametrize("room", [SURGE, STARVED])


class Fetching(Watched):
    """Where new pods find nothing to fetch as long as the test wants it."""

    stuck = False

    def advance(self, name: str) -> None:
        if not (self.stuck and self.pods[name][0] == "fetching"):
            super().advance(name)


def source_missing(cluster: Watched) -> None:
    cluster.edit(model=GONE)


def source_back(cluster: Watched) -> None:
    cluster.edit(model={"source": {"huggingFace": {"repo": "org/model"}}})


def draining(cluster: Watched, weight: int) -> str:
    """A third revision is wanted, and the second begins to go."""
    second = reached(cluster, weight)
    cluster.overtaken(second)
    cluster.push(8)
    cluster.carry_out(cluster.plan())
    assert cluster.status["rollout"]["phase"] == "Draining"
    return second


@TWO_ROOMS
@pytest.mark.parametrize("weight", [50, 100])
def test_a_canary_on_its_way_out_goes_on_giving_back(weight: int, room: dict[str, Any]) -> None:
    cluster = Watched(**room)
    draining(cluster, weight)
    source_missing(cluster)
    assert cluster.settle()
    assert (cluster.shares, cluster.replicas) == ({cluster.first: 1000}, {cluster.first: WANT})
    assert "rollout" not in cluster.status
    assert condition(cluster.status, "Ready")["reason"] == "FineTuneJobNotFound"
    source_back(cluster)
    third = cluster.push(8)
    assert cluster.settle()
    assert cluster.shares == {third: 250, cluster.first: 750}
    assert [each["outcome"] for each in cluster.status["rollouts"]] == ["Superseded"]


@pytest.mark.parametrize("weight", [50, 100])
def test_what_stable_cannot_take_for_want_of_the_source_stays_with_the_canary(weight: int) -> None:
    cluster = Fetching(room=ENOUGH)
    second = draining(cluster, weight)
    cluster.stuck = True
    source_missing(cluster)
    assert cluster.settle()
    assert cluster.shares[second] > 300
    cluster.stuck = False
    assert cluster.settle()
    assert cluster.shares == {cluster.first: 1000}


@TWO_ROOMS
@pytest.mark.parametrize("weight", [25, 75, 100])
def test_a_canary_of_which_nobody_knows_whether_it_is_asked_for_keeps_its_share(
    weight: int, room: dict[str, Any]
) -> None:
    cluster = Watched(**room)
    second = reached(cluster, weight)
    cluster.overtaken(second)
    before = cluster.shares
    source_missing(cluster)
    assert cluster.settle()
    assert cluster.shares == before
    assert (types(cluster.status)["Available"], types(cluster.status)["Ready"]) == ("True", "False")
    started = cluster.status["rollout"]["started"]
    source_back(cluster)
    cluster.old = ""
    assert cluster.settle()
    assert cluster.shares == ({second: 1000} if weight == 100 else before), "it goes on from where it was"
    assert cluster.status.get("rollout", {"started": started})["started"] == started


def test_nor_is_it_left_for_a_third_of_which_nothing_can_be_made() -> None:
    cluster = Watched(room=ENOUGH)
    second = reached(cluster, 50)
    cluster.overtaken(second)
    cluster.push(8)
    source_missing(cluster)
    assert cluster.settle()
    assert cluster.shares == {second: 500, cluster.first: 500}
    source_back(cluster)
    third = cluster.push(8)
    cluster.leave(third)
    assert cluster.settle()
    assert cluster.shares == {third: 250, cluster.first: 750}


def give_up(cluster: Watched, canary: str, way: str) -> None:
    """A person asks for it, or its figures do within minutes."""
    if way == "a person":
        cluster.ask("Abort")
    else:
        cluster.failing.add(canary)
    for _ in range(6):
        cluster.minute()


@pytest.mark.parametrize("way", ["a person", "its figures"])
def test_one_that_is_given_up_meanwhile_goes_at_once_and_is_told(way: str) -> None:
    cluster = Watched(room=ENOUGH)
    second = reached(cluster, 50)
    source_missing(cluster)
    assert cluster.settle()
    give_up(cluster, second, way)
    assert cluster.settle()
    assert (cluster.shares, cluster.replicas) == ({cluster.first: 1000}, {cluster.first: WANT})
    assert cluster.status["rollout"]["phase"] == "Aborted"
    assert [each["outcome"] for each in cluster.status["rollouts"]] == ["Aborted"]
    assert [reason for reason, _ in cluster.story].count("CanaryRolledBack") == 1


def test_a_return_to_a_revision_that_is_not_there_stops_no_verdict_and_no_abort() -> None:
    for way in ("a person", "its figures"):
        cluster = Watched(room=ENOUGH)
        second = reached(cluster, 50)
        cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "rollbackTo": "deadbeef"})
        assert cluster.settle()
        assert (cluster.shares[second], condition(cluster.status, "Ready")["reason"]) == (500, "RevisionNotFound")
        give_up(cluster, second, way)
        assert (cluster.shares, cluster.replicas) == ({cluster.first: 1000}, {cluster.first: WANT})
        assert cluster.status["rollout"]["phase"] == "Aborted"


def test_what_else_is_asked_meanwhile_is_heard_when_the_source_is_back() -> None:
    cluster = Watched(room=ENOUGH)
    second = reached(cluster, 25)
    source_missing(cluster)
    cluster.ask("Skip")
    assert cluster.settle()
    assert cluster.shares == {second: 250, cluster.first: 750}
    source_back(cluster)
    assert cluster.settle()
    assert cluster.shares == {second: 500, cluster.first: 500}


def test_a_canary_that_serves_nothing_has_nothing() -> None:
    cluster = Watched(room=ENOUGH)
    second = reached(cluster, 25)
    source_missing(cluster)
    cluster.broken.add(second)
    for name in [name for name in cluster.pods if name.startswith(f"chat-{second}-")]:
        cluster.kill(name)
    for deployment in cluster.deployments:
        cluster.report(deployment)
    cluster.carry_out(cluster.plan())
    assert cluster.shares == {cluster.first: 1000}
