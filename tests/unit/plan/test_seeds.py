"""The cache in a pod, and the seeds that bring a model to the nodes where replicas may land."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.api.cache import Cache
from pilotboat.plan import caching
from pilotboat.plan.build import dig
from pilotboat.plan.seeds import SEED
from pilotboat.plan.types import Event, Ref
from unit.plan.cluster import Cluster
from unit.plan.world import Pod, Raw, deployment_spec

NODE = {"type": "Node", "path": "/var/lib/models"}
HUB = {"huggingFace": {"repo": "demo/tiny"}}


def cached(cluster: Cluster, cache: Raw, **changes: Any) -> Cluster:
    """The cluster's model with that cache, from a hub."""
    cluster.edit(model={"source": HUB, "cache": cache}, **changes)
    return cluster


def sets(cluster: Cluster) -> dict[str, Raw]:
    return {ref.name: raw for ref, raw in cluster.objects.items() if ref.kind == "DaemonSet"}


def pods(cluster: Cluster) -> Raw:
    (deployment,) = cluster.deployments
    spec: Raw = deployment["spec"]["template"]["spec"]
    return spec


def fetch_config(cluster: Cluster) -> Raw:
    (made,) = (raw for raw in cluster.objects.values() if raw["kind"] == "ConfigMap" and "fetch.json" in raw["data"])
    found: Raw = json.loads(made["data"]["fetch.json"])
    return found


def condition(cluster: Cluster) -> tuple[str, str, str] | None:
    found = next((c for c in cluster.parent["status"]["conditions"] if c["type"] == "CacheSeeded"), None)
    return (found["status"], found["reason"], found["message"]) if found else None


def seed(cluster: Cluster, nodes: int, ready: int) -> None:
    """What the DaemonSet controller reports."""
    for raw in sets(cluster).values():
        known = {"observedGeneration": raw["metadata"]["generation"]}
        raw["status"] = known | {"desiredNumberScheduled": nodes, "numberReady": ready}


@pytest.mark.parametrize(
    ("cache", "volume", "place"),
    [
        (
            NODE | {"size": "200Gi"},
            {"hostPath": {"path": "/var/lib/models", "type": "DirectoryOrCreate"}},
            {"path": "/cache", "size": 200 << 30, "keepFree": 20},
        ),
        (
            {"type": "Node", "claimName": "nodes", "keepFree": 5},
            {"persistentVolumeClaim": {"claimName": "nodes"}},
            {"path": "/cache", "keepFree": 5},
        ),
        (
            {"type": "PersistentVolumeClaim", "claimName": "models"},
            {"persistentVolumeClaim": {"claimName": "models"}},
            {"path": "/cache", "keepFree": 0},
        ),
    ],
)
def test_a_cache_is_a_volume_and_a_place_that_fetch_is_told_of(cache: Raw, volume: Raw, place: Raw) -> None:
    kept = caching.kept(Cache.model_validate(cache))
    assert kept
    assert kept.volume == {"name": "cache", **volume}
    assert kept.place.wire() == place


def test_fetch_writes_the_cache_and_the_server_only_reads_it() -> None:
    cluster = cached(Cluster(replicas=1), NODE)
    cluster.settle()
    spec = pods(cluster)
    mounts = [
        next(mount for mount in container["volumeMounts"] if mount["name"] == "cache")
        for container in (spec["initContainers"][0], spec["containers"][0])
    ]
    assert mounts == [
        {"name": "cache", "mountPath": "/cache"},
        {"name": "cache", "mountPath": "/cache", "readOnly": True},
    ]
    assert fetch_config(cluster)["cache"] == {"path": "/cache", "keepFree": 20}


def test_without_a_cache_pods_are_what_they_were() -> None:
    """An upgrade of the operator must not roll everybody's pods."""
    cluster = Cluster(replicas=1)
    cluster.settle()
    assert not any(volume["name"] == "cache" for volume in pods(cluster)["volumes"])
    assert "cache" not in fetch_config(cluster)
    assert (sets(cluster), condition(cluster)) == ({}, None)
    assert "cache" not in cluster.parent["status"]


