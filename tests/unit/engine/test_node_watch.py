"""When a node counts as silent: a real store, Leases that are renewed or not, a clock that is set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from pilotboat.api.reasons import Reason
from pilotboat.engine.errors import Forbidden, Unavailable
from pilotboat.engine.kinds import LEASE, MODEL_DEPLOYMENT, NODE, POD, Key, Kind
from pilotboat.engine.leader import Predecessor
from pilotboat.engine.node_watch import MOST, NAMESPACE, NodeWatch
from pilotboat.engine.store import Store
from tests.unit.engine.objects import newer, parent, pod

PATIENCE = 20.0
CHAT = Key(MODEL_DEPLOYMENT.plural, "ns", "chat")
Raw = dict[str, Any]


class World:
    """One node with a pod of `chat`, its Lease, and who was woken."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = Store(lambda: self.now)
        self.renewed: str | None = "first"
        self.away = False
        self.allowed = True
        self.looks = 0
        self.others: set[str] = set()
        """Other nodes whose Leases were looked at."""
        self.woken: list[Key] = []
        self.store.put(MODEL_DEPLOYMENT, parent("chat"))
        self.store.put(POD, pod(parent("chat"), "chat-1"))
        self.heartbeat()
        self.watch = NodeWatch(self, self.store, self.wake, lambda: self.now, every=0.001)

    def heartbeat(self) -> None:
        """The node's object, newer each time, and Ready in the eyes of Kubernetes."""
        meta = {"name": "n1", "uid": "uid-n1", "labels": {}}
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-05-01T11:00:00Z"}
        self.store.put(NODE, newer({"metadata": meta, "spec": {}, "status": {"conditions": [ready]}}))

    def wake(self, keys: Iterable[Key]) -> None:
        self.woken += keys

    async def get(self, kind: Kind, namespace: str, name: str) -> Raw | None:
        assert (kind, namespace) == (LEASE, NAMESPACE)
        if name != "n1":
            self.others.add(name)
            return None
        self.looks += 1
        if self.away:
            raise Unavailable(0, "Unavailable", "nobody there")
        if not self.allowed:
            raise Forbidden(403, "Forbidden", "not for you")
        return {"spec": {"renewTime": self.renewed, "leaseDurationSeconds": 40}} if self.renewed else None

    @property
    def lost(self) -> str | None:
        return self.store.nodes["n1"].lost

    async def after(self, seconds: float) -> None:
        """That time has passed, and looks were made since."""
        self.now += seconds
        before = self.looks
        async with asyncio.timeout(PATIENCE):
            while self.looks < before + 2:  # noqa: ASYNC110 -- there is no event for it
                await asyncio.sleep(0.001)


@asynccontextmanager
async def watching(world: World) -> AsyncIterator[None]:
    task = asyncio.create_task(world.watch.run())
    world.watch.doubt({"n1"})
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_silence_beyond_a_renewal_makes_it_suspect_until_it_is_heard_of() -> None:
    world = World()
    async with watching(world):
        await world.after(0)
        await world.after(11)
        assert world.lost is None
        await world.after(1)
        assert "no sign of its kubelet for 12 s" in (world.lost or "")
        suspect = world.store.nodes["n1"].suspect
        assert suspect is not None
        assert suspect[0] is Reason.NODE_LOST
        assert world.woken == [CHAT]
        world.heartbeat()
        assert world.lost, "what the API server still has of it is no sign of life"
        world.watch.doubt(set())
        await world.after(100)
        assert world.lost, "it is looked at until it is heard of"
        assert world.woken == [CHAT]
        world.renewed = "second"
        async with asyncio.timeout(PATIENCE):
            while world.lost:  # noqa: ASYNC110 -- there is no event for it
                await asyncio.sleep(0.001)
        assert world.woken == [CHAT, CHAT]


async def test_where_more_are_in_doubt_than_can_be_looked_at_only_the_silent_ones_are() -> None:
    world = World()
    async with watching(world):
        await world.after(0)
        await world.after(12)
        assert world.lost
        world.watch.doubt({f"n0-{number}" for number in range(MOST)})
        await world.after(1)
        assert world.others == set()
        world.watch.doubt({"n0"})
        await world.after(1)
        assert world.others == {"n0"}


async def test_a_kubelet_that_renews_is_not_silent() -> None:
    world = World()
    async with watching(world):
        for number in range(6):
            world.renewed = f"renewal {number}"
            await world.after(10)
        assert world.lost is None
        assert world.woken == []


async def test_a_control_plane_that_was_away_tells_nothing_of_nodes() -> None:
    world = World()
    async with watching(world):
        await world.after(5)
        world.away = True
        await world.after(60)
        world.away = False
        await world.after(0)
        await world.after(11)
        assert world.lost is None
        await world.after(2)
        assert world.lost


async def test_a_node_without_a_lease_is_a_matter_of_kubernetes() -> None:
    world = World()
    world.renewed = None
    async with watching(world):
        await world.after(0)
        await world.after(60)
        assert world.lost is None


async def test_who_was_lost_before_a_new_leader_came_stays_so_until_it_is_heard_of() -> None:
    """Kubernetes trusts it for half a minute more: it would be lost twice."""
    world = World()
    world.watch.take_over({"n1"})
    assert world.lost, "before the first plan is made"
    async with watching(world):
        world.watch.doubt(set())
        await world.after(5)
        assert world.lost
        world.renewed = "second"
        async with asyncio.timeout(PATIENCE):
            while world.lost:  # noqa: ASYNC110 -- there is no event for it
                await asyncio.sleep(0.001)


async def test_where_leases_cannot_be_read_what_a_leader_before_said_is_forgotten() -> None:
    world = World()
    world.allowed = False
    world.watch.take_over({"n1"})
    async with watching(world):
        await world.after(0)
        assert world.lost is None


BEFORE = Predecessor("n1", "2026-05-01T12:00:30.000000Z", silence=15.0)


@pytest.mark.parametrize(
    ("renewed", "before", "lost"),
    [
        pytest.param("2026-05-01T12:00:29.500000Z", BEFORE, True, id="both silent"),
        pytest.param("2026-05-01T12:00:39.000000Z", BEFORE, False, id="a crash: its kubelet lives"),
        pytest.param("2026-05-01T12:00:29.500000Z", replace(BEFORE, silence=5.0), False, id="a Lease of seconds"),
        pytest.param("2026-05-01T12:00:29.500000Z", replace(BEFORE, node=""), False, id="nobody knows where"),
        pytest.param("2026-05-01T12:00:29.500000Z", replace(BEFORE, renewed=""), False, id="nobody knows when"),
        pytest.param("2026-05-01T12:00:29.500000Z", None, False, id="given up"),
        pytest.param(None, BEFORE, False, id="a node without a Lease"),
    ],
)
async def test_a_leader_who_fell_silent_with_his_node_is_asked_after(
    renewed: str | None, before: Predecessor | None, lost: bool
) -> None:
    world = World()
    world.renewed = renewed
    await world.watch.ask_after(before)
    assert bool(world.lost) is lost
    if lost:
        assert world.woken == [CHAT]
        async with watching(world):
            world.watch.doubt(set())
            await world.after(5)
            assert world.lost
            world.renewed = "2026-05-01T12:01:00.000000Z"
            async with asyncio.timeout(PATIENCE):
                while world.lost:  # noqa: ASYNC110 -- there is no event for it
                    await asyncio.sleep(0.001)


def test_many_lost_at_once_are_rather_a_fault_of_the_leader_before() -> None:
    world = World()
    world.watch.take_over({"n1", *(f"other-{number}" for number in range(MOST))})
    assert world.lost is None
