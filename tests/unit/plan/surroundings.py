"""The cluster in miniature, and what else a ModelDeployment meets: zones, faults, traffic's ways, sources, refusals.

Owns: how these look to a planner, and what the engine makes of a refusal. Must not know: when they change, and what
must hold.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta

from pilotboat.api import labels
from pilotboat.api.routing import Evidence, Minute, Route, Sighting
from pilotboat.plan import PLANNERS
from pilotboat.plan.build import dig
from pilotboat.plan.http_route import API_VERSION
from pilotboat.plan.types import GatewayState, Node, Observed, Plan, Ref, Refusal, Rejection
from unit.plan.cluster import Cluster
from unit.plan.world import NAMESPACE, Pod, Raw, job_spec

ZONES = {"n1": "a", "n2": "b", "n3": "c"}
"""Node to zone."""
EDGE = {"name": "edge", "namespace": "net", "sectionName": "https"}
"""A Gateway of another namespace, as spec.routing names it."""
CLAIM, JOB = "models", "qa"
"""A volume and a FineTuneJob that a model may come of."""
ROUTE = Ref(API_VERSION, "HTTPRoute", NAMESPACE, "chat")

Judge = Callable[["Surroundings", Observed, Plan], None]
"""Says what is wrong with a plan, by raising."""


def lanes_of(objects: Iterable[Raw]) -> dict[str, int]:
    """Revision to share, of the gateway's route among these."""
    routes = [raw["data"]["route.json"] for raw in objects if raw["metadata"]["name"] == "chat-route"]
    return {lane.revision: lane.share for route in routes for lane in Route.load(route).lanes}


