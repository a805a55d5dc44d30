"""Who has copies of stable's requests, through the whole planner: a canary while it is judged, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pilotboat.api.model_deployment import ModelDeploymentSpec
from pilotboat.api.routing import Copies, Route
from unit.plan.test_course import STEPS, Canary
from unit.plan.test_gates import LOAD, OFF, QUALITY, load, measured
from unit.plan.test_http_route import EDGE
from unit.plan.world import Raw, deployment_spec, parent

MIRROR = {"mirror": {"percent": 30}}
NOBODY = Copies(percent=30)


def mirrored(**rollout: Any) -> Canary:
    cluster = Canary(**rollout)
    cluster.edit(routing=MIRROR)
    assert cluster.settle()
    return cluster


def copies(cluster: Canary) -> Copies | None:
    raw = next(raw for ref, raw in cluster.objects.items() if ref.name == "chat-route")
    return Route.load(raw["data"]["route.json"]).copies


def act(cluster: Canary, verb: str) -> None:
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "action": {"verb": verb, "id": verb}})
    cluster.settle()


def test_a_canary_has_copies_in_half_its_slots_once_it_has_users_too() -> None:
    cluster = mirrored(analysis={**OFF, **QUALITY})
    assert copies(cluster) == NOBODY
    assert cluster.status["currentRevision"] == cluster.first, "it makes no new revision"
    new = cluster.push(7)
    cluster.settle()
    assert (copies(cluster), cluster.shares) == (Copies(percent=30, revision=new, room=7), {cluster.first: 1000})
    act(cluster, "Skip")
    assert (copies(cluster), cluster.shares[new]) == (Copies(percent=30, revision=new, room=3), 100)


@pytest.mark.parametrize("verb", ["Abort", "Promote"])
def test_a_canary_that_is_judged_no_more_has_none(verb: str) -> None:
    cluster = mirrored(onFailure="Pause")
    new = cluster.push(7)
    cluster.settle()
    assert copies(cluster) == Copies(percent=30, revision=new, room=3)
    act(cluster, verb)
    assert copies(cluster) == NOBODY


def test_the_load_gate_measures_its_own_load_alone() -> None:
    cluster = mirrored(analysis={**OFF, **LOAD})
    new = cluster.push(7)
    cluster.settle()
    assert copies(cluster) == NOBODY
    measured(cluster, f"chat-{new}-load", load(new, 400))
    assert copies(cluster) == Copies(percent=30, revision=new, room=3)


def test_who_does_not_ask_for_copies_has_nothing_of_them_in_the_route() -> None:
    raw = next(raw for ref, raw in Canary().objects.items() if ref.name == "chat-route")
    assert "copies" not in raw["data"]["route.json"]


@pytest.mark.parametrize(
    "spec",
    [
        {"routing": MIRROR},
        {"routing": MIRROR, "traffic": "Direct"},
        {"routing": {**MIRROR, "gateway": EDGE}, "traffic": "HTTPRoute", "rollout": {"steps": STEPS}},
    ],
    ids=["no canary", "past the gateway", "another gateway"],
)
def test_where_nothing_would_be_copied_it_is_refused(spec: Raw) -> None:
    made = parent("ModelDeployment", "chat", deployment_spec(**spec))
    with pytest.raises(ValidationError, match=r"routing\.mirror needs traffic: Gateway"):
        ModelDeploymentSpec.model_validate(made["spec"])