def test_seeds_begin_when_a_replica_has_shown_that_the_model_can_be_had() -> None:
    cluster = cached(Cluster(replicas=1), NODE)
    while "fetching" not in {stage for stage, _ in cluster.pods.values()}:
        cluster.carry_out(cluster.plan())
        cluster.follow()
    cluster.carry_out(cluster.plan())
    assert sets(cluster) == {}
    assert condition(cluster) == ("False", "Seeding", "a replica fetches the model first")
    cluster.settle()
    (made,) = sets(cluster).values()
    assert made["metadata"]["ownerReferences"][0]["name"] == "chat"
    assert condition(cluster) == ("False", "Seeding", "0 of 0 nodes that replicas may be on have the model")
    seed(cluster, 3, 2)
    cluster.settle()
    assert condition(cluster) == ("False", "Seeding", "2 of 3 nodes that replicas may be on have the model")
    ready = next(c for c in cluster.parent["status"]["conditions"] if c["type"] == "Ready")
    assert ready["status"] == "True", "nobody waits for seeds"
    seed(cluster, 3, 3)
    cluster.settle()
    assert condition(cluster) == ("True", "Seeded", "all 3 nodes that replicas may be on have the model")
    assert cluster.parent["status"]["cache"] == {"nodes": 3, "seeded": 3}
    assert Event("Normal", "Seeded", "all 3 nodes that replicas may be on have the model") in cluster.events
    assert cluster.parent["status"]["effective"]["model"]["cache"] == NODE | {"seed": True, "keepFree": 20}


def test_a_seed_is_a_replicas_pod_without_its_server() -> None:
    chosen = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": []}]}}
    template = {
        "nodeSelector": {"pool": "gpus"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"nodeAffinity": chosen, "podAntiAffinity": {}},
        "resources": {"requests": {"memory": "30Gi"}, "limits": {"memory": "30Gi"}},
        "priorityClassName": "high",
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    }
    cluster = cached(Cluster(replicas=1), NODE, podTemplate=template, gpu={"count": 2})
    cluster.settle()
    (made,) = sets(cluster).values()
    spec, server = made["spec"]["template"]["spec"], pods(cluster)
    (fetch,), (hold,) = spec["initContainers"], spec["containers"]
    assert fetch["image"] == hold["image"] == server["initContainers"][0]["image"]
    assert fetch["args"][-1] == "--only-cached"
    assert hold["args"][-1] == "--hold"
    assert fetch["env"] == server["initContainers"][0]["env"]
    assert "env" not in hold, "what holds files needs no token"
    assert {mount["name"] for mount in fetch["volumeMounts"]} == {"config", "models", "tmp", "cache"}
    assert all(mount.get("readOnly") for mount in hold["volumeMounts"] if mount["name"] != "tmp")
    assert spec["nodeSelector"] == {"pool": "gpus"}
    assert spec["affinity"] == {"nodeAffinity": chosen}
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["spot", "nvidia.com/gpu"]
    assert "priorityClassName" not in spec
    for container in (fetch, hold):
        assert not any("gpu" in key for key in container["resources"]["limits"])
        assert container["resources"]["requests"]["memory"] in ("64Mi", "32Mi")
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["securityContext"] == server["securityContext"]


def test_no_selector_of_a_replica_has_a_seed() -> None:
    cluster = cached(Cluster(replicas=2), NODE)
    cluster.settle()
    (made,) = sets(cluster).values()
    marks = made["spec"]["template"]["metadata"]["labels"]
    assert made["spec"]["selector"]["matchLabels"].items() <= marks.items()
    assert labels.REVISION not in marks
    for raw in cluster.objects.values():
        if raw["kind"] in ("Deployment", "PodDisruptionBudget"):
            assert not raw["spec"]["selector"]["matchLabels"].items() <= marks.items()


