"""Why pods of a namespace do not start, in kubelet's words: helm and `kubectl rollout` say only that time is over.

Owns: which words are told. Must not know: whose pods they are. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tools.kube import Cluster
from tools.steps import StepFailed

YOUNG = {"ContainerCreating", "PodInitializing"}


@contextmanager
def told(cluster: Cluster, namespace: str) -> Iterator[None]:
    """A step that failed while a pod there cannot start fails with that."""
    try:
        yield
    except StepFailed as failure:
        listed = cluster.within(namespace).run("get", "pods", "--output=json")
        if why := waiting(json.loads(listed)["items"]):
            raise StepFailed(why) from failure
        raise


def waiting(pods: Iterable[dict[str, Any]]) -> str:
    """The first container that waits for more than its turn; empty where none does."""
    for pod in pods:
        status = pod.get("status", {})
        for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            said = container.get("state", {}).get("waiting", {})
            if said and said.get("reason") not in YOUNG:
                name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                return f"The pod {name} cannot start: {said.get('reason')}: {said.get('message', '')}"
    return ""
