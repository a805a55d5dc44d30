"""Stands in for a Prometheus: /api/v1/query as documented, well or badly, on loopback.

Owns: answering, and what it was asked. Must not know: who asks, or what for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Reply = Callable[["Prometheus"], web.StreamResponse]


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    query: str
    authorization: str


@dataclass
class Prometheus:
    """`async with Prometheus(clock).serving() as server: ... server.url`."""

    clock: Callable[[], float]
    reply: Reply | None = None
    """None: it never answers."""
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    _runner: web.AppRunner | None = None
    _port: int = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Prometheus]:
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def start(self) -> None:
        """Under the same address as before."""
        app = web.Application()
        app.router.add_get("/base/api/v1/query", self._query)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}/base"

    async def stop(self) -> None:
        """Nobody listens any more."""
        if self._runner:
            await self._runner.cleanup()

    async def _query(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(Request(request.query["query"], request.headers.get("Authorization", "")))
        if self.reply is None:
            await asyncio.Event().wait()
        assert self.reply
        return self.reply(self)


def vector(*values: str | float, age: float = 0) -> Reply:
    """Of so many series; without any, what a query answers that matches nothing."""

    def reply(server: Prometheus) -> web.Response:
        at = server.clock() - age
        series = [{"metric": {"pod": f"p-{n}"}, "value": [at, str(value)]} for n, value in enumerate(values)]
        return success("vector", series)

    return reply


def scalar(value: str) -> Reply:
    """One number that belongs to no series."""
    return lambda server: success("scalar", [server.clock(), value])


def success(kind: str, result: Any) -> web.Response:
    """As Prometheus wraps what it found."""
    return web.json_response({"status": "success", "data": {"resultType": kind, "result": result}})


def failure(status: int, kind: str, words: str) -> Reply:
    """As Prometheus says what is wrong with a query."""
    return lambda _: web.json_response({"status": "error", "errorType": kind, "error": words}, status=status)
