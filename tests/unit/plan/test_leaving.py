"""A canary that is left and makes no way: stable is sent no more than it carries, and it is said why."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pilotboat.api.rollout import Rollout, RolloutPhase, RolloutStatus
from pilotboat.plan import leaving
from pilotboat.plan.build import timestamp
from pilotboat.plan.progression import Facts
from pilotboat.plan.rollout import Revision
from unit.plan.test_kept_canary import Fetching
from unit.plan.test_overtaken import ENOUGH, Watched, reached
from unit.plan.world import NOW, condition, types

LATE = timedelta(minutes=31)
SPEC = Rollout()


def stuck(cluster: Watched, room: int) -> str:
    """At 50 % so many pods are lost that those which are left have no room for another."""
    second = reached(cluster, 50)
    names = sorted(cluster.pods, key=lambda name: name.rsplit("-", 1)[1])
    for name in names[: len(names) - room]:
        cluster.kill(name)
    for deployment in cluster.deployments:
        cluster.report(deployment)
    cluster.room = room
    cluster.push(8)
    cluster.settle()
    assert cluster.status["rollout"]["phase"] == "Draining"
    return second


def test_with_no_room_it_waits_and_says_so_after_the_deadline() -> None:
    cluster = Watched(room=ENOUGH)
    second = stuck(cluster, 6)
    shares = cluster.shares
    assert shares[second] > 300
    assert condition(cluster.status, "Ready")["reason"] == "RollingOut"
    again = cluster.plan().requeue_after
    assert again is not None
    assert again <= timedelta(minutes=30)
    cluster.now += LATE
    cluster.settle()
    assert cluster.shares == shares, "stable carries no more than before"
    assert types(cluster.status)["Progressing"] == "False"
    told = condition(cluster.status, "Ready")
    assert told["reason"] == "InsufficientSurgeCapacity"
    assert "Insufficient nvidia.com/gpu" in told["message"]
    assert "`pilotboat rollout abort NAME`" in told["message"]
    cluster.now += LATE
    cluster.settle()
    assert [event.reason for event in cluster.events].count("InsufficientSurgeCapacity") == 1


@pytest.mark.parametrize("way", ["fewer replicas", "room", "abort"])
def test_what_it_says_ends_the_wait(way: str) -> None:
    cluster = Watched(room=ENOUGH)
    second = stuck(cluster, 6)
    cluster.now += LATE
    cluster.settle()
    if way == "fewer replicas":
        cluster.edit(replicas=6)
    elif way == "room":
        cluster.room = ENOUGH
    else:
        cluster.ask("Abort")
    cluster.settle()
    assert second not in cluster.replicas
    assert second not in cluster.shares
    assert condition(cluster.status, "Ready")["reason"] != "DeadlineExceeded"


def test_where_stables_pods_do_not_become_ready_for_another_reason_the_time_is_told() -> None:
    cluster = Fetching(room=ENOUGH)
    second = reached(cluster, 50)
    cluster.stuck = True
    cluster.push(8)
    cluster.settle()
    cluster.now += LATE
    cluster.settle()
    assert cluster.shares[second] > 300
    assert condition(cluster.status, "Ready")["reason"] == "DeadlineExceeded"


def left(state: RolloutStatus, stable: int) -> RolloutStatus:
    """One look at a canary of four, with so many ready replicas of stable."""
    facts = Facts(8, Revision("a", 8, stable), Revision("b", 4, 4))
    return leaving.leave(state, SPEC, facts, NOW).state


def test_the_time_counts_from_the_last_share_that_went_back() -> None:
    old = timestamp(NOW - LATE)
    state = RolloutStatus(phase=RolloutPhase.DRAINING, stable="a", canary="b", weight=50, waiting_since=old)
    assert left(state, 4).waiting_since == old
    assert left(state, 4).reason == "DeadlineExceeded"
    assert left(state, 5).waiting_since == timestamp(NOW)
    assert left(state, 5).reason == "RollingOut"
    begun = state.model_copy(update={"phase": RolloutPhase.PROGRESSING})
    assert left(begun, 4).waiting_since == timestamp(NOW), "what was awaited before is another matter"
    assert left(state, 8).waiting_since is None
