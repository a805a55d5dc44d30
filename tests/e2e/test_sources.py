"""Where a model comes from, on the lab: a repository that asks for a token, plain HTTP with mirrors, a volume."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.e2e.conftest import GATED, MDEP, TOKEN, Space, direct, hub_pod
from tools import demo, hubpod

pytestmark = pytest.mark.e2e

WRITE = "import json; json.dump({'model_type': 'llama'}, open('/volume/models/small/config.json', 'w'))"


def served_from(source: dict[str, Any]) -> dict[str, Any]:
    """A ModelDeployment's spec with that source."""
    return direct(model={"source": source})


def test_a_gated_repository_asks_for_a_token_and_keeps_it_secret(space: Space) -> None:
    gated = {"repo": GATED, "files": ["config.json"]}
    space.apply("ModelDeployment", "gated", served_from({"huggingFace": gated}))
    assert GATED in space.reason(MDEP, "gated", "ArtifactReady", "HubAuthFailed")
    space.cluster.run("create", "secret", "generic", "hub", f"--from-literal=token={TOKEN}")
    space.apply("ModelDeployment", "gated", served_from({"huggingFace": gated | {"tokenSecretRef": {"name": "hub"}}}))
    space.wait(MDEP, "gated", "Ready")
    everything = space.cluster.run("get", f"{MDEP},pods,configmaps,events,deployments", "--output=json")
    assert GATED in everything
    assert TOKEN not in everything
    (pod,) = space.pods("gated")
    for container in ("fetch", "server"):
        assert TOKEN not in space.cluster.run("logs", pod["metadata"]["name"], f"--container={container}")


def test_a_file_over_http_comes_from_the_mirror_where_the_first_has_none(space: Space) -> None:
    pod = hub_pod(space)
    config = space.cluster.run(
        "exec", f"-n{demo.DEMO}", pod["metadata"]["name"], "--", "cat", "/data/demo/tiny/config.json"
    )
    base = f"http://hub.{demo.DEMO}.svc:{hubpod.PORT}"
    urls = [f"{base}/nowhere/config.json", f"{base}/demo/tiny/resolve/main/config.json"]
    right = hashlib.sha256(config.encode()).hexdigest()
    space.apply("ModelDeployment", "plain", served_from({"http": {"urls": urls, "sha256": "0" * 64}}))
    assert right in space.reason(MDEP, "plain", "ArtifactReady", "ChecksumMismatch")
    space.apply("ModelDeployment", "plain", served_from({"http": {"urls": urls, "sha256": right}}))
    space.wait(MDEP, "plain", "Ready")
    assert space.status(MDEP, "plain")["model"]["digests"] == {"config.json": right}


def test_a_model_on_a_volume_is_served_from_it(space: Space) -> None:
    space.apply("ModelDeployment", "kept", served_from({"pvc": {"claimName": "models", "path": "models/small"}}))
    space.reason(MDEP, "kept", "ArtifactReady", "PersistentVolumeClaimNotFound")
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Mi"}}}
    meta = {"name": "models"}
    space.cluster.apply(
        json.dumps({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": claim})
    )
    writer = {
        "name": "writer",
        "image": hub_pod(space)["spec"]["containers"][0]["image"],
        "command": ["sh", "-ec", f'mkdir -p /volume/models/small; python3 -c "{WRITE}"'],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
    }
    spec = {
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [writer],
        "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": "models"}}],
    }
    space.cluster.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"}, "spec": spec}))
    space.cluster.run("wait", "pod/writer", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s")
    space.wait(MDEP, "kept", "Ready")
    (pod,) = space.pods("kept")
    (volume,) = [each for each in pod["spec"]["volumes"] if "persistentVolumeClaim" in each]
    assert volume["persistentVolumeClaim"]["readOnly"] is True
