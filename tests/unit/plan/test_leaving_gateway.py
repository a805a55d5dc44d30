"""Who leaves the namespace's gateway while nothing, or not all, can be done for the spec: it is told once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pilotboat.plan import build
from pilotboat.plan.types import Ref
from unit.plan.cluster import Cluster
from unit.plan.world import NAMESPACE, condition

CLAIM = build.claim(NAMESPACE, "models")
ROUTE = build.config_map(NAMESPACE, "chat-route")
EDGE = {"traffic": "HTTPRoute", "routing": {"gateway": {"name": "edge"}}}


def served(**routing: Any) -> Cluster:
    cluster = Cluster()
    cluster.references = {CLAIM: {"kind": "PersistentVolumeClaim"}}
    cluster.edit(model={"source": {"pvc": {"claimName": "models"}}})
    assert cluster.settle()
    assert ROUTE in cluster.objects
    cluster.edit(**routing)
    return cluster


def told(cluster: Cluster) -> list[str]:
    """Events of ten minutes in which nothing else happens."""
    before = len(cluster.events)
    for _ in range(20):
        cluster.now += timedelta(seconds=30)
        cluster.carry_out(cluster.plan())
        cluster.follow()
    return [event.reason for event in cluster.events[before:] if event.reason in ("LeavingGateway", "GatewayStarting")]


@pytest.mark.parametrize(("routing", "then"), [({"traffic": "Direct"}, []), (EDGE, ["GatewayStarting"])])
def test_where_a_source_is_gone_the_route_goes_all_the_same(routing: Any, then: list[str]) -> None:
    cluster = served(**routing)
    cluster.references = {CLAIM: None}
    assert told(cluster) == ["LeavingGateway", *then]
    assert ROUTE not in cluster.objects
    service = cluster.objects[Ref("v1", "Service", NAMESPACE, "chat")]
    assert service["spec"]["selector"]["app.kubernetes.io/component"] == "server"


@pytest.mark.parametrize("routing", [{"traffic": "Direct"}, EDGE])
def test_where_a_spec_is_invalid_the_route_stays_and_is_told_no_more(routing: Any) -> None:
    cluster = served(**routing)
    cluster.carry_out(cluster.plan())
    cluster.edit(inference={"batchSize": -1})
    assert told(cluster) == []
    assert ROUTE in cluster.objects
    assert condition(cluster.parent["status"], "GatewayReady")["reason"] == "LeavingGateway"
