"""What a node says of itself, as far as recovery needs it.

Owns: which nodes are suspect and why, and whether too few are heard of to believe it. Must not know: pods, zones'
states, who watches nodes.

A node is suspect when Kubernetes has not heard of it (Ready is not True), or we have not, when somebody has marked it
so, or when a device of it is out of order: the device plugin offers fewer of a resource than there are, or a monitor
(node-problem-detector, NVSentinel, DCGM's) has set a condition that names a GPU. Suspect says nothing of a replica
there: it may well serve.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from datetime import timedelta
from typing import Any

from .build import condition, dig, parsed
from .types import Node

WATCHFUL = timedelta(seconds=5)
"""How soon to look again while something hangs on nodes: news of one wakes only those with a pod on it, and the fate of
a zone, or whether too few are heard of, hangs on others too."""

ZONE = "topology.kubernetes.io/zone"
_LOST_TAINTS = {
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/out-of-service",
}
_CONTROL_PLANE = {"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"}
_GPU = re.compile(r"gpu|xid|nvlink|nvswitch|dcgm", re.IGNORECASE)
_GOOD_WHEN_TRUE = re.compile(r"(healthy|ready|ok)$", re.IGNORECASE)
_BAD_WHEN_TRUE = re.compile(r"unhealthy|notready", re.IGNORECASE)


def read(raw: Mapping[str, Any], silence: str | None = None) -> Node:
    """A node as the API server has it; `silence`: why it counts as not heard of though Kubernetes still trusts it."""
    said = condition(raw, "Ready") or {}
    ready = said.get("status") == "True"
    return Node(
        name=raw["metadata"]["name"],
        zone=(dig(raw, "metadata", "labels") or {}).get(ZONE, ""),
        ready=ready,
        since=parsed(said.get("lastTransitionTime")),
        lost=_lost(raw, said) or silence,
        fault=next(_faults(raw), None),
        control_plane=_tainted(raw, _CONTROL_PLANE) is not None,
    )


def hears_of_few(nodes: Mapping[str, Node]) -> str | None:
    """In words that more than half of all nodes are not heard of; those that are deleted are no nodes any more.

    The control plane's own count where pods may be on them: else they are no place for a replica, and it hears of them
    when it hears of nobody else."""
    there = [node for node in nodes.values() if not node.control_plane]
    away = sum(node.lost is not None for node in there)
    return f"{away} of {len(there)} nodes are not heard of at once" if 2 * away > len(there) else None


def _lost(raw: Mapping[str, Any], said: Mapping[str, Any]) -> str | None:
    if said and said.get("status") != "True":
        return str(said.get("message") or said.get("reason") or "the node is not ready")
    taint = _tainted(raw, _LOST_TAINTS)
    return f"the node has the taint {taint}" if taint else None


def _tainted(raw: Mapping[str, Any], keys: Set[str]) -> str | None:
    """The first of these taints by which it keeps pods away."""
    away = [each for each in dig(raw, "spec", "taints") or () if each.get("effect") in ("NoExecute", "NoSchedule")]
    return next((each["key"] for each in away if each.get("key") in keys), None)


def _faults(raw: Mapping[str, Any]) -> Iterator[str]:
    for c in dig(raw, "status", "conditions") or ():
        kind, status = str(c.get("type", "")), c.get("status")
        good = bool(_GOOD_WHEN_TRUE.search(kind)) and not _BAD_WHEN_TRUE.search(kind)
        if _GPU.search(kind) and status == ("False" if good else "True"):
            yield f"{kind} is {status}: {c.get('message') or c.get('reason') or ''}".rstrip(": ")
    capacity, offered = dig(raw, "status", "capacity") or {}, dig(raw, "status", "allocatable") or {}
    for name in sorted(capacity):
        if "/" in name and _count(offered.get(name, "0")) < _count(capacity[name]):
            yield f"{offered.get(name, '0')} of {capacity[name]} {name} are offered"


def _count(quantity: str) -> int:
    """Devices are counted in whole numbers; whatever else it is does not count."""
    return int(quantity) if str(quantity).isdecimal() else 0
