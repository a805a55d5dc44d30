"""A real server in the test's own process: the fake engine, the scheduler, uvicorn on loopback, the official client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from pilotboat.api.runtime import ServerConfig
from pilotboat_server.app import create_app
from pilotboat_server.engines.base import EngineSettings
from pilotboat_server.engines.fake import FakeEngine
from pilotboat_server.host import EngineHost
from pilotboat_server.httpserver import HttpServer, bind

HELLO: Any = [{"role": "user", "content": "hello pilot"}]


def ask(text: str) -> Any:
    """Messages of one question, of whatever type the client wants them to be."""
    return [{"role": "user", "content": text}]


def config(
    inference: dict[str, Any] | None = None,
    service: dict[str, Any] | None = None,
    fake: dict[str, Any] | None = None,
) -> ServerConfig:
    """A config for the fake engine."""
    data = {"model": {"path": "/none", "name": "m"}, "engine": {"type": "Fake", "fake": fake or {}}}
    return ServerConfig.model_validate(data | {"inference": inference or {}, "service": service or {}})


def make_host(settings: ServerConfig, stall_seconds: float = 300.0) -> EngineHost:
    """A host whose engine is not loaded yet."""
    engine = FakeEngine(
        EngineSettings(Path("/none"), settings.inference, 1, lambda error: None, None, settings.engine.fake)
    )
    return EngineHost(settings, engine, time.monotonic(), stall_seconds)


@dataclass
class Running:
    """A server that answers."""

    host: EngineHost
    url: str
    http: httpx.AsyncClient
    client: Any
    """The official client; untyped, because tests also send what its types forbid."""
    server: HttpServer

    def http_tasks(self) -> set[asyncio.Task[None]]:
        """Requests that the HTTP front has begun and not ended."""
        return self.server.server_state.tasks

    async def metric(self, series: str) -> float:
        """The value of one series of /metrics; 0 where it is not there yet."""
        text = (await self.http.get("/metrics")).text
        values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(series)]
        return float(values[0]) if values else 0.0


@asynccontextmanager
async def serving(
    settings: ServerConfig | None = None,
    api_keys: tuple[str, ...] = (),
    key: str = "none",
    stall_seconds: float = 300.0,
    load: bool = True,
) -> AsyncIterator[Running]:
    """A running server; `load=False` leaves it in its phase `loading`."""
    host = make_host(settings or config(), stall_seconds)
    server = HttpServer(create_app(host, api_keys))
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(bind("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        task = asyncio.create_task(server.serve(sockets=[listener]))
        if load:
            await host.start()
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)
        await stack.enter_async_context(client)
        try:
            yield Running(host, url, http, client, server)
        finally:
            server.stop()
            await task


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a condition that other tasks of this loop bring about."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - other tasks change it, and none of them knows of us
            await asyncio.sleep(0)
