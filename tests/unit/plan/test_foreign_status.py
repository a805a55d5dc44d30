"""A status that others have written into: what cannot be read counts as not there, and nothing ends for it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from pilotboat.plan import PLANNERS
from pilotboat.plan.types import Observed, Plan
from unit.plan.cluster import Cluster
from unit.plan.test_course import Canary
from unit.plan.test_recovery import World
from unit.plan.world import SETTINGS, Raw

PLANNER = PLANNERS["modeldeployments"]
WORDS = ("garbage", "2026-05-01T12:00:00")
"""The last is a time without its zone."""

NUMBERS = (-5, 10**9)


def canary() -> Cluster:
    """With evidence, a decision and outcomes."""
    cluster = Canary(replicas=3)
    new = cluster.push(7)
    cluster.settle()
    cluster.posts = {new: {"good": 3}, cluster.first: {"good": 9}}
    cluster.minute()
    cluster.minute()
    assert cluster.status["rollout"]["decision"]
    assert cluster.status["rollout"]["outcomes"]
    return cluster


def overtaken() -> Cluster:
    """On its way out, with spares that make room."""
    cluster = canary()
    cluster.edit(inference={"batchSize": 3})
    cluster.carry_out(cluster.plan())
    cluster.edit(zones={"spare": 1})
    cluster.parent["status"]["sparesLent"] = cluster.time
    return cluster


def lost() -> Cluster:
    cluster = World()
    cluster.lost = cluster.dead = {"n1"}
    for _ in range(30):
        cluster.carry_out(cluster.plan())
        cluster.follow()
    assert cluster.parent["status"]["recovery"]["nodes"]
    assert cluster.parent["status"]["zones"]
    return cluster


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    parts: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from leaves(part, (*path, key))
    if not isinstance(value, dict | list):
        yield path, value


def spoiled(status: Raw) -> Iterator[tuple[tuple[str | int, ...], Raw]]:
    """The status with one value after the other replaced, of those in lists the first."""
    for path, value in leaves(status):
        named = path[-1] in ("canary", "stable")  # another revision's name is a rollout of that one
        if named or path[0] == "effective" or any(isinstance(key, int) and key for key in path):
            continue
        instead: tuple[Any, ...] = WORDS if isinstance(value, str) else ()
        instead = NUMBERS if isinstance(value, int) and not isinstance(value, bool) else instead
        for other in instead:
            made = copy.deepcopy(status)
            place: Any = made
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = other
            yield path, made


def passed(seen: Observed, status: Raw, cluster: Cluster) -> Plan:
    found = dataclasses.replace(seen, parent={**seen.parent, "status": status})
    PLANNER.wants_evidence(found.parent)
    PLANNER.asks(found.parent)
    PLANNER.references(found.parent)
    return PLANNER.plan(found, SETTINGS, cluster.now)


@pytest.mark.parametrize("begun", [canary, overtaken, lost])
def test_no_value_in_a_status_ends_a_plan(begun: Any) -> None:
    cluster = begun()
    seen = cluster.observed
    for path, status in spoiled(cluster.parent["status"]):
        try:
            made = passed(seen, status, cluster)
        except Exception as error:
            raise AssertionError(path) from error
        assert made.status is not None
