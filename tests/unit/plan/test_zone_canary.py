"""A zone that is lost in the middle of a canary: what it keeps is told by revision; in the miniature."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pilotboat.api.routing import Route
from pilotboat.plan import build, diagnose
from tests.unit.plan.test_recovery import ZONES, Partly, World
from tests.unit.plan.world import condition

GATES = {gate: {"enabled": False} for gate in ("firstToken", "perToken")}


class Split(Partly):
    """Stable and a canary, in three zones; of a zone that is lost some replicas serve on."""

    def __init__(self, weight: int, replicas: int = 6, surge: str = "Always", **zones: Any) -> None:
        super().__init__(replicas=replicas, room=40, failover={"threshold": 30}, **zones)
        self.edit(rollout={"steps": [{"weight": weight, "hold": "1h"}], "surge": surge, "analysis": GATES})
        assert self.settle()
        self.stable = self.status["currentRevision"]
        self.edit(inference={"batchSize": 7})
        assert self.settle()
        self.canary = self.status["updateRevision"]
        assert self.status["rollout"]["weight"] == weight

    def serving(self, revision: str, *nodes: str) -> list[str]:
        """Replicas of a revision that serve there."""
        mine = build.of_revision((pod.raw for _, pod in self.pods.values()), revision)
        names = [pod["metadata"]["name"] for pod in mine]
        return sorted(name for name in names if self.serves(name) and self.node_of(name) in nodes)

    def lose_in_part(self, node: str, *gone: str) -> None:
        """Nobody hears of the node; these replicas there are dead, and the others serve, as gateways know."""
        self.lost.add(node)
        self.gone |= set(gone)
        for name, (_, pod) in self.pods.items():
            if self.node_of(name) == node:
                pod.condition("Ready", "False", since=self.time)


def test_what_a_canary_has_elsewhere_makes_up_for_nothing_that_stable_bears() -> None:
    """Of stable five of the six replicas that 90 % need serve elsewhere, with its stand-in, and one of the canary."""
    world = Split(10)
    world.lose_in_part("n2", *world.serving(world.stable, "n2")[1:], *world.serving(world.canary, "n2"))
    world.passes(90)
    assert len(world.serving(world.stable, "n1", "n3")) == 5
    assert len(world.serving(world.canary, "n1", "n3")) == 1
    assert world.weights.get("b", 100) == 100
    told = condition(world.status, "ZonesHealthy")
    assert told["reason"] == "CapacityPending"
    assert "1 replicas are missing elsewhere" in told["message"]
    world.edit(zones={"failover": {"threshold": 30}, "spare": 1})
    world.passes(60)
    assert world.weights == {"b": 0}


class Rolled(World):
    """Revision by revision, without steps."""

    @property
    def split(self) -> list[tuple[int, int]]:
        """Of each revision that is to stay its share, and how many of its replicas serve where they get requests."""
        raw = next(raw for ref, raw in self.objects.items() if ref.name == "chat-route")
        shares = {lane.revision: lane.share for lane in Route.load(raw["data"]["route.json"]).lanes}
        staying = [each for each in self.deployments if each["spec"]["replicas"]]
        counts = {each["metadata"]["name"].removeprefix("chat-"): self.pods_of(each) for each in staying}
        return [(shares.get(name, 0), sum(map(self.answers, pods))) for name, pods in counts.items()]

    def answers(self, name: str) -> bool:
        return self.serves(name) and self.weights.get(ZONES[self.node_of(name) or ""], 100) > 0


def test_where_one_revision_replaces_another_replicas_that_get_nothing_have_no_part_in_its_share() -> None:
    world = Rolled(replicas=6, room=20)
    world.lose("n2")
    world.passes(60)
    world.heal("n2")
    world.passes(10)
    assert world.weights == {"b": 0}
    world.edit(inference={"batchSize": 7})
    seen = []
    for _ in range(40):
        world.carry_out(world.plan())
        whole = sum(ready for _, ready in world.split)
        for share, ready in world.split:
            assert abs(share - 1000 * ready / whole) <= 1
        seen.append(len([share for share, _ in world.split if share]))
        world.follow()
    assert 2 in seen


@pytest.mark.parametrize("mode", ["Automatic", "Manual"])
def test_who_stands_in_stays_until_the_zone_has_its_whole_share(mode: str) -> None:
    """Its node is trusted before it, and by hand it may wait for days."""
    world = Rolled(failback={"mode": mode})
    world.lose("n2")
    world.passes(60)
    world.heal("n2")
    seen = []
    for _ in range(200):
        world.passes(5)
        seen.append(world.weights.get("b", 100))
        assert sum(map(world.answers, world.pods)) >= 3 + (seen[-1] in range(1, 100))
    assert set(seen) == ({0, 10, 25, 50, 100} if mode == "Automatic" else {0})
    assert world.asked == ((3, None) if mode == "Automatic" else (4, "1"))


class Believing(Rolled):
    """Kubernetes counts whom it calls ready, though he may be dead."""

    def report(self, deployment: dict[str, Any]) -> None:
        super().report(deployment)
        ready = sum(diagnose.ready(self.pods[name][1].raw) for name in self.pods_of(deployment))
        deployment["status"] |= {"availableReplicas": ready}

    def _kept(self, name: str) -> tuple[Any, ...]:
        placed, _, *rest = super()._kept(name)
        return placed, diagnose.ready(self.pods[name][1].raw), *rest

    def revisions(self) -> dict[str, int]:
        """How many replicas of each serve where they get requests."""
        found = Counter(name.split("-")[1] for name in self.pods if self.answers(name))
        return dict(sorted(found.items()))

    def watch(self, seconds: int, least: int) -> None:
        """Time goes by, and never do fewer get requests."""
        for _ in range(0, seconds, 5):
            self.passes(5)
            assert sum(self.revisions().values()) >= least, (self.revisions(), self.weights)


STEPS = [{"weight": 10, "hold": "1m"}, {"weight": 50, "hold": "1m"}]


@pytest.mark.parametrize("steps", [[], STEPS], ids=["at once", "a canary"])
def test_a_rollout_beside_a_zone_that_gets_nothing_takes_nobody_away_whom_requests_need(steps: list[Any]) -> None:
    """Of six new ones some are there: until a person approves of the zone, as many old ones stay."""
    failback = {"mode": "Manual", "after": "1m"}
    world = Believing(replicas=6, room=30, failback=failback)
    judged = {"analysis": GATES | {"errors": {"enabled": False}}, "deadline": "10m"}
    world.edit(rollout={"steps": steps, **judged} if steps else {})
    world.lose("n2")
    world.passes(60)
    world.heal("n2")
    world.passes(10)
    old = world.status["currentRevision"]
    world.edit(inference={"batchSize": 7})
    world.watch(1200, 6)
    new = world.status["updateRevision"]
    assert world.weights == {"b": 0}
    there = world.revisions()
    assert there[new] >= 2, "others are made beside those that get nothing"
    assert there[old]
    told = condition(world.status, "Ready")["message"]
    assert f"; {6 - there[new]} more are ready, and are lost or in a zone without its share of the requests" in told
    assert told.startswith(f"{there[new]} of 6 replicas updated") or steps
    assert "rollouts" not in world.status, "no deadline has run"
    world.edit(zones={"failback": failback | {"approved": ["b"]}})
    world.watch(900, 6)
    assert (world.asked, world.revisions(), world.weights) == ((6, None), {new: 6}, {})


def test_a_rollout_counts_on_nobody_who_is_dead_though_kubernetes_calls_him_ready() -> None:
    """A new one becomes ready, so that an old one could go, and dies before anything is made of that."""
    world = Believing(replicas=2, room=30)
    old = world.status["currentRevision"]
    world.edit(inference={"batchSize": 7})
    world.carry_out(world.plan())
    while sum(world.revisions().values()) < 3:
        world.follow()
    (new,) = [name for name in world.pods if name.split("-")[1] != old]
    world.lose(world.node_of(new) or "", noticed=False)
    alive = world.revisions()
    assert alive == {old: 2}
    for _ in range(3):
        world.pass_on()
        for deployment in world.deployments:
            world.control(deployment)
        assert world.revisions() == alive
