"""A proxy before the API server that does what networks and API servers do: fail, stall, and lose things."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from kubernetes.aio import client

from tests.integration.cluster import tls

Raw = dict[str, Any]
GONE: Raw = {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}
EXPIRED = json.dumps({"type": "ERROR", "object": GONE}).encode() + b"\n"


@dataclass
class Call:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    code: int = 0
    """As the API server answered it, whether that reached the operator or not."""

    @property
    def watch(self) -> bool:
        return "watch" in self.query

    @property
    def write(self) -> bool:
        return self.method not in ("GET", "HEAD") and "/events" not in self.path


async def _pass(call: Call) -> web.Response | None:
    return None


@dataclass
class Faults:
    """What goes wrong; each can be set at any time."""

    before: Callable[[Call], Awaitable[web.Response | None]] = _pass
    """May answer in the API server's place, or take its time."""
    after: Callable[[Call], Awaitable[web.Response | None]] = _pass
    """The API server did it; its answer may still be lost."""
    passes: Callable[[str, Raw], bool] = lambda kind, event: True
    """Whether a watch event is passed on."""
    silent: set[int] = field(default_factory=set)
    """Watches, by number, that stay open and say no more."""
    expired: set[int] = field(default_factory=set)
    """Watches, by number, that end with a 410 in place of their next event: the version they began at is gone."""


class Proxy:
    """Listens on loopback without TLS."""

    def __init__(self, configuration: client.Configuration) -> None:
        self._upstream = configuration.host
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls(configuration) or True, limit=0), read_bufsize=2**21
        )
        self._runner: web.AppRunner | None = None
        self.calls: list[Call] = []
        self.faults = Faults()
        self.watches = 0
        self.configuration = client.Configuration()

    async def __aenter__(self) -> Proxy:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.configuration.host = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        assert self._runner
        await self._runner.cleanup()

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.write]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(request.method, request.path, request.query)
        self.calls.append(call)
        answer = await self.faults.before(call)
        if answer is not None:
            call.code = answer.status
            return answer
        headers = {name: request.headers[name] for name in ("Content-Type", "Accept") if name in request.headers}
        async with self._session.request(
            request.method,
            self._upstream + request.path_qs,
            data=await request.read() or None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(),
        ) as upstream:
            call.code = upstream.status
            if call.watch:
                return await self._stream(request, upstream)
            body = await upstream.read()
            lost = await self.faults.after(call)
            return lost or web.Response(status=upstream.status, body=body, content_type="application/json")

    async def _stream(self, request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        self.watches += 1
        number = self.watches
        response = web.StreamResponse(status=upstream.status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with suppress(ConnectionError, aiohttp.ClientError):
            async for line in upstream.content:
                event = json.loads(line)
                if number in self.faults.silent:
                    await asyncio.Event().wait()
                if number in self.faults.expired:
                    await response.write(EXPIRED)
                    break
                if self.faults.passes(event["object"].get("kind", ""), event):
                    await response.write(line)
        return response

    def silence(self) -> None:
        """Every watch open now stays open and tells nothing more; those opened later work."""
        self.faults.silent = self._open

    def expire(self) -> None:
        """Every watch open now loses its next event, and its version with it; those opened later work."""
        self.faults.expired = self._open

    @property
    def _open(self) -> set[int]:
        return set(range(1, self.watches + 1))


def status(code: int, message: str, **headers: str) -> web.Response:
    """An answer as the API server's."""
    return web.json_response({"kind": "Status", "message": message, "reason": "Test"}, status=code, headers=headers)
