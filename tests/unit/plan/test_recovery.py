"""Lost nodes and zones through the whole planner, against the cluster in miniature."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.api.crd import MODEL_DEPLOYMENT
from pilotboat.api.recovery import RecoveryStatus
from pilotboat.api.routing import Evidence, Route, Sighting
from pilotboat.plan import build, recovery
from pilotboat.plan.types import GatewayState, Node, Observed, Plan
from tests.unit.plan.cluster import FULL, Cluster
from tests.unit.plan.world import check_schema, condition, ended, types

ZONES = {"n1": "a", "n2": "b", "n3": "c"}


class World(Cluster):
    """The miniature with nodes: pods are placed where few are, and not on nodes that are lost."""

    zones: Mapping[str, str] = ZONES

    def __init__(self, replicas: int = 3, room: int = 9, **zones: Any) -> None:
        self.lost: set[str] = set()
        """Nodes that nobody hears of."""
        self.dead: set[str] = set()
        """Nodes whose pods do not serve."""
        self.trusted: set[str] = set()
        """Of the lost nodes, those that Kubernetes gives pods all the same, and first."""
        self.without_device: set[str] = set()
        """Nodes that offer fewer GPUs than they have."""
        self.reached_for = 2.0
        """Seconds for which gateways have seen of each replica what they see."""
        self.warm: float | None = None
        """How long every replica says that it had warmed up."""
        self.gateways: tuple[Mapping[str, datetime | None], ...] = ({},)
        """What each says beside what is dead or serves: when it took a pod out, None where it did not."""
        self.left: tuple[Mapping[str, datetime], ...] = ({},)
        """From whom each took the seat away, and when."""
        self.taking = 0
        """Gateways that take requests."""
        self.mute = False
        """No gateway answers."""
        super().__init__(replicas, room)
        self.since: dict[str, str] = {}
        """When each pod became ready."""
        self.edit(zones=zones)
        assert self.settle()

    @property
    def observed(self) -> Observed:
        nodes = {
            name: Node(
                name,
                zone,
                lost="silent" if name in self.lost else None,
                fault="0 of 2 nvidia.com/gpu are offered" if name in self.without_device else None,
            )
            for name, zone in self.zones.items()
        }
        seen = {
            name: Sighting(up=not self._is_dead(name), since=self.now.timestamp() - self.reached_for)
            for name in self.pods
            if self.serves(name) or self._is_dead(name)
        }
        told = tuple(
            Evidence(
                gateway=f"g{at}",
                now=self.now.timestamp(),
                replicas=seen | {n: _sighted(since, self.now) for n, since in out.items()},
                left={name: since.timestamp() for name, since in left.items()},
            )
            for at, (out, left) in enumerate(zip(self.gateways, self.left, strict=True))
            if not self.mute
        )
        return dataclasses.replace(
            super().observed,
            nodes=nodes,
            evidence=told,
            evidence_at=(self.now,) * len(told),
            warmed={name: self.warm for name in self.pods} if self.warm is not None else {},
            gateway=GatewayState(available=True, replicas=self.taking),
        )

    def node_of(self, name: str) -> str | None:
        where: str | None = self.pods[name][1].raw["spec"]["nodeName"]
        return where

    def _is_dead(self, name: str) -> bool:
        return self.node_of(name) in self.dead

    def serves(self, name: str) -> bool:
        return super().serves(name) and not self._is_dead(name)

    def _kept(self, name: str) -> tuple[Any, ...]:
        """Then those whose node has more of them, then those that became ready last."""
        held = sum(self.node_of(other) == self.node_of(name) for other in self.pods)
        ready = build.condition(self.pods[name][1].raw, "Ready")
        since = datetime.fromisoformat(ready["lastTransitionTime"]).timestamp() if ready else 0.0
        return *super()._kept(name), -held, -since

    def advance(self, name: str) -> None:
        if self.node_of(name) in self.lost | self.dead:
            return
        stage, pod = self.pods[name]
        if stage == "new" and self._counts(pod):
            counts = {
                n: sum(self.node_of(p) == n for p in self.pods) for n in self.zones if n not in self.lost - self.trusted
            }
            where = min(counts, key=lambda n: (counts[n], n not in self.trusted, n), default=None)
            if where is None:
                self.starve(pod)
                return
            super().advance(name)
            if self.pods[name][0] != stage:
                pod.raw["spec"]["nodeName"] = where
            return
        where_now = self.node_of(name)
        super().advance(name)
        if name in self.pods:
            after, moved = self.pods[name]
            moved.raw["spec"]["nodeName"] = where_now
            if (stage, after) == ("loading", "serving"):
                self.since[name] = self.time
            if name in self.since and after == "serving":
                moved.condition("Ready", "True", since=self.since[name])

    def lose(self, node: str, noticed: bool = True) -> None:
        """The node dies, and its pods with it; not noticed: Kubernetes still calls them ready."""
        self.lost.add(node)
        self.dead.add(node)
        for name in self.pods if noticed else ():
            if self.node_of(name) == node:
                self.pods[name][1].condition("Ready", "False", since=self.time)

    def unready(self, name: str) -> None:
        """Its readiness fails, and its process lives."""
        self._changed(name, "unready", since=self.time)

    def die(self, name: str) -> None:
        """Its process ends, and is started anew by and by."""
        self._changed(name, "died", code=137)
        _, pod = self.pods[name]
        pod.container("server", {"terminated": ended(137, "Error", at=self.time)}, restartCount=1)
        pod.condition("Ready", "False", since=self.time)

    def delete(self, name: str) -> None:
        """Somebody deletes it: it is on its way out."""
        self.pods[name][1].leaving()

    def _changed(self, name: str, how: str, **more: Any) -> None:
        where = self.node_of(name)
        _, pod = self.pods[name]
        self.pods[name] = ("loading", getattr(pod, how)(**more))
        pod.raw["spec"]["nodeName"] = where

    def on(self, node: str) -> str:
        """A replica there that serves."""
        return next(name for name in sorted(self.pods) if self.node_of(name) == node and self.serves(name))

    def pass_on(self) -> None:
        """A pass before Kubernetes does anything about it."""
        for deployment in self.deployments:
            self.report(deployment)
        self.carry_out(self.plan())

    def heal(self, node: str) -> None:
        """As it was: its pods serve."""
        self.lost.discard(node)
        self.dead.discard(node)
        for name in self.pods:
            if self.node_of(name) == node:
                self.since[name] = self.time
                self.pods[name][1].condition("Ready", "True", since=self.time)

    def passes(self, seconds: int, step: int = 5) -> None:
        """Time goes by."""
        for _ in range(0, seconds, step):
            self.now += timedelta(seconds=step - 1)
            self.follow()
            self.carry_out(self.plan())

    @property
    def status(self) -> dict[str, Any]:
        check_schema(MODEL_DEPLOYMENT, self.parent["status"])
        found: dict[str, Any] = self.parent["status"]
        return found

    @property
    def asked(self) -> tuple[int, str | None]:
        """Replicas of the only Deployment, and how many of them stand in for others."""
        (deployment,) = [each for each in self.deployments if each["spec"]["replicas"]]
        return deployment["spec"]["replicas"], deployment["metadata"].get("annotations", {}).get(labels.STAND_INS)

    @property
    def weights(self) -> dict[str, int]:
        raw = next(raw for ref, raw in self.objects.items() if ref.name == "chat-route")
        return Route.load(raw["data"]["route.json"]).zones

    def told(self) -> list[str]:
        return [event.reason for event in self.events]

    def told_of(self, *reasons: str) -> list[str]:
        return [reason for reason in self.told() if reason in reasons]

    @property
    def books(self) -> tuple[list[str], list[str], int]:
        """Subjects of losses that are not over, of those that are, and how many were."""
        known = RecoveryStatus.model_validate(json.loads(json.dumps(self.status.get("recovery") or {})))
        over = [fault.subject for fault in known.faults if fault.ready_at]
        return [fault.subject for fault in known.open], over, known.count


def _sighted(since: datetime | None, now: datetime) -> Sighting:
    """Of one that a gateway took out then; None: it did not."""
    return Sighting(up=since is None, since=(since or now).timestamp())


def test_a_lost_node_gets_a_stand_in_and_nothing_is_deleted() -> None:
    world = World()
    before = set(world.pods)
    world.lose("n2")
    world.passes(60)
    assert world.asked == (4, "1")
    assert before < set(world.pods)
    assert types(world.status)["Ready"] == "True"
    assert (world.status["ready"], world.status["replicas"]) == ("3/3", 3)
    last = world.status["recovery"]["last"]
    assert (last["fault"], last["subject"], last["replicas"]) == ("ZoneLost", "zone b", 1)
    assert last["detectedAt"] <= last["replacedAt"] <= last["readyAt"]
    story = [reason for reason in world.told() if reason in ("NodeLost", "ZoneSuspect", "ZoneLost", "Recovered")]
    assert story[0] == "NodeLost"
    assert story.index("ZoneSuspect") < story.index("ZoneLost")


@pytest.mark.parametrize("warm", [None, 0.0, 70.25, 1e6])
def test_of_its_start_warming_up_is_told_by_itself_where_the_server_tells(warm: float | None) -> None:
    world = World()
    world.warm = warm
    world.lose("n2")
    world.passes(60)
    seconds = world.status["recovery"]["last"]["seconds"]
    assert seconds.get("warm") == warm
    assert seconds["load"] == max(0.0, 3570.0 - (warm or 0)), "the miniature's pods are an hour on their way"


def test_a_lost_replica_that_kubernetes_still_calls_ready_is_not_what_makes_it_whole() -> None:
    world = World()
    world.lose("n2", noticed=False)
    world.carry_out(world.plan())
    last = world.status["recovery"]["last"]
    assert last["subject"] == "node n2"
    assert "readyAt" not in last
    world.passes(60)
    last = world.status["recovery"]["last"]
    assert last["detectedAt"] <= last["replacedAt"] <= last["readyAt"]


class Unlabelled(World):
    """Nodes that say nothing of a zone, or all the same."""

    zone = ""

    @property
    def observed(self) -> Observed:
        seen = super().observed
        return dataclasses.replace(
            seen, nodes={name: dataclasses.replace(n, zone=self.zone) for name, n in seen.nodes.items()}
        )


class OneZone(Unlabelled):
    """A cluster in one zone."""

    zone = "a"


def test_a_cluster_in_one_zone_is_not_told_to_label_its_nodes() -> None:
    told = condition(OneZone(spread="Preferred").status, "ZonesHealthy")
    assert (told["status"], told["reason"]) == ("False", "SingleZone")
    assert told["message"] == "all 3 nodes are in the zone a"


def test_nodes_without_a_zone_are_told_where_zones_are_asked_for_and_lose_nothing_by_it() -> None:
    world = Unlabelled(spread="Preferred")
    told = condition(world.status, "ZonesHealthy")
    assert (told["status"], told["reason"]) == ("False", "ZonesNotLabelled")
    assert told["message"] == "3 of 3 nodes have no label topology.kubernetes.io/zone"
    assert types(world.status)["Ready"] == "True"
    world.lose("n2")
    world.passes(60)
    assert world.asked == (4, "1"), "a lost node is one without zones too"
    assert types(world.status)["Ready"] == "True"
    assert world.weights == {}
    plain = Unlabelled()
    assert "ZonesHealthy" not in types(plain.status), "who does not ask is not bothered"


def test_whom_a_new_leader_does_not_trust_though_kubernetes_may() -> None:
    world = World()
    assert recovery.lost_nodes(world.parent) == set()
    world.lose("n2")
    world.passes(60)
    assert recovery.lost_nodes(world.parent) == {"n2"}
    world.heal("n2")
    world.passes(10)
    assert recovery.lost_nodes(world.parent) == set()


def test_a_stand_in_that_kubernetes_gives_to_the_dead_node_is_lost_as_well() -> None:
    """It learns of the node's death later than we; the spread of replicas sends the next one elsewhere."""
    world = World()
    world.trusted = {"n2"}
    world.lose("n2", noticed=False)
    world.passes(60)
    assert world.asked == (5, "2")
    assert (world.status["ready"], types(world.status)["Ready"]) == ("3/3", "True")
    assert world.status["recovery"]["standIns"] == 2
    world.heal("n2")
    assert world.settle()
    world.passes(1200)
    assert world.asked == (3, None)


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ({}, (3, None)),
        ({"gpu": {"count": 1}}, (4, "1")),
        ({"podTemplate": {"resources": {"limits": {"amd.com/gpu": "1"}}}}, (4, "1")),
    ],
)
def test_a_device_that_is_out_of_order_matters_to_those_who_use_devices(
    spec: dict[str, Any], asked: tuple[int, str | None]
) -> None:
    """Replicas there that do not serve are lost where they need devices, and are starting where they do not."""
    world = World()
    world.edit(**spec)
    assert world.settle()
    world.without_device.add("n2")
    for name in world.pods:
        if world.node_of(name) == "n2":
            world.dead.add("n2")
            world.pods[name][1].condition("Ready", "False", since=world.time)
    world.passes(30)
    assert world.asked == asked


