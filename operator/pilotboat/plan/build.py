"""Small pure helpers that every planner builds manifests with: names, owners, hashes, paths into raw objects.

Owns: how a child's metadata looks. Must not know: any particular child.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ..api import labels
from .types import Manifest, Observed, Ref

Raw = Mapping[str, Any]


def dig(raw: Any, *path: str | int) -> Any:
    """The value at a path into a raw object, or None where any step is missing."""
    for step in path:
        try:
            raw = raw[step]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def digest(data: Any) -> str:
    """SHA-256 of canonical JSON, in hex."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def timestamp(now: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def elapsed(since: str, now: datetime) -> float:
    """Seconds from a timestamp of ours to now; not below 0, for a clock may have been set back."""
    return max(0.0, (now - datetime.fromisoformat(since)).total_seconds())


def parsed(time: str | None) -> datetime | None:
    """A time as Kubernetes writes it; None where there is none."""
    return datetime.fromisoformat(time) if time else None


def owner(parent: Raw) -> dict[str, Any]:
    """The controller ownerReference to a parent."""
    return {
        "apiVersion": parent["apiVersion"],
        "kind": parent["kind"],
        "name": parent["metadata"]["name"],
        "uid": parent["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def child(
    parent: Raw,
    component: str,
    api_version: str,
    kind: str,
    name: str,
    body: Raw,
    annotations: Mapping[str, str] | None = None,
    /,
    **extra: str,
) -> Manifest:
    """A child of the parent with its labels; `extra` are further labels, `body` everything but the metadata."""
    meta: dict[str, Any] = {
        "name": name,
        "namespace": parent["metadata"]["namespace"],
        "labels": labels.child_labels(component, parent["metadata"]["name"]) | extra,
        "ownerReferences": [owner(parent)],
    }
    meta |= {"annotations": dict(annotations)} if annotations else {}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, **body}


def of_kind(children: Iterable[Raw], kind: str) -> list[Raw]:
    """The children of one kind."""
    return [raw for raw in children if raw["kind"] == kind]


def named(children: Iterable[Raw], kind: str, name: str) -> Raw | None:
    """The child of that kind and name, or None."""
    return next((raw for raw in of_kind(children, kind) if raw["metadata"]["name"] == name), None)


def component(raw: Raw) -> str | None:
    """What a child or a pod is a part of: `server`, `probe`, `seed` and so on, by its label."""
    named: str | None = dig(raw, "metadata", "labels", labels.COMPONENT)
    return named


def without(observed: Observed, *components: str) -> Observed:
    """What is left of a parent when children and pods of these components are left out."""
    return replace(
        observed,
        children=tuple(raw for raw in observed.children if component(raw) not in components),
        pods=tuple(pod for pod in observed.pods if component(pod) not in components),
    )


def of_revision(pods: Iterable[Raw], revision: str | None) -> list[Raw]:
    """The pods of one revision, by their label."""
    return [pod for pod in pods if dig(pod, "metadata", "labels", labels.REVISION) == revision]


def respecified(live: Raw, annotations: Mapping[str, str] | None = None, **changes: Any) -> Manifest:
    """A live child, whole, with some fields of its spec changed, or without them where None; these our annotations."""
    meta = {key: live["metadata"][key] for key in ("name", "namespace", "labels", "ownerReferences")}
    meta |= {"annotations": dict(annotations)} if annotations else {}
    return {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "metadata": meta,
        "spec": {key: value for key, value in {**live["spec"], **changes}.items() if value is not None},
    }


def condition(raw: Raw, kind: str) -> Raw | None:
    """The condition of that type in a raw object's status, or None."""
    return next((c for c in dig(raw, "status", "conditions") or () if c.get("type") == kind), None)


def over(job: Raw | None) -> Raw | None:
    """The condition by which the Job controller calls a Job over, well or badly; None before it does."""
    said = dig(job, "status", "conditions") or ()
    return next((c for c in said if c.get("type") in ("Complete", "Failed") and c.get("status") == "True"), None)


def made(raw: Raw) -> str:
    """When an object was made, as the API server writes it; empty for one that is not made yet."""
    return dig(raw, "metadata", "creationTimestamp") or ""


def number(raw: Raw | None, annotation: str) -> int:
    """A count that an annotation of ours keeps; 0 where it is absent, or spoiled by hand."""
    told = dig(raw, "metadata", "annotations", annotation)
    return int(told) if isinstance(told, str) and told.isdecimal() else 0


def numbered(annotation: str, count: int) -> dict[str, str]:
    """The annotation that keeps a count; none for 0."""
    return {annotation: str(count)} if count else {}


def claim(namespace: str, name: str) -> Ref:
    """Ref of a PersistentVolumeClaim."""
    return Ref("v1", "PersistentVolumeClaim", namespace, name)


def config_map(namespace: str, name: str) -> Ref:
    """Ref of a ConfigMap."""
    return Ref("v1", "ConfigMap", namespace, name)


def fine_tune_job(namespace: str, name: str) -> Ref:
    """Ref of a FineTuneJob."""
    return Ref(labels.API_VERSION, "FineTuneJob", namespace, name)
