"""The level of processes: what dies or hangs is noticed, by its progress and not by an open port, and soon replaced."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from standins import tiny
from tests.integration.serverproc import ServerProcess, gone, is_alive, server_process

FAKE: dict[str, Any] = {"model": {"path": "/none", "name": "m"}, "engine": {"type": "Fake"}}
HANGS = FAKE | {"engine": {"type": "Fake", "fake": {"hangRatio": 1.0}}}
STALL = 1.5
QUICK = {"PILOTBOAT_STALL_SECONDS": str(STALL)}


def ask(text: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


@contextlib.asynccontextmanager
async def asked(server: ServerProcess, text: str) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """A request under way."""
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as http:
        task = asyncio.create_task(http.post("/v1/chat/completions", json=ask(text)))
        yield task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def probed(server: ServerProcess, probe: str = "livez") -> AsyncIterator[tuple[int, dict[str, Any]]]:
    """What a probe answers, again and again."""
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        while True:
            answer = await http.get(f"/{probe}")
            yield answer.status_code, answer.json()


async def failing(server: ServerProcess) -> dict[str, Any]:
    """What /livez says once it fails."""
    async with asyncio.timeout(180):
        return await anext(body async for code, body in probed(server) if code == 503)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_hung_engine_fails_its_probes_and_then_ends_without_waiting_for_its_streams(
    tmp_path: Path, workers: int
) -> None:
    config = HANGS | {"service": {"workers": workers}}
    async with server_process(tmp_path, config, QUICK) as server:
        async for code, body in probed(server):
            assert (code, body["stalled"]) == (200, False), "idle is not hung"
            if body["phase_seconds"] > 2 * STALL:
                break
        async with asked(server, "are you there?") as request:
            told = await failing(server)
            assert (told["stalled"], told["running"]) == (True, 1)
            assert (await anext(aiter(probed(server, "readyz"))))[0] == 503
            began = time.monotonic()
            server.terminate()
            assert await server.exit_code() == 0
            assert time.monotonic() - began < 30, "a drain may last 80 s"
            with contextlib.suppress(httpx.HTTPError):
                assert (await request).status_code == 500


async def test_an_engine_that_is_slow_but_moves_is_left_alone(tmp_path: Path) -> None:
    slow = f"fake:delay={STALL / 3} fake:tokens=9"
    async with server_process(tmp_path, FAKE, QUICK) as server, asked(server, slow) as request:
        async for code, body in probed(server):
            assert code == 200, body
            if request.done():
                break
        assert request.result().status_code == 200


async def test_an_open_port_is_no_sign_of_life(tmp_path: Path) -> None:
    """The whole engine process stands still: its workers accept connections, and no probe gets an answer."""
    async with server_process(tmp_path, FAKE | {"service": {"workers": 2}}) as server:
        workers = server.workers()
        server.process.send_signal(signal.SIGSTOP)
        async with httpx.AsyncClient(base_url=server.url, timeout=httpx.Timeout(30, read=2)) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.get("/livez")
        server.process.kill()
        await gone(workers, is_alive)


async def test_a_hung_worker_is_replaced_and_the_others_keep_their_streams(tmp_path: Path) -> None:
    config = FAKE | {"service": {"workers": 3}}
    async with server_process(tmp_path, config, {"PILOTBOAT_WORKER_SECONDS": "10"}) as server:
        (hung, *others) = server.workers()
        os.kill(hung, signal.SIGSTOP)
        async with asked(server, "fake:delay=0.05 fake:tokens=400") as request:
            await server.seen("worker_hung", worker_pid=hung)
            await server.seen("worker_died", exit_code=-signal.SIGKILL)
            await server.seen("worker_started", count=4)
            assert (await request).status_code == 200
        assert set(others) < set(server.workers()), "those that answer are left alone"
        assert len(await server.seen("worker_hung")) == 1


async def test_a_killed_server_serves_again_soon_after_its_model_is_loaded(tmp_path: Path) -> None:
    config = {"model": {"path": str(tiny.make(tmp_path / "tiny")), "name": "m"}, "service": {"workers": 2}}
    async with server_process(tmp_path, config) as server:
        workers = server.workers()
        server.process.kill()
        await gone(workers, is_alive)
    began = time.monotonic()
    async with server_process(tmp_path, config) as server, asked(server, "and now?") as request:
        assert (await request).status_code == 200
        took = time.monotonic() - began
        start = (await anext(aiter(probed(server, "startupz"))))[1]["startup_seconds"]
    load = start["loading"] + start["warming"]
    print(f"served {took:.1f} s after the restart, {load:.1f} s of that for the model; promised are 5 s more than that")


async def test_a_killed_worker_costs_no_reload(tmp_path: Path) -> None:
    async with server_process(tmp_path, FAKE | {"service": {"workers": 2}}) as server:
        began = time.monotonic()
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        await server.seen("worker_started", count=4)
        async with asked(server, "still there?") as request:
            assert (await request).status_code == 200
        print(f"served {time.monotonic() - began:.1f} s after all workers were killed")
        assert len(await server.seen("phase", phase="serving")) == 1, "the model was loaded once"
