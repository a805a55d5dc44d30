"""A FineTuneJob whose node is lost, on a real API server with the real Job controller; the kubelet is ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.engine.kinds import FINE_TUNE_JOB, JOB, POD, Kind
from pilotboat.plan.build import dig
from tests.integration.cluster import Cluster
from tests.integration.running import operator

Raw = dict[str, Any]
BINDING = Kind("v1", "Binding", "bindings")


def job(name: str) -> Raw:
    spec = {
        "base": {"source": {"huggingFace": {"repo": "org/base"}}},
        "dataset": {"source": {"huggingFace": {"repo": "org/rows"}}},
        "checkpoints": {"everySteps": 5, "volume": {"accessMode": "ReadWriteMany"}},
        "backoffLimit": 2,
    }
    return {"apiVersion": labels.API_VERSION, "kind": "FineTuneJob", "metadata": {"name": name}, "spec": spec}


async def bound(cluster: Cluster, pod: Raw, node: str) -> None:
    """As the scheduler does it."""
    name = pod["metadata"]["name"]
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
    await cluster.api.create(BINDING, cluster.namespace, body)


async def trains(cluster: Cluster, pod: Raw, ready: bool) -> None:
    """What kubelet says of a running trainer; not ready is what the node controller makes of it without kubelet."""
    since = (datetime.now(UTC) - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    state = {"ready": True, "restartCount": 0, "image": "i", "imageID": "", "state": {"running": {"startedAt": since}}}
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": since}],
        "containerStatuses": [{"name": "trainer", **state}],
    }
    meta = {"name": pod["metadata"]["name"]}
    raw = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": status}
    await cluster.apply(raw, "kubelet", subresource="status")


def leaving(raw: Raw) -> bool:
    return "deletionTimestamp" in raw["metadata"]


def says(kind: str, reason: str) -> Any:
    def true(found: list[Raw]) -> bool:
        conditions = dig(found[0], "status", "conditions") if found else None
        return any((c["type"], c["reason"]) == (kind, reason) for c in conditions or ())

    return true


async def test_a_lost_pod_is_replaced_and_never_killed_by_force(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace) as running:
        await cluster.apply(job("moved"))
        (first,) = await cluster.until(POD, lambda found: len(found) == 1)
        (old,) = await cluster.list(JOB)
        await bound(cluster, first, "node-that-is-cut-off")
        await trains(cluster, first, ready=True)
        await cluster.until(FINE_TUNE_JOB, says("Running", "Training"))
        await trains(cluster, first, ready=False)
        pods = await cluster.until(POD, lambda found: len(found) == 2 and any(map(leaving, found)))
        (new,) = await cluster.until(JOB, lambda found: found and found[0]["metadata"]["uid"] != old["metadata"]["uid"])
        assert new["metadata"]["name"] == old["metadata"]["name"]
        (ours, theirs) = sorted(pods, key=lambda pod: pod["metadata"]["name"] != first["metadata"]["name"])
        assert ours["metadata"]["deletionGracePeriodSeconds"] == 90, "it was asked to go, and is given its time"
        assert dig(theirs, "metadata", "ownerReferences", 0, "uid") == new["metadata"]["uid"]
        await running.idle()
        (told,) = await cluster.until(FINE_TUNE_JOB, lambda found: len(found[0]["status"]["attempts"]) == 2)
        attempts = told["status"]["attempts"]
        assert [(a["pod"], a.get("node"), a.get("reason")) for a in attempts] == [
            (first["metadata"]["name"], "node-that-is-cut-off", "NodeLost"),
            (theirs["metadata"]["name"], None, None),
        ]
        assert not {"Complete", "Failed"} & {c["type"] for c in told["status"]["conditions"]}
        await running.engine.recorder.flushed()
        assert len(await cluster.events("NodeLost")) == 1


@pytest.mark.parametrize("code", [75, 143])
async def test_a_pod_that_was_told_to_go_costs_no_retry(cluster: Cluster, code: int) -> None:
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(job("told"))
        (first,) = await cluster.until(POD, lambda found: len(found) == 1)
        await bound(cluster, first, "node-1")
        ended = {"exitCode": code, "reason": "Error", "finishedAt": "2026-05-01T12:00:00Z", "startedAt": None}
        state = {"ready": False, "restartCount": 0, "image": "i", "imageID": "", "state": {"terminated": ended}}
        status = {"phase": "Failed", "containerStatuses": [{"name": "trainer", **state}]}
        meta = {"name": first["metadata"]["name"]}
        raw = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": status}
        await cluster.apply(raw, "kubelet", subresource="status")
        await cluster.until(POD, lambda found: len(found) == 2)
        (live,) = await cluster.list(JOB)
        assert not live["status"].get("failed")
