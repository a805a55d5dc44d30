"""A cluster in miniature for the ModelDeployment planner: apply, controllers, scheduler, kubelet, each step by hand.

Owns: what Kubernetes does to the objects that a plan applies. Must not know: why a plan applies them.
"""

from __future__ import annotations

import copy
import dataclasses
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from pilotboat.api import labels
from pilotboat.plan import PLANNERS
from pilotboat.plan.build import dig
from pilotboat.plan.pods import GRACE_SECONDS
from pilotboat.plan.types import Event, Observed, Plan, Ref
from unit.plan.world import NOW, SETTINGS, UP, Pod, Raw, deployment_spec, parent

STAGES = ("new", "placed", "fetching", "loading", "serving")
TIME = "%Y-%m-%dT%H:%M:%SZ"
GRACE = timedelta(seconds=GRACE_SECONDS)
FULL = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


class Cluster:
    """One ModelDeployment `chat` and everything it has."""

    def __init__(self, replicas: int = 2, room: int = 99) -> None:
        self.room = room
        """How many pods the nodes take."""
        self.parent = parent("ModelDeployment", "chat", deployment_spec(replicas=replicas))
        self.objects: dict[Ref, Raw] = {}
        self.pods: dict[str, tuple[str, Pod]] = {}
        """Name to stage and pod."""
        self.broken: set[str] = set()
        """Revisions that never get further than loading."""
        self.now = NOW
        self.events: list[Event] = []
        self.serial = 0
        self.references: dict[Ref, Raw | None] = {}
        """Objects of others that the spec names."""

    # what the user does

    def edit(self, **changes: Any) -> None:
        if self.parent["spec"] != (spec := {**self.parent["spec"], **changes}):
            self.parent["spec"] = spec
            self.parent["metadata"]["generation"] += 1

    # what the operator does

    @property
    def observed(self) -> Observed:
        children = sorted(self.objects.values(), key=lambda raw: (raw["kind"], raw["metadata"]["name"]))
        pods = [copy.deepcopy(pod.raw) for _, (_, pod) in sorted(self.pods.items())]
        return Observed(
            copy.deepcopy(self.parent), tuple(copy.deepcopy(children)), tuple(pods), self.references, gateway=UP
        )

    def plan(self, observed: Observed | None = None, now: datetime | None = None) -> Plan:
        return PLANNERS["modeldeployments"].plan(observed or self.observed, SETTINGS, now or self.now)

    def carry_out(self, plan: Plan) -> bool:
        """Whether anything was written."""
        self.now += timedelta(seconds=1)
        for name, cost in plan.costs.items():
            self.pods[name][1].raw["metadata"]["annotations"] = {labels.DELETION_COST: cost} if cost else {}
        wrote = [bool(plan.costs), *(self._apply(manifest) for manifest in (*plan.apply, *plan.after))]
        for ref in plan.delete:
            wrote.append(self.objects.pop(ref, None) is not None)
            self._collect(ref)
        if plan.status is not None and plan.status != self.parent.get("status"):
            self.parent["status"] = copy.deepcopy(plan.status)
            self.events += plan.events
            wrote.append(True)
        return any(wrote)

    def _apply(self, manifest: Raw) -> bool:
        ref, live = Ref.of(manifest), self.objects.get(Ref.of(manifest))
        if live is None:
            self.serial += 1
            stamp = {"uid": f"uid-{self.serial}", "generation": 1, "creationTimestamp": self.time}
            self.objects[ref] = copy.deepcopy({**manifest, "metadata": {**manifest["metadata"], **stamp}})
            return True
        wanted = copy.deepcopy(manifest)
        ours = {key: value for key, value in live["metadata"].items() if key != "annotations"}
        wanted["metadata"] = {**ours, **wanted["metadata"]}
        respecified = wanted.get("spec") != live.get("spec")
        wanted["metadata"]["generation"] += respecified
        if "status" in live:
            wanted["status"] = live["status"]
        self.objects[ref] = wanted
        return bool(wanted != live)

    def _collect(self, ref: Ref) -> None:
        for name in [n for n in self.pods if n.startswith(f"{ref.name}-")] if ref.kind == "Deployment" else ():
            del self.pods[name]

    # what Kubernetes does

    @property
    def time(self) -> str:
        return self.now.strftime(TIME)

    @property
    def deployments(self) -> list[Raw]:
        return [raw for ref, raw in sorted(self.objects.items()) if ref.kind == "Deployment"]

    def pods_of(self, deployment: Raw) -> list[str]:
        prefix = deployment["metadata"]["name"] + "-"
        return [name for name, (_, pod) in self.pods.items() if name.startswith(prefix) and self._counts(pod)]

    @staticmethod
    def _counts(pod: Pod) -> bool:
        return pod.raw["status"]["phase"] != "Failed" and "deletionTimestamp" not in pod.raw["metadata"]

    def serves(self, name: str) -> bool:
        stage, pod = self.pods[name]
        return stage == "serving" and self._counts(pod)

    @property
    def held(self) -> int:
        """Places that are taken: a pod on its way out has its own until it is gone."""
        pods = [pod.raw for _, pod in self.pods.values()]
        return sum(raw["spec"]["nodeName"] is not None and raw["status"]["phase"] != "Failed" for raw in pods)

    @property
    def evictions(self) -> int:
        """How many pods that serve may be evicted now, as the disruption controller counts."""
        (budget,) = (raw["spec"] for ref, raw in self.objects.items() if ref.kind == "PodDisruptionBudget")
        asked = sum(deployment["spec"]["replicas"] for deployment in self.deployments)
        least = budget["minAvailable"] if "minAvailable" in budget else asked - budget["maxUnavailable"]
        return int(max(0, sum(map(self.serves, self.pods)) - least))

    def control(self, deployment: Raw) -> None:
        """The Deployment and ReplicaSet controllers, once."""
        names, wanted = self.pods_of(deployment), deployment["spec"]["replicas"]
        for _ in range(wanted - len(names)):
            self._create(deployment)
        for name in sorted(names, key=self._kept)[: max(0, len(names) - wanted)]:
            self.pods[name][1].leaving((self.now + GRACE).strftime(TIME))
        self.report(deployment)

    def _kept(self, name: str) -> tuple[Any, ...]:
        """Of two pods the ReplicaSet controller takes the lesser: first those without a node, last those that serve."""
        raw = self.pods[name][1].raw
        cost = dig(raw, "metadata", "annotations", labels.DELETION_COST)
        return raw["spec"]["nodeName"] is not None, self.serves(name), int(cost or 0)

    def report(self, deployment: Raw) -> None:
        names = self.pods_of(deployment)
        ready = sum(self.serves(name) for name in names)
        counts = {"replicas": len(names), "updatedReplicas": len(names), "availableReplicas": ready}
        seen = {"observedGeneration": deployment["metadata"]["generation"]}
        deployment["status"] = seen | {key: count for key, count in counts.items() if count}

    def _create(self, deployment: Raw) -> None:
        self.serial += 1
        revision = deployment["metadata"]["labels"][labels.REVISION]
        name = f"{deployment['metadata']['name']}-{self.serial:05d}"
        self.pods[name] = ("new", Pod(name, revision=revision).made(self.time))

    def advance(self, name: str) -> None:
        """The kubelet and the scheduler, one stage on."""
        stage, pod = self.pods[name]
        if not self._counts(pod):
            self._end(name)
            return
        if stage == "new" and self.held >= self.room:
            self.starve(pod)
            return
        last = STAGES[-2] if dig(pod.raw, "metadata", "labels", labels.REVISION) in self.broken else STAGES[-1]
        after = STAGES[min(STAGES.index(stage) + 1, STAGES.index(last))]
        self.pods[name] = (after, pod if after == "new" else getattr(pod, after)())

    def _end(self, name: str) -> None:
        """One that was told to end does so, and holds its place until the next round."""
        stage, pod = self.pods[name]
        if stage in ("new", "ending") or pod.raw["status"]["phase"] == "Failed":
            del self.pods[name]
        else:
            self.pods[name] = ("ending", pod)

    def starve(self, pod: Pod) -> None:
        """The scheduler's word, with the time at which it said so first."""
        known = next((c for c in pod.raw["status"].get("conditions", ()) if c["type"] == "PodScheduled"), {})
        pod.unschedulable(FULL, since=known.get("lastTransitionTime", self.time))

    def kill(self, name: str) -> None:
        del self.pods[name]

    def evict(self, name: str) -> None:
        self.pods[name][1].failed("Evicted", "The node was low on resource: memory.")

    def unready(self, name: str) -> None:
        stage, pod = self.pods[name]
        if stage == "serving" and self._counts(pod):
            self.pods[name] = ("loading", pod.unready(since=self.time))

    def follow(self) -> None:
        """Everything that Kubernetes would do by itself, one round."""
        for deployment in self.deployments:
            self.control(deployment)
        for name in list(self.pods):
            self.advance(name)
        for deployment in self.deployments:
            self.report(deployment)

    def settle(self, rounds: int = 80) -> bool:
        """Whether it came to rest: a pass that writes nothing, in a cluster where nothing moves."""
        for _ in range(rounds):
            before = copy.deepcopy(([pod.raw for _, pod in self.pods.values()], self.objects))
            self.follow()
            moved = before != ([pod.raw for _, pod in self.pods.values()], self.objects)
            if not self.carry_out(self.plan()) and not moved:
                return True
        return False


def writes(plan: Plan) -> int:
    """How many there are at most before the status: what is so already needs none."""
    return len(plan.costs) + len(plan.apply) + len(plan.after) + len(plan.delete)


def cut(plan: Plan, after: int) -> Plan:
    """What of it is done by an operator that dies after so many writes, which are made in this order."""
    costs = dict(islice(plan.costs.items(), after))
    applied = (*plan.apply, *plan.after)[: after - len(costs)]
    deleted = plan.delete[: after - len(costs) - len(applied)]
    return dataclasses.replace(plan, costs=costs, apply=applied, after=(), delete=deleted, status=None, events=())