class Large(World):
    """Models that take a minute to load."""

    def __init__(self, **more: Any) -> None:
        self.begun: dict[str, datetime] = {}
        """When each pod that loads began to."""
        super().__init__(**more)

    def advance(self, name: str) -> None:
        if self.pods[name][0] != "loading":
            self.begun[name] = self.now
        if self.pods[name][0] != "loading" or self.now - self.begun[name] >= timedelta(seconds=60):
            super().advance(name)

    def settle(self, rounds: int = 80) -> bool:
        self.passes(300)
        return super().settle(rounds)


@pytest.mark.parametrize("mute", [False, True])
def test_replicas_that_start_beside_a_device_that_is_out_of_order_are_not_lost(mute: bool) -> None:
    """All of a node's other devices are well. What was asked for instead went the same way."""
    world = Large(replicas=2, room=7)
    world.mute = mute
    world.edit(gpu={"count": 1})
    assert world.settle()
    world.without_device |= set(ZONES)
    world.edit(podTemplate={"labels": {"a": "new-revision"}})
    world.passes(600)
    assert world.asked == (2, None)
    assert (world.status["ready"], types(world.status)["Ready"]) == ("2/2", "True")
    assert "GPUFault" not in world.told()


def test_where_a_silent_nodes_replica_is_reached_again_nobody_stands_in_for_it_for_ever() -> None:
    world = World(room=3)
    world.lose("n2")
    world.passes(60)
    assert types(world.status)["Ready"] == "False"
    world.dead.clear()
    for name in world.pods:
        if world.node_of(name) == "n2":
            world.pods[name][1].condition("Ready", "True", since=world.time)
    world.passes(20)
    assert world.status["ready"] == "3/3", "callers are answered by it"
    assert world.asked == (4, "1")
    world.reached_for = 301
    world.passes(20)
    assert (world.asked, world.weights) == ((4, "1"), {"b": 0}), "it gets nothing yet, so it is in nobody's place"
    world.passes(600)
    assert (world.asked, types(world.status)["Ready"]) == ((3, None), "True")


