"""The deep health check: a token through the engine for whoever asks, without a key, and never a load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from pilotboat_server.deepcheck import DeepCheck
from pilotboat_server.types import GenerateRequest, Sampling
from tests.unit.server.harness import HELLO, config, serving, until
from tests.unit.server.test_remote import connected

PATH = "/readyz/inference"
CHAT = "/v1/chat/completions"
GOOD = {"ok": True, "message": ""}


async def test_a_token_through_the_engine_needs_no_key_and_is_in_no_figure() -> None:
    async with serving(api_keys=("k",)) as running:
        answer = await running.http.get(PATH)
        assert (answer.status_code, answer.json()) == (200, GOOD)
        assert await running.metric("vllm:generation_tokens_total") == 0
        assert (await running.http.post(CHAT, json={"messages": HELLO})).status_code == 401


async def test_an_engine_that_hangs_fails_and_is_given_no_second_one() -> None:
    """Nor does the port's being open hide it: what hangs is work that gives no sign of life."""
    async with serving(config(fake={"hangRatio": 1.0}), stall_seconds=0.5) as running:
        assert (await running.http.get("/livez")).status_code == 200
        for _ in range(3):
            answer = await running.http.get(PATH)
            assert (answer.status_code, answer.json()["message"]) == (503, "no token within 0.5 s")
            assert running.host.scheduler.running == 1
        await until(lambda: running.host.scheduler.quiet_seconds(time.monotonic()) > 0.5)
        assert (await running.http.get("/livez")).status_code == 503


async def test_an_engine_that_fails_says_why() -> None:
    async with serving(config(fake={"failRatio": 1.0})) as running:
        answer = await running.http.get(PATH)
    assert (answer.status_code, answer.json()["ok"]) == (503, False)
    assert "told to fail" in answer.json()["message"]


async def test_who_takes_no_requests_infers_nothing() -> None:
    async with serving(load=False) as running:
        assert (await running.http.get(PATH)).json()["message"] == "The model is still being loaded."
        await running.host.start()
        assert (await running.http.get(PATH)).status_code == 200
        running.host.broken(RuntimeError("no more"))
        answer = await running.http.get(PATH)
    assert (answer.status_code, answer.json()["message"]) == (503, "The engine has failed.")


async def test_where_the_queue_is_full_it_waits_for_a_place_as_the_others_do() -> None:
    async with serving(config({"batchSize": 1}, {"maxQueuedRequests": 0})) as running:
        slow = GenerateRequest("r", 0.0, Sampling(0, 1), text="fake:delay=60")
        async with aclosing(running.host.generate((slow,))) as events:
            held = asyncio.ensure_future(anext(events))
            await until(lambda: running.host.scheduler.running == 1)
            asked = asyncio.create_task(running.http.get(PATH))
            await until(lambda: running.host.scheduler.waiting == 1)
            held.cancel()
            assert (await asked).status_code == 200


async def test_a_token_that_waits_behind_others_that_go_on_is_as_good_as_one() -> None:
    async with serving(config({"batchSize": 1}, {"maxQueuedRequests": 0}), stall_seconds=2) as running:
        long = GenerateRequest("r", 0.0, Sampling(0, 100_000), text="fake:tokens=5000 fake:delay=0.01")
        async with aclosing(running.host.generate((long,))) as events:
            await anext(events)
            reading = asyncio.create_task(read(events))
            answer = await running.http.get(PATH)
            assert (answer.status_code, answer.json()) == (200, GOOD)
            assert running.host.scheduler.waiting == 1, "it still waits"
            reading.cancel()
            await asyncio.wait((reading,))


async def read(events: AsyncGenerator[object, None]) -> None:
    async for _ in events:
        pass


async def test_an_engine_that_raises_what_nobody_foresaw_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that is never answered would be asked for ever, by each worker."""
    async with connected() as (host, remote, _, _):

        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(host.scheduler, "generate", broken)
        assert await remote.inference() == "ZeroDivisionError"


async def test_every_worker_is_told_the_engines_own() -> None:
    async with connected() as (host, remote, _, _):
        assert await remote.inference() == ""
        host.broken(RuntimeError("no more"))
        assert await remote.inference() == "The engine has failed."


@pytest.mark.parametrize(("kept", "runs"), [(3600.0, 1), (0.0, 3)])
async def test_whoever_asks_at_once_or_soon_after_gets_the_same_answer(kept: float, runs: int) -> None:
    begun, go = 0, asyncio.Event()

    async def infer() -> str:
        nonlocal begun
        begun += 1
        await go.wait()
        return f"number {begun}"

    check = DeepCheck(infer, lambda: 0.0, kept=kept)
    together = [asyncio.create_task(check.outcome()) for _ in range(20)]
    await until(lambda: begun == 1)
    go.set()
    assert await asyncio.gather(*together) == ["number 1"] * 20
    assert [await check.outcome() for _ in range(2)][-1] == f"number {runs}"
