"""What is kept of an object: as little as plans and comparisons need, packed.

Owns: which parts are dropped, and how the rest is kept. Must not know: who reads it.

A Deployment is 5 KB of JSON and 13 KB of Python objects; thousands are kept and one is read now and then, by a pass
that waits milliseconds for the API server anyway. So objects are kept as JSON and unpacked for whoever asks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pilotboat.api import labels

from .kinds import NODE, POD, Kind

Raw = dict[str, Any]

META = (
    *("name", "namespace", "uid", "resourceVersion", "generation", "labels", "annotations", "ownerReferences"),
    *("creationTimestamp", "deletionTimestamp", "finalizers"),
)
POD_META = (
    *(field for field in META if field not in ("annotations", "generation", "finalizers")),
    "deletionGracePeriodSeconds",
)
POD_STATUS = (
    *("phase", "reason", "message", "startTime", "conditions", "containerStatuses", "initContainerStatuses"),
    "podIP",
)
NODE_STATUS = ("capacity", "allocatable")
NODE_CONDITION = ("type", "status", "reason", "message", "lastTransitionTime")
"""Without the time of the last heartbeat, which tells nothing new."""
CONTAINER_STATUS = ("name", "state", "lastState", "ready", "restartCount")
FOREIGN_ANNOTATIONS = ("kubectl.kubernetes.io/last-applied-configuration",)


def pack(kind: Kind, raw: Mapping[str, Any]) -> bytes:
    """What is to be kept."""
    return json.dumps(trim(kind, raw), separators=(",", ":"), ensure_ascii=False).encode()


def unpack(packed: bytes) -> Raw:
    """A copy of what was kept, the caller's own."""
    raw: Raw = json.loads(packed)
    return raw


def trim(kind: Kind, raw: Mapping[str, Any]) -> Raw:
    """The object without what nobody reads."""
    if kind == POD:
        return _pod(raw)
    if kind == NODE:
        return _node(raw)
    stamp = {"apiVersion": kind.api_version, "kind": kind.kind}
    return {**raw, **stamp, "metadata": _metadata(raw["metadata"], META)}


def _metadata(meta: Mapping[str, Any], fields: tuple[str, ...]) -> Raw:
    kept = {field: meta[field] for field in fields if field in meta}
    if "annotations" in kept:
        kept["annotations"] = {k: v for k, v in kept["annotations"].items() if k not in FOREIGN_ANNOTATIONS}
    return kept


def _node(raw: Mapping[str, Any]) -> Raw:
    spec, status = raw.get("spec", {}), raw.get("status", {})
    kept = {field: status[field] for field in NODE_STATUS if field in status}
    conditions = [{f: c[f] for f in NODE_CONDITION if f in c} for c in status.get("conditions", ())]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": _metadata(raw["metadata"], ("name", "uid", "resourceVersion", "labels")),
        "spec": {"taints": spec.get("taints", [])},
        "status": kept | {"conditions": conditions},
    }


def _pod(raw: Mapping[str, Any]) -> Raw:
    spec, status = raw.get("spec", {}), raw.get("status", {})
    kept = {field: status[field] for field in POD_STATUS if field in status}
    for statuses in ("containerStatuses", "initContainerStatuses"):
        if statuses in kept:
            kept[statuses] = [{f: s[f] for f in CONTAINER_STATUS if f in s} for s in kept[statuses]]
    meta = _metadata(raw["metadata"], POD_META)
    if cost := (raw["metadata"].get("annotations") or {}).get(labels.DELETION_COST):
        meta["annotations"] = {labels.DELETION_COST: cost}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {
            "nodeName": spec.get("nodeName"),
            "containers": [_container(c) for c in spec.get("containers", ())],
            "initContainers": [_container(c) for c in spec.get("initContainers", ())],
        },
        "status": kept,
    }


def _container(raw: Mapping[str, Any]) -> Raw:
    """Its name, and its limit of memory: that one is told where it was too low."""
    memory = raw.get("resources", {}).get("limits", {}).get("memory")
    return {"name": raw["name"]} | ({"resources": {"limits": {"memory": memory}}} if memory else {})