@pytest.mark.parametrize("noticed", [True, False])
def test_while_the_stand_in_starts_the_cause_is_told(noticed: bool) -> None:
    world = World()
    world.lose("n2", noticed)
    world.carry_out(world.plan())
    assert world.status["ready"] == "2/3"
    world.passes(5)
    told = condition(world.status, "Ready")
    assert (told["status"], told["reason"]) == ("False", "NodeLost")
    assert "node n2: silent" in told["message"]


@pytest.mark.parametrize("lost", ZONES)
def test_a_stand_in_that_cannot_start_says_why_whatever_the_lost_replica_is_called(lost: str) -> None:
    """Kubernetes still has that one's containers as ready, which is no news and no way out."""
    world = World()
    before = set(world.pods)
    world.lose(lost)
    world.passes(20)
    (stand_in,) = set(world.pods) - before
    world.pods[stand_in][1].waiting("ImagePullBackOff", "no such image").condition("Ready", "False", since=world.time)
    world.carry_out(world.plan())
    told = condition(world.status, "Ready")
    assert told["reason"] == "ImagePullError", told
    assert told["message"].startswith(stand_in)


def test_a_node_that_is_only_unheard_of_loses_nothing() -> None:
    world = World()
    world.lost.add("n2")
    for name in world.pods:
        if world.node_of(name) == "n2":
            world.pods[name][1].condition("Ready", "False", since=world.time)
    world.passes(120)
    assert world.asked == (3, None)
    assert world.weights == {}


