"""Which gateways callers are sent to: real HTTP on loopback addresses, a real store, gateways that fall silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web

from pilotboat.api import labels
from pilotboat.api.routing import Unreached
from pilotboat.engine.errors import Unavailable
from pilotboat.engine.floods import Floods
from pilotboat.engine.gateway_watch import MISSES, GatewayWatch
from pilotboat.engine.gateways import key_of
from pilotboat.engine.kinds import MODEL_DEPLOYMENT, POD, Key, Kind
from pilotboat.engine.metrics import Metrics
from pilotboat.engine.newcomers import Newcomers
from pilotboat.engine.store import Store
from tests.unit.engine.objects import newer, parent, pod

PATIENCE = 20.0
Raw = dict[str, Any]


class World:
    """Three gateways on addresses of their own, an API server that takes labels, and who answers."""

    def __init__(self) -> None:
        self.store = Store(asyncio.get_running_loop().time)
        self.silent: set[str] = set()
        self.asked: dict[str, int] = {}
        self.refuses = False
        self.unreached: dict[str, list[str]] = {}
        """What each gateway tells; one that is not in it knows no such page."""
        self.unseated: dict[str, list[str]] = {}
        """To whom each gateway sends no requests yet."""
        self.warmed: dict[str, dict[str, float]] = {}
        """What each gateway was told by replicas of their start."""
        self.ready = "True"
        self.newcomers = Newcomers(lambda keys: None, asyncio.get_running_loop().time)
        self.flooded: dict[str, dict[str, int]] = {}
        """Feedback that each gateway says it has refused of late."""
        self.woken: list[Key] = []
        self.floods = Floods(self.woken.extend)
        self.doubts: set[str] = set()
        self.over = asyncio.Event()
        """Until then the silent ones hold what they are asked."""
        self.store.put(MODEL_DEPLOYMENT, parent("chat", spec={"traffic": "Gateway"}))
        for number in (1, 2, 3):
            self.put(pod(parent(labels.GATEWAY), f"gateway-{number}", "gateway"), number)

    def put(self, raw: Raw, number: int) -> None:
        raw["metadata"]["labels"][labels.SERVING] = labels.SERVES
        address, ready = f"127.0.9.{number}", {"type": "Ready", "status": self.ready}
        self.store.put(POD, newer(raw, status={"podIP": address, "phase": "Running", "conditions": [ready]}))

    def leave(self, name: str) -> None:
        """It is gone."""
        live = self.store.find(POD, "ns", name)
        assert live
        self.store.delete(POD, newer(live))

    def change(self, name: str, how: str) -> None:
        """It answers, and callers are not sent to it."""
        live = self.store.find(POD, "ns", name)
        assert live
        if how == "leaving":
            live["metadata"]["deletionTimestamp"] = "2026-05-01T12:00:00Z"
        else:
            live["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
        self.store.put(POD, newer(live))

    async def merge(self, kind: Kind, namespace: str, name: str, body: Raw) -> Raw:
        """As the API server and the watch of pods."""
        if self.refuses:
            raise Unavailable(0, "Unavailable", "nobody there")
        live = self.store.find(kind, namespace, name)
        assert live is not None
        live["metadata"]["labels"] |= body["metadata"]["labels"]
        self.store.put(kind, newer(live))
        return live

    def serving(self) -> set[str]:
        pods = self.store.pods(key_of("ns"))
        return {p["metadata"]["name"] for p in pods if p["metadata"]["labels"][labels.SERVING] == labels.SERVES}

    async def answer(self, request: web.Request) -> web.Response:
        name = f"gateway-{request.host.rpartition(':')[0].rpartition('.')[2]}"
        self.asked[name] = self.asked.get(name, 0) + 1
        if name in self.silent:
            await self.over.wait()
        if name not in self.unreached:
            return web.Response(status=404)
        asked = request.query.get("of", "").split(",")
        unseated = [each for each in self.unseated.get(name, ()) if each in asked]
        warmed, flooded = self.warmed.get(name, {}), self.flooded.get(name, {})
        told = Unreached(pods=self.unreached[name], unseated=unseated, warmed=warmed, flooded=flooded)
        return web.Response(text=told.model_dump_json())

    def doubt(self, nodes: set[str]) -> None:
        self.doubts = nodes

    async def rounds(self, count: int) -> None:
        """So many questions to one that answers."""
        name = min({"gateway-1", "gateway-2", "gateway-3"} - self.silent)
        before = self.asked.get(name, 0)
        async with asyncio.timeout(PATIENCE):
            while self.asked.get(name, 0) < before + count:  # noqa: ASYNC110 -- there is no event for it
                await asyncio.sleep(0.005)

    async def become(self, wanted: set[str]) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.serving() != wanted:  # noqa: ASYNC110 -- there is no event for it
                await asyncio.sleep(0.005)


@asynccontextmanager
async def watching(world: World, every: float = 0.01) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_get("/unreached", world.answer)
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        first = web.TCPSite(runner, "127.0.9.1", 0)
        await first.start()
        port: int = runner.addresses[0][1]
        for number in (2, 3):
            await web.TCPSite(runner, f"127.0.9.{number}", port).start()
        marks = Metrics().gateway_marks
        watch = GatewayWatch(
            world, world.store, marks, world.doubt, world.newcomers, world.floods, every=every, timeout=0.2, port=port
        )
        task = asyncio.create_task(watch.run())
        try:
            yield
            assert not task.done()
        finally:
            world.over.set()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


ALL = {"gateway-1", "gateway-2", "gateway-3"}


async def test_one_that_falls_silent_is_taken_out_and_put_back_when_it_answers() -> None:
    world = World()
    async with watching(world):
        await world.rounds(5)
        assert world.serving() == ALL
        world.silent.add("gateway-2")
        await world.become(ALL - {"gateway-2"})
        world.silent.clear()
        await world.become(ALL)


async def test_where_none_answers_it_is_rather_we_who_are_cut_off() -> None:
    world = World()
    async with watching(world):
        await world.rounds(1)
        world.silent |= ALL
        asked = dict(world.asked)
        async with asyncio.timeout(PATIENCE):
            while min(world.asked[name] - asked[name] for name in ALL) < 2 * MISSES:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert world.serving() == ALL


async def test_a_lone_gateway_that_answers_again_is_put_back() -> None:
    world = World()
    async with watching(world):
        world.silent.add("gateway-2")
        await world.become({"gateway-1", "gateway-3"})
        for name in ("gateway-1", "gateway-3"):
            world.leave(name)
        world.silent.clear()
        await world.become({"gateway-2"})


@pytest.mark.parametrize("how", ["leaving", "unready"])
async def test_who_takes_no_requests_is_none_for_whom_the_last_one_is_taken_out(how: str) -> None:
    """One that was told to end answers for ten minutes more."""
    world = World()
    world.leave("gateway-3")
    world.change("gateway-1", how)
    async with watching(world):
        world.silent = {"gateway-2"}
        await world.rounds(3 * MISSES)
        assert "gateway-2" in world.serving()


async def test_a_write_that_fails_is_tried_again() -> None:
    world = World()
    async with watching(world):
        world.refuses = True
        world.silent.add("gateway-3")
        await world.rounds(MISSES + 3)
        assert world.serving() == ALL
        world.refuses = False
        await world.become(ALL - {"gateway-3"})


def replica(world: World, name: str, node: str, ready: str) -> None:
    raw = pod(parent("chat"), name)
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}
    world.store.put(POD, newer(raw, spec={"nodeName": node, "containers": []}, status=status))


async def test_a_node_is_in_doubt_where_no_gateway_reaches_a_replica_that_is_called_ready() -> None:
    world = World()
    for name, node, ready in (("a", "node-1", "True"), ("b", "node-2", "True"), ("c", "node-3", "False")):
        replica(world, name, node, ready)
    world.unreached = {"gateway-1": ["a", "b", "c", "gone"], "gateway-2": ["a", "c", "gone"], "gateway-3": ["a", "c"]}
    async with watching(world):
        await world.rounds(3)
        assert world.doubts == {"node-1"}
        world.silent.add("gateway-2")  # who says nothing contradicts nobody
        world.unreached["gateway-3"] = ["a", "b"]
        await world.rounds(3)
        assert world.doubts == {"node-1", "node-2"}
        world.unreached["gateway-1"] = []
        await world.rounds(3)
        assert world.doubts == set()


async def test_an_agent_from_before_reaches_everybody() -> None:
    world = World()
    replica(world, "a", "node-1", "True")
    world.unreached = {"gateway-1": ["a"], "gateway-2": ["a"]}
    async with watching(world):
        await world.rounds(3)
        assert world.doubts == set()
        assert world.serving() == ALL


CHAT = Key(MODEL_DEPLOYMENT.plural, "ns", "chat")


async def test_a_replica_is_new_until_every_gateway_that_takes_requests_has_a_place_for_it() -> None:
    world = World()
    world.unreached = {name: [] for name in ALL}
    world.unseated = {"gateway-1": ["a"], "gateway-2": ["a", "b"]}
    world.warmed = {"gateway-3": {"b": 0.5, "c": 0.25}}
    async with watching(world):
        await world.rounds(3)
        assert world.newcomers.of(CHAT, set()) == set()
        assert world.newcomers.of(CHAT, {"a", "b", "c"}) == {"a", "b", "c"}
        await world.rounds(3)
        assert world.newcomers.of(CHAT, {"a", "b", "c"}) == {"a", "b"}
        assert world.newcomers.warmed(CHAT) == {"c": 0.25}, "one of them is enough to tell of it"
        world.unseated["gateway-1"] = []
        await world.rounds(3)
        assert world.newcomers.of(CHAT, {"a", "b", "c"}) == {"a", "b"}
        world.ready = "False"  # callers are not sent to it
        world.put(pod(parent(labels.GATEWAY), "gateway-2", "gateway"), 2)
        await world.rounds(3)
        assert world.newcomers.of(CHAT, {"a", "b", "c"}) == set()


async def test_a_newcomer_is_asked_about_at_once_and_nobody_is_taken_out_for_it() -> None:
    """No round comes: what is heard, is heard in between."""
    world = World()
    world.unreached = {name: [] for name in ALL}
    world.silent = {"gateway-3"}
    async with watching(world, every=3600):
        assert world.newcomers.of(CHAT, set()) == set()
        for names in ({"a"}, {"a", "b"}, {"a", "b", "c"}):
            assert world.newcomers.of(CHAT, names)
            async with asyncio.timeout(60):
                while world.newcomers.of(CHAT, names):  # noqa: ASYNC110 -- there is no event for it
                    await asyncio.sleep(0.005)
        assert world.serving() == set(ALL)


async def test_an_agent_from_before_has_a_place_for_everybody() -> None:
    world = World()
    async with watching(world):
        await world.rounds(3)
        world.newcomers.of(CHAT, set())
        assert world.newcomers.of(CHAT, {"a"}) == {"a"}
        await world.rounds(3)
        assert world.newcomers.of(CHAT, {"a"}) == set()


async def test_feedback_that_was_refused_is_added_up_and_wakes_its_deployment_once() -> None:
    world = World()
    world.unreached = {f"gateway-{number}": [] for number in (1, 2)}
    world.flooded = {"gateway-1": {"chat": 5}, "gateway-2": {"chat": 7, "other": 1}}
    other = Key(CHAT.plural, "ns", "other")
    async with watching(world):
        await world.rounds(5)
        assert (world.floods.of(CHAT), world.floods.of(other)) == (12, 1)
        assert sorted(world.woken) == [CHAT, other]
        world.flooded = {"gateway-2": {"chat": 1}}
        await world.rounds(2)
        assert (world.floods.of(CHAT), world.floods.of(other)) == (1, 0)
        world.flooded = {}
        await world.rounds(2)
        world.flooded = {"gateway-1": {"chat": 2}}
        await world.rounds(2)
    assert sorted(world.woken) == [CHAT, CHAT, other]


def test_a_namespace_whose_gateway_is_gone_is_forgotten() -> None:
    floods = Floods(lambda keys: None)
    floods.told("ns", [{"chat": 5}])
    floods.only({"other"})
    assert floods.of(CHAT) == 0
