"""How many replicas of a ModelDeployment may be evicted, as by a drain.

Owns: its PodDisruptionBudget. Must not know: Deployments, how replicas are counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..api.model_deployment import ModelDeploymentSpec
from . import build, routes
from .build import Raw
from .routes import SERVER
from .types import Manifest

KIND = "PodDisruptionBudget"


def manifests(parent: Raw, spec: ModelDeploymentSpec, spares: int) -> list[Manifest]:
    """At least one less than is asked for serves; one that is not ready may always go, or it would block drains.

    Spares are there to be missed, and those that find no place must block no drain. `spares` are those that have one:
    of a single replica and its spare, one stays.
    """
    if spec.wanted < 2:
        return []
    name = parent["metadata"]["name"]
    body = {
        "minAvailable": spec.replicas - 1 or min(1, spares),
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": routes.selector(name)},
    }
    return [build.child(parent, SERVER, "policy/v1", KIND, name, {"spec": body})]


def surplus(parent: Raw, children: Iterable[Raw], spec: ModelDeploymentSpec) -> list[Raw]:
    """The budget, where none is wanted any more."""
    found = build.named(children, KIND, parent["metadata"]["name"])
    return [found] if found and spec.wanted < 2 else []