def test_while_a_node_or_zone_is_not_well_it_is_looked_at_again_soon() -> None:
    """What becomes of a zone's other nodes wakes nobody who has no pod there."""
    world = World()
    assert world.plan().requeue_after is None
    world.lost.add("n2")
    world.passes(60)
    assert (world.plan().requeue_after or FAR) <= timedelta(seconds=5), "suspect"
    world.lose("n2")
    world.passes(60)
    for name in [name for name in world.pods if world.node_of(name) == "n2"]:
        world.kill(name)
    world.passes(60)
    assert world.weights == {"b": 0}
    assert (world.plan().requeue_after or FAR) <= timedelta(seconds=5), "lost, and no pod is there"


FAR = timedelta(days=1)


def test_without_room_the_scheduler_has_the_word() -> None:
    world = World(room=3)
    world.lose("n2")
    world.passes(60)
    told = condition(world.status, "Ready")
    assert told["reason"] == "CapacityPending"
    assert FULL in told["message"]
    assert condition(world.status, "ZonesHealthy")["reason"] == "CapacityPending"


def test_the_surplus_goes_late_and_all_ends_as_it_began() -> None:
    world = World()
    world.lose("n2")
    world.passes(60)
    world.heal("n2")
    world.passes(200)
    assert world.asked == (4, "1"), "not trusted yet"
    world.passes(1200, step=20)
    assert world.asked == (3, None)
    assert world.weights == {}
    assert types(world.status)["Ready"] == "True"
    assert "ZonesUp" in world.told()
    assert world.settle()


