"""A cache of models on the lab: what was fetched once is had again, on every node, when its source is gone."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from lab import procs
from tests.e2e.conftest import MDEP, Space, direct, hub_pod

pytestmark = pytest.mark.e2e

FILES = {number: json.dumps({"model_type": "llama", "version": number}) for number in (1, 2)}
WRITE = "import os,sys; os.makedirs(sys.argv[1]); open(sys.argv[1]+'/config.json','w').write(sys.argv[2])"
SERVE = "exec python3 -m http.server --directory /volume 8000"


def file_server(space: Space) -> None:
    """Two models of one small file each, over HTTP."""
    writes = " && ".join(f"python3 -c \"{WRITE}\" /volume/{number} '{text}'" for number, text in FILES.items())
    server = {
        "name": "files",
        "image": hub_pod(space)["spec"]["containers"][0]["image"],
        "command": ["sh", "-ec", f"{writes} && {SERVE}"],
        "readinessProbe": {"httpGet": {"path": "/2/config.json", "port": 8000}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
    }
    identity = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "securityContext": identity,
        "containers": [server],
        "volumes": [{"name": "volume", "emptyDir": {}}],
    }
    meta = {"name": "files", "labels": {"app": "files"}}
    space.cluster.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}))
    ports = {"selector": {"app": "files"}, "ports": [{"port": 8000}]}
    space.cluster.apply(
        json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "files"}, "spec": ports})
    )
    space.cluster.run("wait", "pod/files", "--for=condition=Ready", "--timeout=300s")


def kept(space: Space, number: int) -> dict[str, Any]:
    """A spec that serves one of the two, by way of a cache. All nodes of the lab share this machine's disk."""
    url = f"http://files.{space.cluster.namespace}.svc:8000/{number}/config.json"
    source = {"http": {"urls": [url], "sha256": hashlib.sha256(FILES[number].encode()).hexdigest()}}
    return direct(model={"source": source, "cache": {"type": "Node", "claimName": "nodes", "keepFree": 0}})


def test_a_model_is_on_every_node_and_an_earlier_one_is_returned_to_when_their_source_is_gone(space: Space) -> None:
    space.apply("ModelDeployment", "cached", kept(space, 1))
    space.reason(MDEP, "cached", "ArtifactReady", "PersistentVolumeClaimNotFound")
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Mi"}}}
    raw = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "nodes"}, "spec": claim}
    space.cluster.apply(json.dumps(raw))
    file_server(space)
    space.wait(MDEP, "cached", "Ready")
    first = space.status(MDEP, "cached")["currentRevision"]
    space.wait(MDEP, "cached", "CacheSeeded")
    assert space.status(MDEP, "cached")["cache"] == {"nodes": 3, "seeded": 3}
    seeds = [pod for pod in space.pods("cached") if pod["metadata"]["labels"].get("pilotboat.dev/seed") == first]
    assert len({pod["spec"]["nodeName"] for pod in seeds}) == 3
    assert space.status(MDEP, "cached")["replicas"] == 1, "a seed is no replica"
    space.apply("ModelDeployment", "cached", kept(space, 2))
    procs.wait_until(
        lambda: space.status(MDEP, "cached").get("currentRevision") not in (first, None),
        what="The second model, rolled out",
        timeout=300,
    )
    space.gone("daemonset/cached-" + first + "-seed")

    space.cluster.run("delete", "pod/files", "service/files", "--wait")
    space.cluster.run(
        "patch", MDEP, "cached", "--type=merge", f'-p={{"spec":{{"rollout":{{"rollbackTo":"{first}"}}}}}}'
    )
    path = f"--for=jsonpath={{.status.currentRevision}}={first}"
    space.cluster.run("wait", f"{MDEP}/cached", path, "--timeout=300s")
    space.wait(MDEP, "cached", "Ready")
    told = next(c for c in space.status(MDEP, "cached")["conditions"] if c["type"] == "ArtifactReady")
    assert "from the cache" in told["message"]
    space.wait(MDEP, "cached", "CacheSeeded")

    (replica,) = [pod for pod in space.pods("cached") if pod["metadata"]["labels"].get("pilotboat.dev/revision")]
    space.cluster.run("delete", "pod", replica["metadata"]["name"], "--wait")
    space.wait(MDEP, "cached", "Ready")
    (other,) = [pod for pod in space.pods("cached") if pod["metadata"]["labels"].get("pilotboat.dev/revision")]
    assert other["metadata"]["uid"] != replica["metadata"]["uid"]
    log = space.cluster.run("logs", other["metadata"]["name"], "--container=fetch")
    assert "from the cache" in log
