"""Pods whose readiness is not what Kubernetes says: it learns late of a loss, and callers reach a new one later still.

Owns: how such a pod looks to all the rest of a plan. Must not know: how that is found out.
"""

from __future__ import annotations

from dataclasses import replace

from .build import Raw, condition, dig
from .types import Observed


def reached(observed: Observed) -> Observed:
    """A replica is ready when its callers can reach it."""
    new = observed.newcomers
    pods = (early(pod) if pod["metadata"]["name"] in new else pod for pod in observed.pods)
    return replace(observed, pods=tuple(pods)) if new else observed


def lost(pod: Raw) -> Raw:
    """As if kubelet had called it not ready."""
    return _with(pod, {**(condition(pod, "Ready") or {"type": "Ready"}), "status": "False"})


def early(pod: Raw) -> Raw:
    """As it was a moment before it became ready."""
    unready = {"type": "Ready", "status": "False", "lastTransitionTime": dig(pod, "metadata", "creationTimestamp")}
    containers = [{**status, "ready": False} for status in dig(pod, "status", "containerStatuses") or ()]
    return _with(pod, unready, containerStatuses=containers)


def _with(pod: Raw, ready: Raw, **status: object) -> Raw:
    others = [said for said in dig(pod, "status", "conditions") or () if said.get("type") != "Ready"]
    return {**pod, "status": {**pod["status"], "conditions": [*others, ready], **status}}