def test_a_zone_gets_its_traffic_back_by_steps() -> None:
    world = World()
    world.lose("n2")
    world.passes(60)
    assert world.weights == {"b": 0}
    world.heal("n2")
    seen = []
    for _ in range(200):
        world.passes(5)
        if not seen or seen[-1] != world.weights.get("b", 100):
            seen.append(world.weights.get("b", 100))
    assert seen == [0, 10, 25, 50, 100]


class Haunted(World):
    """The last words of a gateway that is gone are still there, as the operator keeps them."""

    last: tuple[Evidence, datetime] | None = None

    @property
    def observed(self) -> Observed:
        seen = super().observed
        if self.last is None:
            return seen
        told, at = self.last
        return dataclasses.replace(seen, evidence=(*seen.evidence, told), evidence_at=(*seen.evidence_at, at))


def test_the_last_words_of_a_gateway_that_is_gone_keep_no_zone_from_its_traffic() -> None:
    world = Haunted()
    world.lose("n2")
    world.passes(60)
    world.heal("n2")
    world.passes(5)
    failed = Sighting(up=True, since=0.0, canned="no answer within 30 s")
    world.last = (
        Evidence(gateway="gone", now=world.now.timestamp(), replicas=dict.fromkeys(world.pods, failed)),
        world.now,
    )
    world.passes(5)
    assert world.weights == {"b": 0}
    for _ in range(200):
        world.passes(5)
    assert world.weights == {}


class Partly(World):
    """Of a node that is lost some replicas serve on."""

    def __init__(self, **more: Any) -> None:
        self.gone: set[str] = set()
        super().__init__(**more)

    def _is_dead(self, name: str) -> bool:
        return name in self.gone


