"""Queries against a real Prometheus (Debian's), which scrapes a page of ours: what it answers is understood."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from lab.plane import free_ports
from pilotboat.api.analysis import Why
from pilotboat.plan.types import Answer, Questions
from tests.integration.test_prometheus import NEVER, PATIENCE, World
from tools import host

PAGE = """
accuracy{pod="chat-aaaa-1"} 0.7
accuracy{pod="chat-bbbb-1"} 0.9
accuracy{pod="chat-bbbb-2"} 0.8
"""


@dataclass(frozen=True)
class Server:
    """One that has scraped."""

    url: str
    process: subprocess.Popen[bytes]

    async def answer(self, query: str) -> Answer:
        """What one look finds."""
        world = World(clock=lambda: datetime.now(UTC))
        async with world.asking() as asker:
            (found,) = await world.look(asker, Questions(self.url, (query,), NEVER))
        return found


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return host.unpacked("prometheus", tmp_path_factory.mktemp("prometheus")) / "usr" / "bin" / "prometheus"


@pytest.fixture
async def server(program: Path, tmp_path: Path) -> AsyncIterator[Server]:
    page, own = free_ports(2)
    app, scraped = web.Application(), 0

    async def metrics(_: web.Request) -> web.Response:
        nonlocal scraped
        scraped += 1
        return web.Response(text=f"{PAGE}tool_errors_total {scraped * 3}\n")

    app.router.add_get("/metrics", metrics)
    scrape = {"job_name": "pods", "static_configs": [{"targets": [f"127.0.0.1:{page}"]}]}
    config = {"global": {"scrape_interval": "200ms"}, "scrape_configs": [scrape]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    listen = f"--web.listen-address=127.0.0.1:{own}"
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", page).start()
        log = stack.enter_context((tmp_path / "log").open("wb"))
        process = subprocess.Popen([str(program), *options, listen], stdout=log, stderr=log)  # noqa: ASYNC220 -- returns at once
        stack.callback(process.wait)
        stack.callback(process.kill)
        found = Server(f"http://127.0.0.1:{own}", process)
        async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
            while scraped < 4 or not await ready(session, found.url):  # noqa: ASYNC110 -- another process
                await asyncio.sleep(0.05)
        yield found


async def ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/-/ready") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def test_a_real_one_is_understood(server: Server) -> None:
    before = datetime.now(UTC).timestamp()
    for query, values in (
        ('accuracy{pod=~"chat-aaaa-.*"}', [0.7]),
        ('accuracy{pod=~"chat-bbbb-.*"}', [0.8, 0.9]),
        ('avg(accuracy{pod=~"chat-bbbb-.*"})', [0.85]),
        ("scalar(count(accuracy)) + 1", [4.0]),
        ("nothing_of_that_name", []),
        ("1 / vector(0)", [math.inf]),
    ):
        found = await server.answer(query)
        assert found.trouble is None, query
        assert sorted(found.values) == pytest.approx(values), query
        assert found.stamp is None or found.stamp == pytest.approx(before, abs=60)
    (nothing,) = (await server.answer("vector(0) / 0")).values
    assert math.isnan(nothing)
    (rate,) = (await server.answer("rate(tool_errors_total[30s])")).values
    assert rate > 0


async def test_what_a_real_one_refuses_is_told_in_its_words_and_so_is_its_end(server: Server) -> None:
    for query, words in (
        ("accuracy[1m]", "not one that gives numbers"),
        ('"a word"', "not one that gives numbers"),
        ("accuracy{", "HTTP 400: "),
        ("no_such_function(accuracy)", "unknown function"),
    ):
        found = await server.answer(query)
        assert found.trouble, query
        assert found.trouble[0] is Why.NO_ANSWER
        assert words in found.trouble[1]
    server.process.kill()
    server.process.wait()
    assert (await server.answer("accuracy")).trouble == (Why.NO_ANSWER, "it cannot be reached")
