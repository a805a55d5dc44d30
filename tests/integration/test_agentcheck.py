"""A real HAProxy reads the server's agent check: weight by load, out while draining, and nothing that lingers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from pilotboat_server import agentcheck
from tests.integration.gatewayproc import shipped
from tests.unit.server.harness import Running, config, serving, until

CONFIG = """
global
    stats socket {socket} level admin
defaults
    mode http
    timeout connect 1s
    timeout check 5s
    timeout client 1m
    timeout server 1m
    option abortonclose
frontend f
    bind 127.0.0.1:{front}
    default_backend b
backend b
    balance leastconn
    option httpchk GET /readyz
    server s 127.0.0.1:{http} weight 100 check inter 50ms fall 1 rise 1 agent-check agent-port {agent} agent-inter 50ms
"""
SLOW = {"messages": [{"role": "user", "content": "fake:delay=60"}]}


class HAProxy:
    """One that runs, and what it says of its only server."""

    def __init__(self, path: Path, front: int) -> None:
        self._path = path
        self.url = f"http://127.0.0.1:{front}"

    async def say(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(self._path)
        writer.write(f"{command}\n".encode())
        text = (await reader.read()).decode()
        writer.close()
        return text

    async def server(self) -> tuple[str, int]:
        """Its status and its weight."""
        lines = [line.split(",") for line in (await self.say("show stat")).splitlines()]
        row = next(dict(zip(lines[0], line, strict=False)) for line in lines if line[:2] == ["b", "s"])
        return row["status"].partition(" ")[0], int(row["weight"])


async def becomes(found: Callable[[], Awaitable[object]], wanted: object, seconds: float = 120) -> None:
    last: object = None
    try:
        async with asyncio.timeout(seconds):
            while (last := await found()) != wanted:  # noqa: ASYNC110 - HAProxy tells nobody
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"{last} never became {wanted}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.asynccontextmanager
async def haproxy(folder: Path, http: int, agent: int) -> AsyncIterator[HAProxy]:
    path, front, file = folder / "s", free_port(), folder / "haproxy.cfg"
    file.write_text(CONFIG.format(socket=path, front=front, http=http, agent=agent))
    process = await asyncio.create_subprocess_exec("haproxy", "-db", "-q", "-f", str(file), env=shipped())
    try:
        await until(path.exists)
        yield HAProxy(path, front)
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def balanced(folder: Path, load: bool = True) -> AsyncIterator[tuple[Running, HAProxy, int]]:
    agent = free_port()
    settings = config({"batchSize": 2}, {"maxQueuedRequests": 2})
    async with (
        serving(settings, load=load) as running,
        haproxy(folder, httpx.URL(running.url).port or 0, agent) as proxy,
    ):
        yield running, proxy, agent


async def test_the_weight_follows_the_load_and_drain_takes_the_server_out(tmp_path: Path) -> None:
    async with (
        balanced(tmp_path, load=False) as (running, proxy, agent),
        agentcheck.listening("127.0.0.1", agent, running.host.weight),
        httpx.AsyncClient(base_url=proxy.url, timeout=60) as callers,
    ):
        await becomes(proxy.server, ("DOWN", 100))  # its health check says so: it loads
        await running.host.start()
        await becomes(proxy.server, ("UP", 100))
        asking = [asyncio.create_task(callers.post("/v1/chat/completions", json=SLOW)) for _ in range(3)]
        await becomes(proxy.server, ("UP", 25))
        asking.append(asyncio.create_task(callers.post("/v1/chat/completions", json=SLOW)))
        await becomes(proxy.server, ("UP", 1))
        for task in asking[1:]:
            task.cancel()
        await becomes(proxy.server, ("UP", 75))
        draining = asyncio.create_task(running.host.drain(60))
        await becomes(proxy.server, ("DOWN", 0))
        assert (await callers.get("/v1/models")).status_code == 503
        assert running.host.scheduler.running == 1  # what was begun goes on
        asking[0].cancel()
        await draining


async def test_weight_0_alone_takes_a_server_out_and_a_new_process_needs_no_help(tmp_path: Path) -> None:
    async with balanced(tmp_path) as (_, proxy, agent), httpx.AsyncClient(base_url=proxy.url, timeout=60) as callers:
        async with agentcheck.listening("127.0.0.1", agent, lambda: 0):
            await becomes(proxy.server, ("UP", 0))
            assert (await callers.get("/v1/models")).status_code == 503
        async with agentcheck.listening("127.0.0.1", agent, lambda: None):
            await becomes(proxy.server, ("UP", 0))  # no word, no change
        async with agentcheck.listening("127.0.0.1", agent, lambda: 80):
            await becomes(proxy.server, ("UP", 80))
            assert (await callers.get("/v1/models")).status_code == 200


async def test_what_a_gateway_sets_itself_stays(tmp_path: Path) -> None:
    told: list[int] = [100]
    async with balanced(tmp_path) as (_, proxy, agent), agentcheck.listening("127.0.0.1", agent, lambda: told[0]):
        await becomes(proxy.server, ("UP", 100))
        await proxy.say("set server b/s state drain")
        told[0] = 60
        await becomes(proxy.server, ("DRAIN", 60))
        await proxy.say("set server b/s state ready")
        await becomes(proxy.server, ("UP", 60))
