"""Replicas 0 while there is a canary: nobody is promoted by that, and whoever was given up stays so."""

from __future__ import annotations

from typing import Any

import pytest

from pilotboat.plan.build import dig
from unit.plan.test_gates import OFF, QUALITY, jobs
from unit.plan.test_overtaken import Watched
from unit.plan.world import condition, types

STEPS = [{"weight": 10, "hold": "1h"}, {"weight": 50, "hold": "1h"}]


def begun(**rollout: Any) -> tuple[Watched, str]:
    cluster = Watched(replicas=4, steps=STEPS, analysis=OFF, **rollout)
    new = cluster.push(7)
    cluster.settle()
    return cluster, new


def at_ten(cluster: Watched) -> None:
    assert cluster.shares == {new_of(cluster): 100, cluster.first: 900}


def at_fifty(cluster: Watched) -> None:
    cluster.ask("Skip")
    cluster.settle()


def given_up(cluster: Watched) -> None:
    cluster.ask("Abort")
    cluster.settle()


def promoting(cluster: Watched) -> None:
    cluster.ask("Promote")
    cluster.carry_out(cluster.plan())
    assert cluster.status["rollout"]["phase"] == "Promoting"


def new_of(cluster: Watched) -> str:
    return str(cluster.status["rollout"]["canary"])


@pytest.mark.parametrize("history", [0, 3])
@pytest.mark.parametrize("reach", [at_ten, at_fifty, given_up, promoting], ids=lambda each: each.__name__)
def test_nobody_is_promoted_by_it(reach: Any, history: int) -> None:
    cluster, new = begun(history=history)
    reach(cluster)
    cluster.edit(replicas=0)
    assert cluster.settle()
    assert (cluster.replicas, cluster.status["currentRevision"]) == ({}, cluster.first)
    assert (types(cluster.status)["Ready"], condition(cluster.status, "Available")["reason"]) == (
        "False",
        "ScaledToZero",
    )
    cluster.edit(replicas=4)
    while cluster.ready(cluster.first) < 1:
        cluster.follow()
        cluster.carry_out(cluster.plan())
        assert cluster.shares == {cluster.first: 1000}
    assert cluster.settle()
    whole = {cluster.first: 1000} if reach is given_up else {new: 100, cluster.first: 900}
    assert (cluster.shares, cluster.status["currentRevision"]) == (whole, cluster.first)
    assert cluster.status["rollout"]["phase"] == ("Aborted" if reach is given_up else "Progressing")
    assert [reason for reason, _ in cluster.story].count("RolloutStarted") == 1


def test_the_gates_before_users_are_measured_anew_beside_a_stable_that_serves() -> None:
    cluster, new = begun()
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "analysis": {**OFF, **QUALITY}})
    for replicas in (0, 4):
        cluster.edit(replicas=replicas)
        cluster.settle()
    assert (cluster.shares, jobs(cluster)) == ({cluster.first: 1000}, [f"chat-{new}-quality"])


def test_one_that_is_pushed_meanwhile_takes_its_place() -> None:
    cluster, _ = begun()
    cluster.edit(replicas=0)
    cluster.settle()
    third = cluster.push(8)
    cluster.settle()
    assert (cluster.status["currentRevision"], new_of(cluster)) == (cluster.first, third)
    fourth = cluster.push(9)
    cluster.edit(replicas=4)
    cluster.settle()
    assert cluster.shares == {fourth: 100, cluster.first: 900}
    assert [each["outcome"] for each in cluster.status["rollouts"]] == ["Superseded", "Superseded"]


@pytest.mark.parametrize("way", ["Promote", "a fix", "deadline"])
def test_where_stable_does_not_come_back_a_person_decides(way: str) -> None:
    cluster, new = begun()
    cluster.edit(replicas=0)
    cluster.settle()
    cluster.broken.add(cluster.first)
    cluster.edit(replicas=4)
    cluster.settle()
    assert new not in cluster.replicas
    assert f"begins anew when {cluster.first} serves again" in cluster.status["rollout"]["message"]
    if way == "Promote":
        cluster.ask("Promote")
        cluster.settle()
        assert (cluster.shares, cluster.status["currentRevision"]) == ({new: 1000}, new)
    else:
        cluster.now += cluster.now - cluster.now.replace(hour=cluster.now.hour - 1)
        cluster.settle()
        assert cluster.status["rollout"]["phase"] == "Aborted"
    if way == "a fix":
        fixed = cluster.push(8)
        cluster.settle()
        assert (cluster.shares, cluster.status["currentRevision"]) == ({fixed: 1000}, fixed)


def test_the_same_while_the_source_is_missing() -> None:
    cluster, new = begun()
    source = dig(cluster.parent, "spec", "model")
    at_fifty(cluster)
    cluster.edit(model={"source": {"fineTuneJob": {"name": "gone"}}})
    for replicas in (0, 4):
        cluster.edit(replicas=replicas)
        cluster.settle()
    assert cluster.shares == {cluster.first: 1000}
    cluster.edit(model=source)
    cluster.settle()
    assert cluster.shares == {new: 100, cluster.first: 900}
