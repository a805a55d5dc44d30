"""API servers that answer a watch badly: the agent goes on, and does not ask again and again without a pause."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio import client

from pilotboat_gateway import kube
from pilotboat_gateway.kube import CONFIGS, Kube, Objects
from tests.integration.gatewayproc import until

NOBODY = json.dumps({"metadata": {"resourceVersion": "1"}, "items": []})
ONE = {"metadata": {"name": "one"}}
Answer = Callable[[], web.Response]


def body(text: str, status: int = 200) -> Answer:
    return lambda: web.Response(status=status, text=text)


def event(kind: str, about: Any) -> str:
    return json.dumps({"type": kind, "object": about}) + "\n"


@dataclass
class Api:
    """Answers each LIST with the next of these, and then with the last; each watch so."""

    lists: list[str]
    watch: Answer
    listed: int = 0
    watched: int = 0
    url: str = ""
    told: list[Objects] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        if "watch" in request.query:
            self.watched += 1
            return self.watch()
        self.listed += 1
        return web.Response(text=self.lists[min(self.listed, len(self.lists)) - 1])


@asynccontextmanager
async def followed(lists: list[str], watch: Answer) -> AsyncIterator[Api]:
    """An agent's watch of it, for as long as the block runs; it must not end."""
    api, app = Api(lists, watch), web.Application()
    app.router.add_get("/{path:.*}", api.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        configuration = client.Configuration()
        configuration.host = api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with Kube(configuration, "ns") as followed:
            task = asyncio.create_task(followed.follow(CONFIGS, lambda found: api.told.append(dict(found))))
            yield api
            assert not task.done()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    finally:
        await runner.cleanup()


async def asked(api: Api, count: int) -> bool:
    return api.watched >= count


SHORT = [
    body(""),
    body(event("ERROR", {"code": 500, "message": "no"})),
    body(event("ADDED", ONE)),
    body("no", status=403),
    body("[" * 100_000 + "\n"),
    body('{"type": "ADDED", "object": null}\n'),
    body("[]\n"),
]


@pytest.mark.parametrize("watch", SHORT, ids=["ends", "error", "event", "refused", "deep", "nothing", "list"])
async def test_a_watch_that_ends_at_once_is_begun_anew_ever_later(
    watch: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "AGAIN", (0.0, 0.0, 3600.0))
    async with followed([NOBODY], watch) as api:
        await until(lambda: asked(api, 3))
        async with aiohttp.ClientSession() as http:  # the agent has the time for many more
            for _ in range(20):
                async with http.get(f"{api.url}/?watch") as response:
                    await response.read()
        assert api.listed == 3


async def test_a_watch_that_has_worked_is_begun_anew_as_if_it_were_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "AGAIN", (0.0, 3600.0))
    monkeypatch.setattr(kube, "WORKED", -math.inf)
    async with followed([NOBODY], body(event("ADDED", ONE))) as api:
        await until(lambda: asked(api, 6))
        assert api.told[:4] == [{}, {"one": ONE}] * 2


@pytest.mark.parametrize(
    "listed", ["", "[]", "{}", '{"items": 3, "metadata": {"resourceVersion": "1"}}', "[" * 100_000]
)
async def test_a_list_that_cannot_be_read_is_asked_for_again(listed: str) -> None:
    async with followed([listed, NOBODY], body("")) as api:
        await until(lambda: asked(api, 1))
        assert api.told[0] == {}


async def test_items_may_be_null() -> None:
    async with followed([NOBODY.replace("[]", "null")], body("")) as api:
        await until(lambda: asked(api, 1))
        assert api.told[0] == {}
