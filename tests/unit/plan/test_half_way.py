"""A canary that is asked for while an update without steps is half way: nothing that serves goes before its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from unit.plan.test_course import STEPS, Canary
from unit.plan.world import types


def half_way_back() -> tuple[Canary, dict[str, Any]]:
    """A return to the first revision, of which some replicas serve already; and spec.rollout without it."""
    cluster = Canary(replicas=4)
    cluster.push(7)
    cluster.settle()
    rollout = cluster.parent["spec"]["rollout"]
    cluster.edit(rollout={**rollout, "action": {"verb": "Promote", "id": "1"}})
    assert cluster.settle()
    cluster.edit(rollout={**rollout, "rollbackTo": cluster.first})
    while cluster.replicas.get(cluster.first, 0) < 3:
        cluster.carry_out(cluster.plan())
        cluster.follow()
    return cluster, rollout


def half_way() -> tuple[Canary, dict[str, Any]]:
    """A new revision without steps, of which some replicas serve already; and a spec.rollout that has steps."""
    cluster = Canary(replicas=4)
    rollout = cluster.parent["spec"]["rollout"]
    cluster.edit(rollout={}, inference={"batchSize": 7})
    while sum(cluster.replicas.get(name, 0) for name in cluster.replicas if name != cluster.first) < 3:
        cluster.carry_out(cluster.plan())
        cluster.follow()
    return cluster, rollout


@pytest.mark.parametrize("begun", [half_way_back, half_way])
@pytest.mark.parametrize("size", [7, 3], ids=["the same", "another"])
def test_what_serves_goes_as_stable_takes_it_up_and_then_the_canary_begins(
    begun: Callable[[], tuple[Canary, dict[str, Any]]], size: int
) -> None:
    cluster, rollout = begun()
    cluster.edit(rollout=rollout, inference={"batchSize": size})
    fewest, steps = 4, set()
    for _ in range(60):
        cluster.carry_out(cluster.plan())
        cluster.follow()
        fewest = min(fewest, sum(map(cluster.serves, cluster.pods)))
        steps.add((cluster.status.get("rollout") or {}).get("weight"))
    assert fewest == 4
    stable = cluster.status["currentRevision"]
    if cluster.status["updateRevision"] == stable:
        assert types(cluster.status)["Ready"] == "True"
    else:
        assert max(weight for weight in steps if weight is not None) == STEPS[0]["weight"]
        assert cluster.replicas[stable] == 4
