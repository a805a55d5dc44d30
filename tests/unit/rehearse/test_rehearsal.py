"""What is looked up again and again while a rehearsal goes on, against an API server that changes and refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from aiohttp import web
from kubernetes.aio import client

from pilotboat.engine.api import Api
from pilotboat.rehearse import cluster, file
from pilotboat.rehearse.cluster import Subject
from pilotboat.rehearse.errors import Refused, Unmeasured
from pilotboat.rehearse.file import Via
from pilotboat.rehearse.reach import Reach
from pilotboat.rehearse.rehearsal import Stage
from pilotboat.rehearse.watch import Watch
from tests.unit.rehearse.objects import ZONES, parent, raw_pod

NOBODY = cast(Reach, None)
"""Nothing is done inside pods."""
CUT = {"name": "f", "kind": "cutZone", "zone": "zone-1", "cut": ["true"], "heal": ["true"]}


@dataclass
class Server:
    """An API server with one ModelDeployment."""

    nodes: dict[str, str] = field(default_factory=lambda: dict(ZONES))
    pods: dict[str, str] = field(default_factory=lambda: dict(zip("abc", ZONES, strict=True)))
    refusals: list[int] = field(default_factory=list)
    """What it answers first when the ModelDeployment is asked for."""

    def grow(self) -> None:
        """A node joins, and the replica of another zone moves there."""
        self.nodes["n4"], self.pods["b"] = "zone-1", "n4"

    async def answer(self, request: web.Request) -> web.Response:
        match request.path.rpartition("/")[2]:
            case "nodes":
                zone = "topology.kubernetes.io/zone"
                return _items({"metadata": {"name": name, "labels": {zone: its}}} for name, its in self.nodes.items())
            case "pods" if "gateway" not in request.query["labelSelector"]:
                return _items(raw_pod(name, node) for name, node in self.pods.items())
            case "pods":
                return _items(())
        if self.refusals:
            return web.Response(status=self.refusals.pop(0))
        return web.json_response(parent())


def _items(raws: Any) -> web.Response:
    return web.json_response({"metadata": {}, "items": list(raws)})


@asynccontextmanager
async def staged(server: Server, fault: dict[str, Any]) -> AsyncIterator[Stage]:
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        limit = {"replicas": 1, "nodes": 2, "zones": 1}
        aim = {"namespace": "team", "name": "chat"}
        asked = file.Rehearsal.model_validate({"deployment": aim, "limit": limit, "wait": 20, "faults": [fault]})
        async with Api(client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")) as api:
            subject = Subject(api, NOBODY, asked.deployment)
            yield Stage(asked, subject, None, Via.SERVICE, allow_commands=True, say=lambda _: None)
    finally:
        await runner.cleanup()


async def test_a_node_that_joins_between_faults_counts() -> None:
    server = Server()
    async with staged(server, CUT) as stage:
        await stage.check()
        server.grow()
        with pytest.raises(Refused, match=r"would hit 2 replicas \(a, b\)"):
            await stage._side(stage.asked.faults[0], stage.ours)


async def test_a_node_that_joins_under_load_counts() -> None:
    server = Server()
    async with staged(server, CUT) as stage:
        fault, world = stage.asked.faults[0], await stage.ours.world()
        hit = await stage._hit(fault, stage.ours, world)
        await stage._still(fault, stage.ours, hit)
        server.nodes["n4"] = "zone-1"
        with pytest.raises(Unmeasured, match="it would have hit"):
            await stage._still(fault, stage.ours, hit)
        server.grow()
        with pytest.raises(Refused, match="would hit 2 replicas"):
            await stage._still(fault, stage.ours, hit)


async def test_a_heal_that_cannot_be_run_is_refused_when_all_is_checked() -> None:
    async with staged(Server(), CUT | {"heal": ["/nowhere/heal", "{node}"]}) as stage:
        with pytest.raises(Refused, match=r"faults\.0\.heal: `/nowhere/heal` is no program"):
            await stage.check()


async def test_looking_goes_on_whatever_the_api_server_answers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LOOK_AGAIN", 0)
    server = Server(refusals=[401, 403, 503])
    async with staged(server, CUT) as stage:
        looking = Watch(stage.ours)
        async with looking.running(), asyncio.timeout(20):
            while not looking.seen:  # noqa: ASYNC110 -- it tells nobody
                await asyncio.sleep(0)
        server.refusals = [401, 403, 503]
        assert (await stage.ours.until_whole(20)).fit is None
        server.refusals = [403] * 10_000
        with pytest.raises(Refused, match=r"did not say within 0\.2 s how it is: 403"):
            await stage.ours.until_whole(0.2)


class Reluctant:
    """A look that takes its time to end."""

    def __init__(self) -> None:
        self.begun, self.ending, self.go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def worlds(self) -> AsyncIterator[Any]:
        try:
            self.begun.set()
            await asyncio.Event().wait()
            yield
        finally:
            self.ending.set()
            await self.go.wait()


async def test_who_is_cancelled_when_the_looking_ends_is_cancelled() -> None:
    """Or a Ctrl-C of that moment would be followed by the next fault."""
    reluctant = Reluctant()

    async def stand() -> None:
        async with Watch(cast(Any, reluctant)).running():
            await reluctant.begun.wait()

    task = asyncio.create_task(stand())
    await reluctant.ending.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    reluctant.go.set()
