"""A cluster of one node, on a real API server: there is nowhere else, which is said, and nothing is made by the dozen.

The kubelet is ours, and so is what Kubernetes says of a node that it does not hear of.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.engine.kinds import DEPLOYMENT, MODEL_DEPLOYMENT, NODE, POD
from pilotboat.plan.build import condition
from pilotboat.plan.types import Ref
from tests.integration.cluster import Cluster
from tests.integration.running import operator
from tests.integration.test_budgets import running_pod
from tests.integration.test_lost_node import bound

Raw = dict[str, Any]
NAME = "the-only-one"
META: Raw = {"name": NAME, "labels": {"topology.kubernetes.io/zone": "zone-1"}}


async def hears(cluster: Cluster, status: str) -> None:
    """What Kubernetes says of the node, and with it of all pods there."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = {"type": "Ready", "status": status, "lastTransitionTime": now, "message": "Kubelet stopped posting"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}, "status": {"conditions": [said]}}
    await cluster.api.apply(node, "kubelet", subresource="status")
    for pod in await cluster.list(POD):
        told = running_pod(pod)
        ready = {"type": "Ready", "status": str(status == "True"), "lastTransitionTime": now}
        told["status"]["conditions"] = [ready]
        await cluster.apply(told, "kubelet", subresource="status")


@pytest.fixture
async def node(cluster: Cluster) -> AsyncIterator[None]:
    """The one of this cluster; other tests' have none."""
    made = await cluster.api.create(NODE, None, {"apiVersion": "v1", "kind": "Node", "metadata": META})
    await hears(cluster, "True")
    yield
    await cluster.api.delete(Ref.of(made), made["metadata"]["uid"])


async def until(cluster: Cluster, kind: str, status: str, *words: str) -> None:
    """Until a condition stands so, with these words as its reason or in its message."""

    def true(found: list[Raw]) -> bool:
        told = condition(found[0], kind) or {}
        said = f"{told.get('reason')}: {told.get('message')}"
        return told.get("status") == status and all(each in said for each in words)

    await cluster.until(MODEL_DEPLOYMENT, true)


@pytest.mark.usefixtures("node")
async def test_with_one_node_it_is_said_that_there_is_one_zone_and_nobody_stands_in(cluster: Cluster) -> None:
    source = {"huggingFace": {"repo": "org/model"}}
    spec = {"model": {"source": source}, "replicas": 2, "traffic": "Direct", "zones": {"spread": "Required"}}
    asked = {"apiVersion": labels.API_VERSION, "kind": "ModelDeployment", "metadata": {"name": "chat"}, "spec": spec}
    async with operator(cluster.configuration, cluster.namespace) as running:
        await cluster.apply(asked)
        for pod in await cluster.until(POD, lambda found: len(found) == 2):
            await bound(cluster, pod, NAME)
        await hears(cluster, "True")
        await until(cluster, "ZonesHealthy", "False", "SingleZone", "all 1 nodes are in the zone zone-1")
        await until(cluster, "Ready", "True")
        await hears(cluster, "Unknown")
        away, refused = "1 of 1 nodes are not heard of at once", "nothing is made in the place of 2 replicas"
        await until(cluster, "Ready", "False", "NodeLost", away, refused)
        await running.idle()
        (deployment,) = await cluster.list(DEPLOYMENT)
        assert deployment["spec"]["replicas"] == len(await cluster.list(POD)) == 2
        assert "standIns" not in (await cluster.get(MODEL_DEPLOYMENT, "chat"))["status"]["recovery"]
        await hears(cluster, "True")
        await until(cluster, "Ready", "True")
