"""What kstatus (Flux, kubectl, kpt) concludes from our status: its generic rules, over the life of a deployment."""

from __future__ import annotations

import pytest

from unit.plan.cluster import Cluster
from unit.plan.world import Raw


def kstatus(resource: Raw) -> str:
    """The rules of sigs.k8s.io/cli-utils pkg/kstatus for resources of which it knows nothing."""
    meta, status = resource["metadata"], resource.get("status", {})
    if "deletionTimestamp" in meta:
        return "Terminating"
    if status.get("observedGeneration", meta["generation"]) != meta["generation"]:
        return "InProgress"
    conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"


def settled() -> Cluster:
    cluster = Cluster(replicas=2)
    cluster.carry_out(cluster.plan())
    assert kstatus(cluster.parent) == "InProgress"
    assert cluster.settle()
    assert kstatus(cluster.parent) == "Current"
    return cluster


@pytest.mark.parametrize("change", [{"inference": {"batchSize": 9}}, {"replicas": 4}, {"replicas": 1}])
def test_an_edit_is_in_progress_until_it_is_whole(change: Raw) -> None:
    cluster = settled()
    cluster.edit(**change)
    assert kstatus(cluster.parent) == "InProgress"
    for _ in range(40):
        cluster.carry_out(cluster.plan())
        if kstatus(cluster.parent) == "Current":
            break
        cluster.follow()
    assert kstatus(cluster.parent) == "Current"
    (deployment,) = (d for d in cluster.deployments if d["spec"]["replicas"])
    assert len(cluster.pods_of(deployment)) == cluster.parent["spec"]["replicas"]
    assert all(cluster.serves(name) for name in cluster.pods_of(deployment))


def test_an_edit_that_changes_no_pod_is_current_at_the_next_pass() -> None:
    cluster = settled()
    cluster.edit(service={"port": 9999})
    assert kstatus(cluster.parent) == "InProgress"
    cluster.carry_out(cluster.plan())
    assert kstatus(cluster.parent) == "Current"


@pytest.mark.parametrize(
    "change", [{"inference": {"batchSize": 0}}, {"model": {"source": {"pvc": {"claimName": "w"}}}}]
)
def test_what_cannot_be_served_is_never_current_while_the_old_revision_serves(change: Raw) -> None:
    cluster = settled()
    cluster.edit(**change)
    cluster.settle(rounds=10)
    assert kstatus(cluster.parent) == "InProgress"
    assert cluster.parent["status"]["readyReplicas"] == 2


def test_a_broken_revision_is_never_current() -> None:
    cluster = settled()
    cluster.edit(engine={"image": "broken"})
    cluster.broken.add((cluster.plan().status or {})["updateRevision"])
    cluster.settle(rounds=20)
    assert kstatus(cluster.parent) == "InProgress"
    assert cluster.parent["status"]["ready"] == "2/2"


def test_a_dying_pod_shows_and_heals() -> None:
    cluster = settled()
    cluster.kill(next(iter(cluster.pods)))
    cluster.carry_out(cluster.plan())
    assert kstatus(cluster.parent) == "InProgress"
    assert cluster.settle()
    assert kstatus(cluster.parent) == "Current"


def test_a_resource_on_its_way_out() -> None:
    cluster = settled()
    cluster.parent["metadata"]["deletionTimestamp"] = cluster.time
    assert kstatus(cluster.parent) == "Terminating"
