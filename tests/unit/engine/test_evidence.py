"""Asking gateways what they see: real HTTP on loopback, real stores, gateways that answer well, badly or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from pilotboat.api import labels
from pilotboat.api.routing import Evidence, Minute
from pilotboat.engine.engine import utc
from pilotboat.engine.evidence import MOST_GATEWAYS, EvidencePoller
from pilotboat.engine.kinds import POD, Key
from pilotboat.engine.metrics import Metrics
from pilotboat.engine.store import Store
from tests.unit.engine.objects import newer, parent, pod

CHAT = Key("modeldeployments", "ns", "chat")
PATIENCE = 20.0


def evidence(requests: int, now: float = 1.0) -> Evidence:
    return Evidence(gateway="g-1", now=now, minutes={"r": [Minute(start=0, requests=requests)]})


@dataclass
class World:
    """One ready gateway pod, which answers as the test says, and a poller that asks it."""

    answer: Evidence | str | int
    metrics: Metrics = field(default_factory=Metrics)
    woken: asyncio.Queue[Key] = field(default_factory=asyncio.Queue)
    asked: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if isinstance(self.answer, Evidence):
            return web.json_response(self.answer.wire())
        return web.Response(status=self.answer) if isinstance(self.answer, int) else web.Response(text=self.answer)

    def wake(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.woken.put_nowait(key)

    def polls(self, result: str) -> float:
        return self.metrics.registry.get_sample_value("pilotboat_evidence_polls_total", {"result": result}) or 0

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():  # noqa: ASYNC110 -- there is no event for it
                await asyncio.sleep(0.005)


@asynccontextmanager
async def polling(world: World) -> AsyncIterator[tuple[EvidencePoller, Store]]:
    app = web.Application()
    app.router.add_get("/evidence/{name}", world.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port: int = runner.addresses[0][1]
    store = Store(asyncio.get_running_loop().time)
    gateway = pod(parent(labels.GATEWAY), "gateway-1", "gateway")
    store.put(POD, newer(gateway, status={"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}))
    poller = EvidencePoller(store, world.wake, world.metrics.evidence_polls, utc, every=0.01, port=port)
    task = asyncio.create_task(poller.run())
    try:
        yield poller, store
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await runner.cleanup()


async def test_nothing_is_asked_until_somebody_wants_to_know_and_then_news_wake_it() -> None:
    world = World(evidence(1))
    async with polling(world) as (poller, _):
        poller.want(CHAT, False)
        poller.want(CHAT, True)
        assert await asyncio.wait_for(world.woken.get(), PATIENCE) == CHAT
        assert set(world.asked) == {"/evidence/chat"}
        world.answer = evidence(2)
        await asyncio.wait_for(world.woken.get(), PATIENCE)
        ((heard, at),) = poller.of(CHAT)
        assert heard.minutes["r"][0].requests == 2
        assert at.tzinfo is not None


async def test_an_answer_that_is_no_news_wakes_nobody_but_counts_as_fresh() -> None:
    world = World(evidence(1))
    async with polling(world) as (poller, _):
        poller.want(CHAT, True)
        await asyncio.wait_for(world.woken.get(), PATIENCE)
        ((_, first),) = poller.of(CHAT)
        world.answer = evidence(1, now=2.0)
        await world.until(lambda: poller.of(CHAT)[0][1] > first)
        assert world.woken.empty()


@pytest.mark.parametrize("answer", [404, 500, "no JSON", "{}", '{"gateway": "g-1", "now": "soon"}'])
async def test_a_bad_answer_is_counted_and_nothing_else(answer: str | int) -> None:
    world = World(answer)
    async with polling(world) as (poller, _):
        poller.want(CHAT, True)
        await world.until(lambda: world.polls("failed") >= 2)
        assert poller.of(CHAT) == []
        world.answer = evidence(1)
        await asyncio.wait_for(world.woken.get(), PATIENCE)
        assert world.polls("answered") >= 1


async def test_an_agent_that_starts_again_and_again_does_not_fill_the_memory() -> None:
    world = World(evidence(1))
    async with polling(world) as (poller, _):
        poller.want(CHAT, True)
        for number in range(MOST_GATEWAYS + 3):
            world.answer = evidence(1).model_copy(update={"gateway": f"start-{number}"})
            name = world.answer.gateway
            await world.until(lambda name=name: name in {heard.gateway for heard, _ in poller.of(CHAT)})
        assert len(poller.of(CHAT)) == MOST_GATEWAYS


async def test_what_a_gateway_that_is_gone_has_said_is_kept_until_nobody_wants_it() -> None:
    world = World(evidence(1))
    async with polling(world) as (poller, store):
        poller.want(CHAT, True)
        await asyncio.wait_for(world.woken.get(), PATIENCE)
        (gone,) = store.pods(Key(labels.GATEWAYS, "ns", labels.GATEWAY))
        store.delete(POD, newer(gone))
        assert len(poller.of(CHAT)) == 1
        poller.want(CHAT, False)
        assert poller.of(CHAT) == []