class Surroundings(Cluster):
    """One ModelDeployment `chat`, all it has and all it meets. Each of its plans is judged before it is carried out."""

    def __init__(self, chance: random.Random, judge: Judge) -> None:
        super().__init__(chance.choice([1, 2, 3, 4]))
        self.judge = judge
        self.chance = chance
        self.node_of: dict[str, str] = {}
        """Pod to node."""
        self.silent: set[str] = set()
        """Nodes that are not heard of."""
        self.faulty: set[str] = set()
        """Nodes whose devices are out of order."""
        self.gone: set[str] = set()
        """Names of nodes, volumes and jobs that are not there."""
        self.job: Raw = {"metadata": {"name": JOB}, "spec": job_spec(), "status": {}}
        self.gateway = True
        """Whether ours takes requests."""
        self.mute = False
        """Whether it tells nothing."""
        self.accepted: bool | None = True
        """What the Gateway of others says of our route."""
        self.minutes: dict[str, list[Minute]] = {}
        self.failing: set[str] = set()
        """Revisions that answer with errors."""
        self.refused: set[str] = set()
        """Kinds of which the API server takes none."""

    # what the operator sees

    @property
    def observed(self) -> Observed:
        found = super().observed
        for raw in found.pods:
            if dig(raw, "spec", "nodeName"):
                raw["spec"]["nodeName"] = self.node_of[raw["metadata"]["name"]]
        pods = sorted((*found.pods, *self._seed_pods()), key=lambda raw: str(raw["metadata"]["name"]))
        evidence = () if self.mute else (self._evidence(),)
        return dataclasses.replace(
            found,
            children=tuple(raw for raw in found.children if raw["kind"] != "HTTPRoute"),
            pods=tuple(pods),
            references=self._references(found),
            nodes={name: self._node(name) for name in ZONES if name not in self.gone},
            evidence=evidence,
            evidence_at=(self.now,) * len(evidence),
            gateway=GatewayState(available=self.gateway, replicas=1),
        )

    def _node(self, name: str) -> Node:
        lost = "its agent and its kubelet are silent" if name in self.silent else None
        return Node(name, ZONES[name], lost=lost, fault="1 of 2 GPUs" if name in self.faulty else None)

    def _evidence(self) -> Evidence:
        now = self.now.timestamp()
        seen = {name: Sighting(up=self.reached(name), since=now - 2) for name in self.pods if self.serves(name)}
        return Evidence(gateway="one", now=now, minutes=self.minutes, replicas=seen)

    def _references(self, found: Observed) -> dict[Ref, Raw | None]:
        known = {
            ROUTE: self._route(),
            Ref(API_VERSION, "Gateway", "net", "edge"): {"metadata": {"name": "edge"}},
            Ref("v1", "PersistentVolumeClaim", NAMESPACE, CLAIM): None if CLAIM in self.gone else {"kind": "any"},
            Ref(labels.API_VERSION, "FineTuneJob", NAMESPACE, JOB): None if JOB in self.gone else self.job,
        }
        return {ref: known.get(ref) for ref in PLANNERS["modeldeployments"].references(found.parent)}

    def _route(self) -> Raw | None:
        live = copy.deepcopy(self.objects.get(ROUTE))
        if live is not None and self.accepted is not None:
            told = {"type": "Accepted", "status": str(self.accepted), "reason": "any"}
            live["status"] = {"parents": [{"parentRef": EDGE, "controllerName": "any", "conditions": [told]}]}
        return live

    def _seed_pods(self) -> list[Raw]:
        pods = []
        for ref, raw in sorted(self.objects.items()):
            if ref.kind == "DaemonSet":
                pod = Pod(f"{ref.name}-seed", component="seed").serving()
                pod.raw["metadata"]["labels"] = dict(raw["spec"]["template"]["metadata"]["labels"])
                pod.raw["spec"]["nodeName"] = "n1"
                pods.append(pod.raw)
        return pods

    # what may be asked about it

    def reached(self, name: str) -> bool:
        """Whether requests come to a pod's node."""
        return self.node_of.get(name) not in self.silent

    def revision_of(self, name: str) -> str:
        return str(dig(self.pods[name][1].raw, "metadata", "labels", labels.REVISION))

    @property
    def sick(self) -> bool:
        """Whether a node is out of order or gone: replicas are moved then, also such as serve."""
        return bool(self.silent or self.faulty or self.gone & set(ZONES))

    @property
    def lanes(self) -> dict[str, int]:
        """Revision to share, as the gateway has it; empty where it has no route."""
        return lanes_of(self.objects.values())

    # what is done

    def a_pass(self) -> bool:
        """Whether anything was written. What is refused is planned for once more, as by `engine.apply`."""
        observed = self.observed
        plan = self.plan(observed)
        self.judge(self, observed, plan)
        refused = {
            ref: Rejection(Refusal.INVALID, "no")
            for manifest in (*plan.apply, *plan.after)
            if (ref := Ref.of(manifest)).kind in self.refused
        }
        if refused:
            again = dataclasses.replace(observed, rejected=refused)
            second = self.plan(again)
            self.judge(self, again, second)
            plan = self._in_part(plan, second, refused.keys())
        return self.carry_out(plan)

    @staticmethod
    def _in_part(plan: Plan, second: Plan, refused: Collection[Ref]) -> Plan:
        """What is done of a plan where some was refused, told as the second plan does."""
        stays = [manifest for manifest in plan.apply if Ref.of(manifest) not in refused]
        then = [manifest for manifest in plan.after if Ref.of(manifest) not in refused]
        stopped = len(stays) < len(plan.apply) and plan.after
        after, delete = ((), ()) if stopped else (tuple(then), plan.delete)
        return dataclasses.replace(second, costs=plan.costs, apply=tuple(stays), after=after, delete=delete)

    def lose(self, ref: Ref) -> None:
        """Someone deletes an object of ours."""
        del self.objects[ref]
        self._collect(ref)

    def advance(self, name: str) -> None:
        super().advance(name)
        if name in self.pods and self.pods[name][1].raw["spec"]["nodeName"] and name not in self.node_of:
            self.node_of[name] = self.chance.choice(sorted(ZONES))

    def follow(self) -> None:
        super().follow()
        for ref, raw in self.objects.items():
            if ref.kind == "DaemonSet":
                seen = {"observedGeneration": raw["metadata"]["generation"]}
                raw["status"] = seen | {"desiredNumberScheduled": len(ZONES), "numberReady": len(ZONES)}

    def serve_a_minute(self) -> None:
        """Each lane has its requests; the gateway counts them."""
        start = int(self.now.timestamp()) // 60 * 60
        for revision, share in self.lanes.items():
            if share:
                errors = share // (2 if revision in self.failing else 100)
                counted = Minute(start=start, requests=share, errors=errors)
                self.minutes.setdefault(revision, []).append(counted)
        self.now += timedelta(seconds=65)

    def settles(self, rounds: int = 150) -> bool:
        """Whether it comes to rest; every pass is judged."""
        for _ in range(rounds):
            before = copy.deepcopy(([pod.raw for _, pod in self.pods.values()], self.objects))
            self.follow()
            moved = before != ([pod.raw for _, pod in self.pods.values()], self.objects)
            if not self.a_pass() and not moved:
                return True
        return False