def test_a_zone_that_serves_in_part_keeps_what_others_cannot_bear_and_loses_it_as_they_become_ready() -> None:
    zones = {"failover": {"threshold": 30}}
    world = Partly(replicas=9, room=20, **zones)
    world.gone = {world.on("n2")}
    world.lost = {"n2"}
    for name, (_, pod) in world.pods.items():
        if world.node_of(name) == "n2":
            pod.condition("Ready", "False", since=world.time)  # two of them serve all the same, as gateways know
    world.passes(60)
    assert world.asked == (10, "1")
    seen = []
    for spare in (0, 1, 2):
        world.edit(zones=zones | {"spare": spare})
        world.passes(60)
        told = condition(world.status, "ZonesHealthy")
        seen.append((world.weights.get("b", 100), told["reason"], "missing elsewhere" in told["message"]))
    assert seen == [(100, "CapacityPending", True), (50, "CapacityPending", True), (0, "ZoneLost", False)]
    said = [event.message.split(":")[0] for event in world.events if event.reason == "ZoneLost"]
    assert said == ["zone b gets 50 % of its share of the requests", "zone b gets no requests any more"]


def test_spare_replicas_are_kept_beside_those_asked_for() -> None:
    world = World(spare=1)
    assert world.asked == (4, None)
    assert world.status["ready"] == "4/4"
    world.edit(replicas=0)
    assert world.settle()
    assert not [each for each in world.deployments if each["spec"]["replicas"]]


class Cut(World):
    """An operator that dies after so many writes, once, in every pass."""

    def __init__(self, after: int) -> None:
        self.after = 10**6
        super().__init__()
        self.after = after

    def carry_out(self, plan: Plan) -> bool:
        whole = super().carry_out(
            dataclasses.replace(plan, apply=(*plan.apply, *plan.after)[: self.after], after=(), status=None)
        )
        again = super().carry_out(self.plan())
        return whole or again


def lived(world: World) -> tuple[Any, ...]:
    world.lose("n2")
    world.passes(60)
    middle = world.asked
    world.heal("n2")
    world.passes(1500, step=20)
    return middle, world.asked, world.weights, types(world.status), len(world.pods)


@pytest.mark.parametrize("after", range(6))
def test_an_operator_killed_after_any_write_ends_in_the_same_state(after: int) -> None:
    assert lived(Cut(after)) == lived(World())


def test_thirty_second_flaps_for_twenty_minutes_are_two_moves_at_most() -> None:
    world, moves = World(), 0
    weights, made = world.weights, world.serial
    for half in range(40):
        (world.lose if half % 2 == 0 else world.heal)("n2")
        for _ in range(6):
            world.passes(5)
            moves += (world.weights.get("b", 100) == 0) != (weights.get("b", 100) == 0)
            weights = world.weights
    assert moves <= 2
    assert world.serial - made <= 6, "no pod is made again and again"


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_lost_and_healed_it_ends_whole(seed: int) -> None:
    chance, world = random.Random(seed), World()
    for _ in range(15):
        node = chance.choice(list(ZONES))
        chance.choice([world.lose, world.heal, world.heal])(node)
        world.passes(wait := chance.choice([5, 20, 60, 400]), step=5 if wait < 100 else 20)
        assert sum(weight == 0 for weight in world.weights.values()) < len(ZONES)
    for node in ZONES:
        world.heal(node)
    world.passes(15000, step=250)
    assert world.asked == (3, None)
    assert world.weights == {}
    assert types(world.status)["Ready"] == "True"


@pytest.mark.parametrize("seed", range(12))
def test_where_all_serve_again_it_is_ready_though_nobody_is_trusted_yet(seed: int) -> None:
    """A soak ended with four of six replicas on nodes that were well and not trusted, and was never Ready again."""
    chance, world = random.Random(seed), World()
    for _ in range(12):
        node = chance.choice(["n1", "n2"])
        world.lose(node)
        world.passes(30)
        for each in sorted(world.pods):
            if chance.random() < 0.3 and each in world.pods:
                world.kill(each)
        world.heal(node)
        world.passes(30)
        assert (world.status["ready"], types(world.status)["Ready"]) == ("3/3", "True")


