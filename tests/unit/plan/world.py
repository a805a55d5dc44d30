"""Raw objects as Kubernetes has them, in a few words: pods as kubelet and the scheduler report them, jobs, parents.

Owns: the shapes, taken from real clusters. Must not know: what any planner makes of them.
"""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from functools import cache
from typing import Any, Self

from jsonschema import Draft4Validator  # type: ignore[import-untyped]

from pilotboat.api import labels
from pilotboat.api.crd import Kind, structural
from pilotboat.plan.types import GatewayState, Observed, PlanSettings

Raw = dict[str, Any]
NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
NAMESPACE = "ml"
PENDING_SINCE = "2026-05-01T11:00:00Z"
STARTED = "2026-05-01T11:01:00Z"
DIED = "2026-05-01T11:30:00Z"
LATER = "2026-05-01T11:40:00Z"

SETTINGS = PlanSettings(
    server_image="registry.example/server:1",
    trainer_image="registry.example/trainer:1",
    fetch_image="registry.example/fetch:1",
    gateway_image="registry.example/gateway:1",
    image_pull_policy="IfNotPresent",
    image_pull_secrets=(),
    hub_endpoint=None,
    progress_url="https://pilotboat.example:8443",
    progress_ca="-----BEGIN CERTIFICATE-----\n",
)


UP = GatewayState(available=True)


class Pod:
    """A pod, built up by what happened to it. `raw` is what the API server would show of it."""

    def __init__(self, name: str, instance: str = "chat", component: str = "server", revision: str = "") -> None:
        marks = labels.child_labels(component, instance) | ({labels.REVISION: revision} if revision else {})
        self.main = component
        self.raw: Raw = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": f"uid-{name}",
                "labels": marks,
                "creationTimestamp": PENDING_SINCE,
            },
            "spec": {
                "nodeName": None,
                "initContainers": [{"name": "fetch"}],
                "containers": [{"name": self.main}],
            },
            "status": {"phase": "Pending"},
        }

    def owned(self, uid: str) -> Self:
        self.raw["metadata"]["ownerReferences"] = [{"kind": "Job", "uid": uid, "controller": True}]
        return self

    def limited(self, memory: str) -> Self:
        """Its main container may use so much."""
        self.raw["spec"]["containers"][0]["resources"] = {"limits": {"memory": memory}}
        return self

    def made(self, time: str) -> Self:
        self.raw["metadata"]["creationTimestamp"] = time
        return self

    def leaving(self, until: str = LATER) -> Self:
        """On its way out; `until` is when it is killed."""
        self.raw["metadata"]["deletionTimestamp"] = until
        return self

    def condition(self, kind: str, status: str, since: str = PENDING_SINCE, **more: str) -> Self:
        conditions = self.raw["status"].setdefault("conditions", [])
        conditions[:] = [c for c in conditions if c["type"] != kind]
        conditions.append({"type": kind, "status": status, "lastTransitionTime": since, **more})
        return self

    def unschedulable(self, message: str, reason: str = "Unschedulable", since: str = PENDING_SINCE) -> Self:
        return self.condition("PodScheduled", "False", since, reason=reason, message=message)

    def placed(self) -> Self:
        """Bound to a node; kubelet has seen it and made no container yet."""
        self.raw["spec"]["nodeName"] = "node-1"
        self.condition("PodScheduled", "True").condition("Initialized", "False").condition("Ready", "False")
        self.container("fetch", {"waiting": {"reason": "PodInitializing"}})
        return self.container(self.main, {"waiting": {"reason": "PodInitializing"}})

    def container(self, name: str, state: Raw, **more: Any) -> Self:
        field = "initContainerStatuses" if name == "fetch" else "containerStatuses"
        statuses = self.raw["status"].setdefault(field, [])
        statuses[:] = [s for s in statuses if s["name"] != name]
        statuses.append({"name": name, "ready": False, "restartCount": 0, "state": state, "lastState": {}} | more)
        return self

    def fetching(self) -> Self:
        return self.placed().container("fetch", {"running": {"startedAt": STARTED}})

    def fetched(self, result: Raw | None = None, message: str = "3 files") -> Self:
        report = json.dumps({"pilotboat": 1, "reason": "Fetched", "message": message, "result": result or {}})
        done = ended(0, "Completed", report)
        return self.placed().container("fetch", {"terminated": done}, ready=True).condition("Initialized", "True")

    def loading(self, since: str = STARTED, **more: Any) -> Self:
        """The main container runs, and its startup probe has not passed."""
        self.fetched().raw["status"]["phase"] = "Running"
        return self.container(self.main, {"running": {"startedAt": since}}, started=False, **more)

    def serving(self, **more: Any) -> Self:
        self.loading()
        self.container(self.main, {"running": {"startedAt": STARTED}}, ready=True, started=True, **more)
        return self.condition("Ready", "True", since=STARTED)

    def unready(self, since: str = DIED, **more: Any) -> Self:
        """Served, and its readiness probe fails now."""
        self.serving().container(self.main, {"running": {"startedAt": STARTED}}, started=True, **more)
        return self.condition("Ready", "False", since=since)

    def died(self, code: int, reason: str = "Error", message: str = "", restarts: int = 0) -> Self:
        """The main container has just ended."""
        dead = {"terminated": ended(code, reason, message)}
        return self.loading().container(self.main, dead, restartCount=restarts)

    def looping(self, code: int, reason: str = "Error", message: str = "", restarts: int = 3) -> Self:
        """The main container waits for its next restart."""
        back_off = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}}
        dead = {"terminated": ended(code, reason, message)}
        return self.loading().container(self.main, back_off, lastState=dead, restartCount=restarts)

    def restarted(self, code: int, reason: str = "Error", message: str = "", restarts: int = 3) -> Self:
        """The main container runs again after it died."""
        dead = {"terminated": ended(code, reason, message)}
        return self.loading(since=LATER, lastState=dead, restartCount=restarts)

    def waiting(self, reason: str, message: str = "", container: str | None = None) -> Self:
        return self.placed().container(container or self.main, {"waiting": {"reason": reason, "message": message}})

    def failed_fetch(self, reason: str, message: str, code: int = 64) -> Self:
        report = json.dumps({"pilotboat": 1, "reason": reason, "message": message})
        return self.placed().container("fetch", {"terminated": ended(code, "Error", report)})

    def failed(self, reason: str, message: str) -> Self:
        """Over, by kubelet's decision: evicted, or refused on arrival."""
        self.raw["status"] |= {"phase": "Failed", "reason": reason, "message": message}
        return self

    def over(self, phase: str) -> Self:
        self.raw["status"]["phase"] = phase
        return self.condition("Ready", "False", since=LATER)


