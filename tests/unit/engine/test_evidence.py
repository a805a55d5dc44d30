"""Asking gateways what they see: real HTTP on loopback, real stores, gateways that answer well, badly or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from pilotboat.api import labels
from pilotboat.api.routing import Evidence, Minute, PodMinute
from pilotboat.engine import evidence as evidence_module
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


def newer_than(since: float, whole: Evidence) -> Evidence:
    """What an agent tells of it."""
    minutes = {name: [each for each in told if each.start >= since] for name, told in whole.minutes.items()}
    pods = [each for each in whole.pods if each.start >= since]
    return whole.model_copy(update={"minutes": minutes, "pods": pods})


def a_day(until: int, gateway: str = "g-1") -> Evidence:
    """Of two revisions and three pods; each minute tells other counts."""
    starts = range(max(0, until - 24 * 3600), until, 60)
    return Evidence(
        gateway=gateway,
        now=until - 30,
        minutes={name: [Minute(start=each, requests=each // 60) for each in starts] for name in ("r", "s")},
        pods=[PodMinute(pod=f"p{n}", revision="r", start=each) for each in reversed(starts) for n in range(3)],
    )


@dataclass
class World:
    """One ready gateway pod, which answers as the test says, and a poller that asks it."""

    answer: Evidence | str | int
    metrics: Metrics = field(default_factory=Metrics)
    woken: asyncio.Queue[Key] = field(default_factory=asyncio.Queue)
    asked: list[str] = field(default_factory=list)
    since: list[float] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        self.since.append(float(request.query["since"]))
        if isinstance(self.answer, Evidence):
            return web.json_response(newer_than(self.since[-1], self.answer).wire())
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


@pytest.mark.parametrize(
    "answer", [404, 500, "no JSON", "{}", '{"gateway": "g-1", "now": "soon"}', '{"gateway": "g-1", "now": Infinity}']
)
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


async def test_after_its_first_answer_a_gateway_is_asked_for_what_may_have_grown_and_plans_see_all_of_it() -> None:
    world = World(a_day(6000))
    async with polling(world) as (poller, _):
        poller.want(CHAT, True)
        for until in (6000, 6060, 6240, 100_000):
            world.answer = a_day(until)
            await world.until(lambda until=until: [each.now for each, _ in poller.of(CHAT)] == [until - 30])
            ((heard, _),) = poller.of(CHAT)
            assert heard.minutes == world.answer.minutes
            assert heard.pods == world.answer.pods
    assert world.since[0] == 0
    assert set(world.since[1:]) <= {5880, 5940, 6120, 99_880}
    assert {5880, 5940, 6120} <= set(world.since)


async def test_minutes_that_a_gateway_has_forgotten_are_kept_for_a_day() -> None:
    world = World(a_day(6000))
    async with polling(world) as (poller, _):
        poller.want(CHAT, True)
        await asyncio.wait_for(world.woken.get(), PATIENCE)
        for now in (86_400, 86_400 + 3000):
            world.answer = Evidence(gateway="g-1", now=now)
            await world.until(lambda now=now: poller.of(CHAT)[0][0].now == now)
            told = [each.start for each in poller.of(CHAT)[0][0].minutes["r"]]
            assert told == list(range(now - 86_400, 5880, 60))


async def test_another_gateway_at_the_same_address_is_asked_for_all_of_it() -> None:
    world = World(a_day(6000))
    async with polling(world) as (poller, _):
        poller.want(CHAT, True)
        await asyncio.wait_for(world.woken.get(), PATIENCE)
        world.answer = a_day(9000, "g-2")
        await world.until(lambda: "g-2" in {heard.gateway for heard, _ in poller.of(CHAT)})
        assert poller.of(CHAT)[1][0] == world.answer
        poller.want(CHAT, False)
        poller.want(CHAT, True)
        await world.until(lambda: bool(poller.of(CHAT)))
        assert poller.of(CHAT)[0][0] == world.answer, "who forgets asks for all of it"


async def test_of_many_pods_the_newest_minutes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_module, "POD_MINUTES", 9)
    world = World(a_day(6000))
    async with polling(world) as (poller, _):
        poller.want(CHAT, True)
        for until in (6000, 6060, 6120):
            world.answer = a_day(until)
            await world.until(lambda until=until: [each.now for each, _ in poller.of(CHAT)] == [until - 30])
        assert [each.start for each in poller.of(CHAT)[0][0].pods] == [6060] * 3 + [6000] * 3 + [5940] * 3


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
