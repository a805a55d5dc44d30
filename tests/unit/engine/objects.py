"""Objects as the API server returns them, for tests of the engine."""

from __future__ import annotations

import itertools
from typing import Any

from pilotboat.api import labels

Raw = dict[str, Any]
_versions = itertools.count(100)


def parent(name: str = "chat", kind: str = "ModelDeployment", uid: str | None = None, **fields: Any) -> Raw:
    return {
        "apiVersion": labels.API_VERSION,
        "kind": kind,
        "metadata": {
            "namespace": "ns",
            "name": name,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(next(_versions)),
            "generation": 1,
        },
        "spec": {"traffic": "Direct"},
        **fields,
    }


def owner(of: Raw) -> Raw:
    meta = of["metadata"]
    return {
        "apiVersion": of["apiVersion"],
        "kind": of["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }


def child(of: Raw, name: str | None = None, kind: str = "Service", api_version: str = "v1", **fields: Any) -> Raw:
    name = name or of["metadata"]["name"]
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "namespace": "ns",
            "name": name,
            "uid": f"uid-{kind}-{name}",
            "resourceVersion": str(next(_versions)),
            "ownerReferences": [owner(of)],
            "labels": labels.child_labels("server", of["metadata"]["name"]),
        },
        **fields,
    }


def pod(of: Raw, name: str, component: str = "server") -> Raw:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": "ns",
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": str(next(_versions)),
            "labels": labels.child_labels(component, of["metadata"]["name"]),
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "rs", "controller": True}
            ],
            "managedFields": [{"manager": "kubelet"}],
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "server", "image": "i", "env": [{"name": "A"}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "hostIP": "10.0.0.2"},
    }


def newer(raw: Raw, **changes: Any) -> Raw:
    """The same object, changed later."""
    return {**raw, **changes, "metadata": {**raw["metadata"], "resourceVersion": str(next(_versions))}}