def test_pods_of_seeds_are_no_replicas() -> None:
    cluster = cached(Cluster(replicas=1), NODE)
    cluster.settle()
    before = cluster.parent["status"]
    (name,) = sets(cluster)
    revision = before["updateRevision"]
    pod = Pod(f"{name}-x", component=SEED)
    pod.raw["metadata"]["labels"][labels.SEED] = revision
    cluster.pods[f"{name}-x"] = ("serving", pod.serving())
    cluster.carry_out(cluster.plan())
    assert {**cluster.parent["status"]} == {**before}


def test_what_keeps_a_seed_from_its_node_is_told_with_the_node() -> None:
    cluster = cached(Cluster(replicas=1), NODE)
    cluster.settle()
    (name,) = sets(cluster)
    seed(cluster, 3, 2)
    pod = Pod(f"{name}-x", component=SEED).placed()
    pod.raw["metadata"]["labels"][labels.SEED] = cluster.parent["status"]["updateRevision"]
    report = json.dumps({"pilotboat": 1, "reason": "DiskFull", "message": "no room left"})
    pod.container("fetch", {"terminated": {"exitCode": 1, "reason": "Error", "message": report}})
    cluster.pods[f"{name}-x"] = ("fetching", pod)
    cluster.carry_out(cluster.plan())
    told = condition(cluster)
    assert told
    assert told[:2] == ("False", "DiskFull")
    assert told[2].startswith("2 of 3 nodes that replicas may be on have the model; node node-1: ")


def test_a_new_revisions_seeds_take_over_when_the_old_ones_replicas_are_gone() -> None:
    cluster = cached(Cluster(replicas=1), NODE)
    cluster.settle()
    (old,) = sets(cluster)
    cluster.edit(inference={"maxLength": 4096})
    seen = []
    for _ in range(40):
        cluster.follow()
        cluster.carry_out(cluster.plan())
        seen.append(set(sets(cluster)))
    (new,) = sets(cluster)
    assert new != old
    assert {old, new} in seen, "while both have replicas each has its model on all nodes"


@pytest.mark.parametrize(
    "change",
    [{"model": {"source": HUB, "cache": NODE | {"seed": False}}}, {"model": {"source": HUB}}],
    ids=["no seeds", "no cache"],
)
def test_seeds_that_are_not_asked_for_any_more_go(change: Raw) -> None:
    cluster = cached(Cluster(replicas=1), NODE)
    cluster.settle()
    assert sets(cluster)
    before = [raw["metadata"]["name"] for raw in cluster.deployments]
    cluster.edit(**change)
    cluster.settle()
    assert (sets(cluster), condition(cluster)) == ({}, None)
    same = [raw["metadata"]["name"] for raw in cluster.deployments] == before
    assert same is ("cache" in change["model"]), "to seed or not changes no pod"


def test_while_nothing_is_wanted_the_nodes_keep_the_model() -> None:
    cluster = cached(Cluster(replicas=1), NODE)
    cluster.settle()
    (name,) = sets(cluster)
    cluster.edit(replicas=0)
    cluster.settle()
    assert list(sets(cluster)) == [name]


def test_what_is_pushed_while_nothing_is_wanted_takes_no_model_from_the_nodes() -> None:
    cluster = cached(Cluster(replicas=1), NODE, rollout={"history": 1})
    cluster.settle()
    (first,) = sets(cluster)
    cluster.edit(replicas=0)
    cluster.settle()
    cluster.edit(inference={"maxLength": 4096})
    cluster.settle()
    assert list(sets(cluster)) == [first]
    for length in (2048, 1024):
        cluster.edit(inference={"maxLength": length})
        cluster.settle()
    assert sets(cluster) == {}, "a seed of a revision that is not kept has no configuration"
    cluster.edit(replicas=1)
    cluster.settle()
    (last,) = sets(cluster)
    assert last.split("-")[1] == cluster.parent["status"]["currentRevision"]