def test_a_pod_that_goes_is_on_record() -> None:
    world = World()
    world.carry_out(world.plan())
    world.kill(sorted(world.pods)[0])
    for deployment in world.deployments:
        world.report(deployment)
    world.carry_out(world.plan())
    assert world.status["recovery"]["last"]["fault"] == "PodLost"
    world.passes(60)
    last = world.status["recovery"]["last"]
    assert last["readyAt"] >= last["replacedAt"]
    assert world.status["recovery"]["count"] == 1


class CutOff(World):
    """A control plane that loses sight of nodes, and maybe of gateways; what runs there runs on."""

    def cut(self, *nodes: str, mute: bool = True) -> None:
        """Kubernetes calls pods of nodes that it does not hear of unready."""
        self.lost |= set(nodes)
        self.mute = mute
        for name in self.pods:
            if self.node_of(name) in nodes:
                self.pods[name][1].condition("Ready", "False", since=self.time)

    def mend(self) -> None:
        self.mute = False
        for node in sorted(self.lost):
            self.heal(node)


@pytest.mark.parametrize("traffic", ["Gateway", "Direct"])
@pytest.mark.parametrize("nodes", [("n1", "n2"), ("n1", "n2", "n3")])
def test_where_the_control_plane_is_cut_off_nobody_stands_in_for_anybody(nodes: tuple[str, ...], traffic: str) -> None:
    world = CutOff()
    world.edit(traffic=traffic)
    assert world.settle()
    world.passes(60)
    before = set(world.pods)
    world.cut(*nodes)
    world.passes(900)
    assert (world.asked, set(world.pods)) == ((3, None), before)
    told = condition(world.status, "Ready")
    assert (told["status"], told["reason"]) == ("False", "NodeLost")
    assert f"{len(nodes)} of 3 nodes are not heard of at once, and no gateway tells" in told["message"]
    zones = condition(world.status, "ZonesHealthy")
    assert "zones look bad at once: that is more likely the observer's fault" in zones["message"]
    assert "ZoneLost" not in world.told()
    assert not [event for event in world.events if "took" in event.message], "no loss of a node is told"
    world.mend()
    world.passes(60)
    assert (world.asked, types(world.status)["Ready"], set(world.pods)) == ((3, None), "True", before)
    assert {zone["weight"] for zone in world.status.get("zones", [])} <= {100}


def test_one_node_that_is_lost_gets_its_stand_in_though_no_gateway_answers() -> None:
    world = CutOff()
    world.cut("n2")
    world.passes(60)
    assert world.asked == (4, "1")


@pytest.mark.parametrize("mute", [False, True])
def test_two_of_three_nodes_that_really_die_get_theirs_where_a_gateway_says_so(mute: bool) -> None:
    world = CutOff()
    world.mute = mute
    world.lose("n1")
    world.lose("n2")
    world.passes(60)
    assert world.asked == ((3, None) if mute else (5, "2"))
    world.mute = False
    world.passes(60)
    assert world.asked == (5, "2"), "as soon as one answers"
    assert (world.status["ready"], types(world.status)["Ready"]) == ("3/3", "True")


def test_two_of_three_nodes_that_really_die_wait_for_one_of_them_where_no_gateway_can_be_asked() -> None:
    world = CutOff()
    world.edit(traffic="Direct")
    assert world.settle()
    world.mute = True
    world.lose("n1")
    world.lose("n2")
    world.passes(300)
    assert world.asked == (3, None)
    world.heal("n1")
    world.passes(60)
    assert world.asked == (4, "1")


def test_stand_ins_from_before_stay_and_go_when_all_has_been_well_for_long_enough() -> None:
    world = CutOff()
    world.lose("n2")
    world.passes(60)
    assert world.asked == (4, "1")
    world.cut("n1", "n3")
    world.passes(600)
    assert world.asked == (4, "1")
    world.mend()
    world.passes(60)
    assert (world.asked, types(world.status)["Ready"]) == ((4, "1"), "True"), "not trusted yet"
    world.passes(1200, step=20)
    assert (world.asked, world.weights) == ((3, None), {})