def ended(code: int, reason: str, message: str = "", at: str = DIED) -> Raw:
    return {"exitCode": code, "reason": reason, "message": message, "startedAt": STARTED, "finishedAt": at}


def report(reason: str, message: str, result: Raw | None = None) -> str:
    """A termination message as our images write it."""
    return json.dumps({"pilotboat": 1, "reason": reason, "message": message, "result": result or {}})


def deployment_spec(**changes: Any) -> Raw:
    return {"model": {"source": {"huggingFace": {"repo": "org/model"}}}, "replicas": 2} | changes


def job_spec(**changes: Any) -> Raw:
    return {
        "base": {"source": {"huggingFace": {"repo": "org/base"}}},
        "dataset": {"source": {"configMap": {"name": "data", "key": "train.jsonl"}}},
    } | changes


def parent(kind: str, name: str, spec: Raw, generation: int = 1, status: Raw | None = None) -> Raw:
    meta = {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "generation": generation}
    made: Raw = {"apiVersion": labels.API_VERSION, "kind": kind, "metadata": meta, "spec": spec}
    return made | ({"status": status} if status else {})


def observed(parent: Raw, pods: list[Pod] | None = None, children: list[Raw] | None = None, **more: Any) -> Observed:
    raws = tuple(copy.deepcopy(pod.raw) for pod in pods or ())
    more.setdefault("gateway", UP)
    return Observed(parent, tuple(children or ()), raws, **more)


def condition(status: Raw | None, kind: str) -> Raw:
    assert status is not None
    found: Raw = next(c for c in status["conditions"] if c["type"] == kind)
    return found


def types(status: Raw | None) -> dict[str, str]:
    """Condition type to status."""
    assert status is not None
    return {c["type"]: c["status"] for c in status["conditions"]}


@cache
def schema_of(kind: Kind) -> Raw:
    return structural(kind.status)


def check_schema(kind: Kind, status: Raw) -> None:
    """The status is what the API server would accept, and it would drop nothing of it."""
    schema = schema_of(kind)
    Draft4Validator(schema).validate(status)
    assert not list(unknown(status, schema))
    json.dumps(status, allow_nan=False)


def unknown(value: Any, schema: Raw, path: str = "") -> list[str]:
    """Fields that the API server would prune."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return []
    if isinstance(value, list):
        return [lost for item in value for lost in unknown(item, schema["items"], f"{path}[]")]
    if not isinstance(value, dict):
        return []
    known = schema.get("properties", {})
    rest = schema.get("additionalProperties")
    lost = [f"{path}.{key}" for key in value if key not in known and not rest]
    for key, item in value.items():
        if key in known or rest:
            lost += unknown(item, known.get(key, rest), f"{path}.{key}")
    return lost