def test_where_the_revision_asked_for_was_given_up_those_of_stable_are_told_of() -> None:
    off = {"errors": {"enabled": False}, "firstToken": {"enabled": False}, "perToken": {"enabled": False}}
    rollout = {"steps": [{"weight": 50, "hold": "1h"}], "analysis": off}
    cluster = cached(Cluster(replicas=2), NODE, rollout=rollout)
    cluster.settle()
    seed(cluster, 3, 3)
    cluster.settle()
    cluster.edit(inference={"maxLength": 4096})
    cluster.settle()
    assert len(sets(cluster)) == 2
    cluster.edit(rollout={**rollout, "action": {"verb": "Abort", "id": "a"}})
    cluster.settle()
    assert len(sets(cluster)) == 1
    assert condition(cluster) == ("True", "Seeded", "all 3 nodes that replicas may be on have the model")
    before = len(cluster.events)
    cluster.edit(rollout={**rollout, "rollbackTo": "deadbeef"})
    cluster.settle()
    assert condition(cluster) == ("True", "Seeded", "all 3 nodes that replicas may be on have the model")
    cluster.edit(rollout=rollout)
    cluster.settle()
    assert not [event for event in cluster.events[before:] if event.reason in ("Seeded", "Seeding")]


@pytest.mark.parametrize(
    "before", [{}, {"cache": {"type": "PersistentVolumeClaim", "claimName": "models"}}], ids=["no cache", "a claim"]
)
def test_a_return_to_a_revision_without_a_cache_on_nodes_has_no_seeds(before: Raw) -> None:
    cluster = Cluster(replicas=1)
    cluster.references = {Ref("v1", "PersistentVolumeClaim", "ml", "models"): {"kind": "PersistentVolumeClaim"}}
    cluster.edit(model={"source": HUB, **before})
    cluster.settle()
    first = cluster.parent["status"]["currentRevision"]
    cached(cluster, NODE)
    cluster.settle()
    assert sets(cluster)
    cluster.edit(rollout={"rollbackTo": first})
    cluster.settle()
    assert (sets(cluster), condition(cluster)) == ({}, None)
    assert "cache" not in cluster.parent["status"]


def test_a_tuned_model_on_a_claim_has_no_seeds() -> None:
    cluster = Cluster(replicas=1)
    output = {"type": "Model", "claimName": "qa-output", "path": "qa/model", "digests": {}}
    job = {"metadata": {"name": "qa"}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    job["status"]["output"] = output
    cluster.references = {Ref("pilotboat.dev/v1alpha1", "FineTuneJob", "ml", "qa"): job}
    cluster.edit(model={"source": {"fineTuneJob": {"name": "qa"}}, "cache": NODE})
    cluster.settle()
    assert cluster.parent["status"]["currentRevision"]
    assert (sets(cluster), condition(cluster)) == ({}, None)


def test_on_the_way_back_to_an_earlier_revision_its_own_pods_are_the_pattern() -> None:
    cluster = cached(Cluster(replicas=1), NODE)
    cluster.settle()
    (first,) = sets(cluster)
    template = sets(cluster)[first]["spec"]["template"]
    cluster.edit(inference={"maxLength": 4096})
    cluster.settle()
    cluster.edit(rollout={"rollbackTo": first.split("-")[1]})
    cluster.settle()
    assert list(sets(cluster)) == [first]
    assert sets(cluster)[first]["spec"]["template"] == template


def test_a_claim_that_is_shared_needs_no_seeds() -> None:
    cluster = cached(Cluster(replicas=1), NODE)
    claim = Ref("v1", "PersistentVolumeClaim", "ml", "models")
    cluster.edit(model={"source": HUB, "cache": {"type": "PersistentVolumeClaim", "claimName": "models"}})
    blocked = cluster.plan()
    assert any(c["reason"] == "PersistentVolumeClaimNotFound" for c in dig(blocked.status, "conditions"))
    cluster.references = {claim: {"kind": "PersistentVolumeClaim"}}
    cluster.settle()
    assert sets(cluster) == {}
    assert any(volume["name"] == "cache" for volume in pods(cluster)["volumes"])


def test_a_model_on_a_claim_is_not_kept_twice() -> None:
    spec = deployment_spec(model={"source": {"pvc": {"claimName": "c"}}, "cache": NODE})
    cluster = Cluster()
    cluster.parent["spec"] = spec
    found = cluster.plan().status
    assert any("served from there" in c["message"] for c in dig(found, "conditions") if c["type"] == "SpecValid")
