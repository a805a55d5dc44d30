"""Raw objects as the API server has them: a deployment of three replicas in three zones, and what becomes of it."""

from __future__ import annotations

from typing import Any

from pilotboat.rehearse import file, world
from pilotboat.rehearse.world import Pod, World

Raw = dict[str, Any]
ZONES = {"n1": "zone-1", "n2": "zone-2", "n3": "zone-3"}


def raw_pod(name: str, node: str, *, ready: bool = True, restarts: int = 0, **meta: Any) -> Raw:
    ports = [{"name": "http", "containerPort": 8080}]
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", **meta},
        "spec": {"nodeName": node, "containers": [{"name": "server", "ports": ports}]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "server", "restartCount": restarts}],
        },
    }


def replicas(*raws: Raw) -> tuple[Pod, ...]:
    return world.pods(raws or [raw_pod(name, node) for name, node in zip("abc", ZONES, strict=True)], "server")


def gateways(*nodes: str) -> tuple[Pod, ...]:
    return world.pods([raw_pod(f"gateway-{node}", node) for node in nodes], "server")


def parent(ready: str = "True", replicas: int = 3, spare: int = 0, **status: Any) -> Raw:
    conditions = [
        {"type": kind, "status": value, "reason": "R", "message": "words", "observedGeneration": 1}
        for kind, value in (("Available", "True"), ("Ready", ready))
    ]
    return {
        "metadata": {"namespace": "team", "name": "chat", "generation": 1},
        "spec": {"replicas": replicas, "zones": {"spare": spare}},
        "status": {"conditions": conditions, **status},
    }


def seen(*raws: Raw, ways: tuple[Pod, ...] = (), **changes: Any) -> World:
    found = world.model_deployment(parent(**changes), replicas(*raws), ways)
    return World(**{**found.__dict__, "zones": ZONES})


def fault(kind: str, **more: Any) -> file.Fault:
    commands = {"cut": ["cut"], "heal": ["heal"]} if kind.startswith("cut") else {}
    text = {
        "deployment": {"namespace": "team", "name": "chat"},
        "faults": [{"name": "f", "kind": kind, **commands, **more}],
    }
    return file.Rehearsal.model_validate(text).faults[0]
