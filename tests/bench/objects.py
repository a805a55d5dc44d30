"""What is created: ModelDeployments, and the very children the planner makes of them.

Owns: manifests. Must not know: who creates them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pilotboat.api import labels
from pilotboat.plan import PLANNERS
from pilotboat.plan.types import Observed, PlanSettings

Raw = dict[str, Any]
NAMESPACE = "bench"
SETTINGS = PlanSettings(
    server_image="localhost/pilotboat/server:latest",
    trainer_image="localhost/pilotboat/trainer:latest",
    fetch_image="localhost/pilotboat/fetch:latest",
    gateway_image="localhost/pilotboat/gateway:latest",
    image_pull_policy="IfNotPresent",
    image_pull_secrets=(),
    hub_endpoint=None,
    progress_url="https://localhost:8443",
    progress_ca="",
)


def name(number: int) -> str:
    """Of the custom resource."""
    return f"m{number:05d}"


def model_deployment(number: int) -> Raw:
    """One replica of a model that no kwok pod will ever fetch."""
    source = {"huggingFace": {"repo": "demo/gemma-3-270m", "files": ["*.gguf"]}}
    return {
        "apiVersion": labels.API_VERSION,
        "kind": "ModelDeployment",
        "metadata": {"name": name(number), "namespace": NAMESPACE},
        "spec": {"model": {"source": source}, "engine": {"type": "Fake"}, "replicas": 1},
    }


def children(number: int) -> list[Raw]:
    """What the planner asks for first, without the owner that a plain client does not have."""
    parent = model_deployment(number)
    parent["metadata"] |= {"uid": f"bench-{number}", "generation": 1, "resourceVersion": "1"}
    plan = PLANNERS["modeldeployments"].plan(Observed(parent), SETTINGS, datetime.now(UTC))
    return [_free(manifest) for manifest in plan.apply]


def _free(manifest: Raw) -> Raw:
    meta = {key: value for key, value in manifest["metadata"].items() if key != "ownerReferences"}
    return {**manifest, "metadata": meta}
