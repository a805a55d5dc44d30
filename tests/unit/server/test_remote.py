"""The socket between an HTTP worker and the engine: both ends in one loop, over a real socket pair."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from pilotboat_server.bridge import Bridge
from pilotboat_server.errors import BadRequest, Unavailable
from pilotboat_server.host import EngineHost
from pilotboat_server.remote import RemoteBackend
from pilotboat_server.types import Delta, Done, GenerateRequest, Sampling
from pilotboat_server.wire import Channel
from tests.unit.server.harness import config, make_host, until


def request(text: str) -> tuple[GenerateRequest]:
    return (GenerateRequest("r", 0.0, Sampling(0.0, 1.0, max_tokens=5), text=text),)


async def channel(end: socket.socket) -> Channel:
    return Channel(*await asyncio.open_unix_connection(sock=end))


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[EngineHost, RemoteBackend, Channel, Channel]]:
    host = make_host(config({"maxLength": 32}))
    await host.start()
    ours, theirs = socket.socketpair()
    engine_end, worker_end = await channel(ours), await channel(theirs)
    bridge = asyncio.create_task(Bridge(host, engine_end).run())
    remote = await RemoteBackend.connect(worker_end)
    reading = asyncio.create_task(remote.run())
    try:
        yield host, remote, engine_end, worker_end
    finally:
        worker_end.close()
        await bridge
        await reading


async def test_events_arrive_in_order_and_end_with_done() -> None:
    async with connected() as (_, remote, _, _):
        events = [event async for _, event in remote.generate(request("one two"))]
    assert [type(event) for event in events] == [Delta] * 5 + [Done]
    assert events[-1] == Done("length", 2, 5)


async def test_many_at_a_time_are_not_mixed_up() -> None:
    async with connected() as (host, remote, _, _):

        async def text(prompt: str) -> str:
            return "".join([e.text async for _, e in remote.generate(request(prompt)) if isinstance(e, Delta)])

        prompts = [f"prompt {number}" for number in range(20)]
        together = await asyncio.gather(*map(text, prompts))
        assert together == [await text(prompt) for prompt in prompts]
        assert host.scheduler.running == 0


async def test_choices_are_told_apart_and_an_error_ends_all() -> None:
    choices = request("one two") * 3
    async with connected() as (host, remote, _, _):
        events = [pair async for pair in remote.generate(choices)]
        with pytest.raises(BadRequest):
            async for _ in remote.generate(request("fake:delay=60") + request("word " * 40)):
                pass
        await until(lambda: host.scheduler.running == 0)
    assert [[type(e) for of, e in events if of == place] for place in range(3)] == [[Delta] * 5 + [Done]] * 3


async def test_what_cannot_be_sent_leaves_nothing_behind() -> None:
    async with connected() as (_, remote, _, _):
        with pytest.raises(UnicodeEncodeError):
            await anext(remote.generate(request("\ud800")))
        assert not remote.waiting


async def test_an_error_of_the_engine_is_raised_here() -> None:
    async with connected() as (_, remote, _, _):
        with pytest.raises(BadRequest) as caught:
            async for _ in remote.generate(request("word " * 40)):
                pass
    assert (caught.value.param, caught.value.code) == ("prompt", "context_length_exceeded")


async def test_leaving_early_cancels_over_there() -> None:
    async with connected() as (host, remote, _, _):
        async with aclosing(remote.generate(request("fake:delay=0.005 fake:tokens=9999"))) as events:
            await anext(events)
            assert host.scheduler.running == 1
        await until(lambda: host.scheduler.running == 0)


async def test_a_dead_workers_requests_are_cancelled() -> None:
    async with connected() as (host, remote, _, worker_end):
        task = asyncio.create_task(anext(remote.generate(request("fake:delay=60"))))
        await until(lambda: host.scheduler.running == 1)
        worker_end.close()
        await until(lambda: host.scheduler.running == 0)
        with pytest.raises(Unavailable):
            await task


async def test_a_dead_engine_ends_what_waits() -> None:
    async with connected() as (host, remote, engine_end, _):
        task = asyncio.create_task(anext(remote.generate(request("fake:delay=60"))))
        await until(lambda: host.scheduler.running == 1)
        engine_end.close()
        with pytest.raises(Unavailable):
            await task


async def test_what_is_asked_of_a_dead_engine_is_answered_at_once() -> None:
    async with connected() as (_, remote, engine_end, _):
        engine_end.close()
        async with asyncio.timeout(10):
            await remote.gone.wait()
            for asked in (anext(remote.generate(request("one"))), remote.health(), remote.metrics()):
                with pytest.raises(Unavailable):
                    await asked
        assert not remote.waiting


async def test_health_metrics_and_info_are_the_engines() -> None:
    async with connected() as (host, remote, _, _):
        health, metrics = await remote.health(), await remote.metrics()
    assert (health.phase, remote.info) == ("serving", host.info)
    assert b"vllm:num_requests_running" in metrics
