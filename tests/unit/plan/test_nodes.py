"""What is read off a node."""

from __future__ import annotations

from typing import Any

import pytest

from pilotboat.api.reasons import Reason
from pilotboat.plan import nodes
from pilotboat.plan.types import Node

Raw = dict[str, Any]


def node(ready: str = "True", **more: Any) -> Raw:
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-05-01T11:00:00Z"}]
    return {
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}},
        "spec": {"taints": more.pop("taints", [])},
        "status": {"conditions": conditions + more.pop("conditions", []), **more},
    }


def test_a_node_that_is_well() -> None:
    found = nodes.read(node(capacity={"nvidia.com/gpu": "2"}, allocatable={"nvidia.com/gpu": "2"}))
    assert (found.zone, found.ready, found.suspect) == ("a", True, None)


@pytest.mark.parametrize(
    ("raw", "reason", "words"),
    [
        (node("Unknown"), Reason.NODE_LOST, "not ready"),
        (node("False"), Reason.NODE_LOST, "not ready"),
        (
            node(taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]),
            Reason.NODE_LOST,
            "the node has the taint node.kubernetes.io/unreachable",
        ),
        (
            node(capacity={"nvidia.com/gpu": "2"}, allocatable={"nvidia.com/gpu": "1"}),
            Reason.GPU_FAULT,
            "1 of 2 nvidia.com/gpu are offered",
        ),
        (
            node(conditions=[{"type": "GpuXidError", "status": "True", "message": "XID 79"}]),
            Reason.GPU_FAULT,
            "GpuXidError is True: XID 79",
        ),
        (node(conditions=[{"type": "GPUHealthy", "status": "False"}]), Reason.GPU_FAULT, "GPUHealthy is False"),
        (node(conditions=[{"type": "GPUUnhealthy", "status": "True"}]), Reason.GPU_FAULT, "GPUUnhealthy is True"),
    ],
)
def test_what_makes_a_node_suspect(raw: Raw, reason: Reason, words: str) -> None:
    suspect = nodes.read(raw).suspect
    assert suspect is not None
    assert suspect[0] is reason
    assert words in suspect[1]


@pytest.mark.parametrize(
    "raw",
    [
        node(taints=[{"key": "dedicated", "effect": "NoSchedule"}]),
        node(conditions=[{"type": "MemoryPressure", "status": "True"}]),
        node(conditions=[{"type": "GPUHealthy", "status": "True"}]),
        node(conditions=[{"type": "GpuXidError", "status": "False"}]),
        node(capacity={"cpu": "4", "memory": "8Gi"}, allocatable={"cpu": "3900m", "memory": "7Gi"}),
    ],
)
def test_what_is_none_of_our_business(raw: Raw) -> None:
    assert nodes.read(raw).suspect is None


def named(letters: str) -> dict[str, Node]:
    """Capitals: of the control plane; `x`: silent."""
    made = (
        Node(f"n{at}", lost="silent" if each in "xX" else None, control_plane=each.isupper())
        for at, each in enumerate(letters)
    )
    return {each.name: each for each in made}


@pytest.mark.parametrize(
    ("letters", "told"),
    [
        ("xo", None),
        ("xxo", "2 of 3"),
        ("OOOxx", "2 of 2"),  # they are where the control plane is, and no place for replicas
        ("OOOxo", None),
        ("XXXooo", None),
        ("X", None),
        ("", None),
    ],
)
def test_whether_too_few_are_heard_of_is_told_by_nodes_that_replicas_may_be_on(letters: str, told: str | None) -> None:
    words = nodes.hears_of_few(named(letters))
    assert words == (told and f"{told} nodes are not heard of at once")


@pytest.mark.parametrize(("key", "apart"), [("control-plane", True), ("master", True), ("worker", False)])
def test_the_control_planes_own_are_those_that_keep_pods_away(key: str, apart: bool) -> None:
    mark = f"node-role.kubernetes.io/{key}"
    assert nodes.read(node(taints=[{"key": mark, "effect": "NoSchedule"}])).control_plane is apart
    named_only = node()
    named_only["metadata"]["labels"][mark] = ""
    assert not nodes.read(named_only).control_plane
