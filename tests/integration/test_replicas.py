"""Whole processes: who leads, how another takes over, and how one ends."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from lab.plane import free_ports
from pilotboat.api import labels
from pilotboat.engine.errors import Unavailable
from pilotboat.engine.kinds import DEPLOYMENT, LEASE, MODEL_DEPLOYMENT
from pilotboat.replica import POSTS
from tests.integration.cluster import PATIENCE, Cluster
from tests.integration.proxy import Call, Faults, Proxy, status
from tests.integration.test_reconcile import model_deployment, reported

OPERATOR = Path(__file__).parents[2] / "operator"
Start = Callable[..., Awaitable["Replica"]]


class Replica:
    """One operator process."""

    def __init__(self, process: asyncio.subprocess.Process, status_port: int, progress_port: int) -> None:
        self.process = process
        self._posts = f"https://127.0.0.1:{progress_port}"
        self._url = f"http://127.0.0.1:{status_port}"
        self.log: list[str] = []

    async def says(self, words: str) -> None:
        """Wait for a line of its log."""
        assert self.process.stderr
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stderr.readline()).decode():
                self.log.append(line)
                if words in line:
                    return
        raise AssertionError(f"ended without saying {words!r}: {''.join(self.log)}")

    async def ends(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    async def asks(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self._url + path) as response:
            return response.status, await response.text()

    async def hears(self, token: str) -> int:
        """What a post is answered with."""
        url = f"{self._posts}/apis/{labels.API_VERSION}/namespaces/a/finetunejobs/b/status"
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as session, session.post(url, headers=headers, ssl=False) as response:
            return response.status

    async def ready(self) -> None:
        """Wait until it says so, as kubelet does: by asking again and again."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    if await self.asks("/readyz") == (200, "ok\n"):
                        return
                except aiohttp.ClientConnectionError:
                    assert self.process.returncode is None


@pytest.fixture
async def start(cluster: Cluster, plane: Path) -> AsyncIterator[Start]:
    """Starts replicas by name; a short Lease keeps the tests short."""
    replicas: list[Replica] = []

    async def replica(name: str, kubeconfig: Path = plane, **more: str) -> Replica:
        status_port, progress_port = free_ports(2)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(OPERATOR),
            "PILOTBOAT_KUBECONFIG": str(kubeconfig),
            "PILOTBOAT_NAMESPACE": cluster.namespace,
            "PILOTBOAT_WATCH_NAMESPACES": cluster.namespace,
            "PILOTBOAT_IDENTITY": name,
            "PILOTBOAT_HTTP_PORT": str(status_port),
            "PILOTBOAT_PROGRESS_PORT": str(progress_port),
            "PILOTBOAT_LEASE_DURATION": "6",
            "PILOTBOAT_LEASE_RENEW": "4",
            "PILOTBOAT_LEASE_RETRY": "1",
            **more,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pilotboat", "operator"), env=environment, stderr=asyncio.subprocess.PIPE
        )
        replicas.append(Replica(process, status_port, progress_port))
        return replicas[-1]

    yield replica
    for each in replicas:
        if each.process.returncode is None:
            each.process.kill()
            await each.process.wait()


async def holder(cluster: Cluster, name: str) -> None:
    await cluster.until(LEASE, lambda found: any(raw["spec"]["holderIdentity"] == name for raw in found))


async def test_a_leader_that_is_told_to_stop_hands_over(cluster: Cluster, start: Start) -> None:
    first = await start("first")
    await first.says("first leads")
    second = await start("second")
    await cluster.apply(model_deployment("one"))
    await cluster.until(MODEL_DEPLOYMENT, reported)
    first.process.terminate()
    assert await first.ends() == 0
    await second.says("second leads")
    await cluster.apply(model_deployment("two"))
    await cluster.until(MODEL_DEPLOYMENT, reported)


async def test_a_leader_that_dies_is_replaced(cluster: Cluster, start: Start) -> None:
    first = await start("first")
    await first.says("first leads")
    second = await start("second")
    first.process.kill()
    await second.says("second leads")
    await cluster.apply(model_deployment())
    await cluster.until(MODEL_DEPLOYMENT, reported)


async def test_a_leader_that_was_frozen_ends_itself_when_it_wakes(cluster: Cluster, start: Start) -> None:
    first = await start("first")
    await first.says("watching")
    second = await start("second")
    first.process.send_signal(signal.SIGSTOP)
    await second.says("second leads")
    first.process.send_signal(signal.SIGCONT)
    assert await first.ends() == 1
    await holder(cluster, "second")


async def test_a_leader_that_was_frozen_writes_nothing_when_it_wakes(
    cluster: Cluster, start: Start, proxy: Proxy, tmp_path: Path
) -> None:
    """It is in the middle of writing, and whoever led meanwhile is dead: only the frozen one could do what is asked."""
    first = await start("first", through(proxy, tmp_path))
    await first.says("watching")
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(call: Call) -> None:
        if call.write and "/leases/" not in call.path:
            reached.set()
            await go_on.wait()

    proxy.faults = Faults(after=hold)
    await cluster.apply(model_deployment())
    async with asyncio.timeout(PATIENCE):
        await reached.wait()
    first.process.send_signal(signal.SIGSTOP)
    second = await start("second")
    await second.says("watching")
    await cluster.until(MODEL_DEPLOYMENT, reported)
    second.process.kill()
    await second.ends()
    await cluster.apply(model_deployment(replicas=3))
    before = len(proxy.writes)
    go_on.set()
    first.process.send_signal(signal.SIGCONT)
    assert await first.ends() == 1
    assert [call.path for call in proxy.writes[before:] if "/leases/" not in call.path] == []
    (child,) = await cluster.list(DEPLOYMENT)
    assert child["spec"]["replicas"] == 2


async def test_a_leader_whose_lease_is_taken_over_ends_and_has_written_nothing_since(
    cluster: Cluster, start: Start, proxy: Proxy, tmp_path: Path
) -> None:
    """It reaches the API server for all but its Lease, and always has work."""
    first = await start("first", through(proxy, tmp_path))
    await first.says("watching")
    await cluster.apply(model_deployment())
    work = asyncio.create_task(scaled_to_and_fro(cluster))
    taken: list[int] = []

    async def lost(call: Call) -> web.Response | None:
        return status(503, "not now") if "/leases/" in call.path else None

    async def taking(call: Call) -> None:
        if call.method == "PUT" and "/leases/" in call.path:
            taken.append(len(proxy.calls))

    async with Proxy(cluster.configuration) as other:
        other.faults = Faults(before=taking)
        (tmp_path / "other").mkdir()
        second = await start("second", through(other, tmp_path / "other"))
        await second.says("stands by")
        proxy.faults = Faults(before=lost)
        await second.says("second leads")
        assert await first.ends() == 1
        work.cancel()
    assert [call for call in proxy.calls[: taken[0]] if call.write and "/leases/" not in call.path]
    assert [call for call in proxy.calls[taken[0] :] if call.method != "GET"] == []


async def scaled_to_and_fro(cluster: Cluster) -> None:
    """Asks for something else as soon as it has what it asked for."""
    for replicas in itertools.cycle((3, 1)):
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"replicas": replicas}})
        await cluster.until(DEPLOYMENT, lambda found, n=replicas: [raw["spec"]["replicas"] for raw in found] == [n])


async def test_a_leader_that_is_deposed_ends_and_takes_nothing_back(
    cluster: Cluster, start: Start, proxy: Proxy, tmp_path: Path
) -> None:
    first = await start("first", through(proxy, tmp_path))
    await first.says("watching")
    await cluster.merge(LEASE, "pilotboat", {"spec": {"holderIdentity": "another"}})
    before = len(proxy.calls)
    await first.says("the Lease is lost: ending at once")
    assert await first.ends() == 1
    since = [(call.method, call.code) for call in proxy.calls[before:] if "/leases/" in call.path]
    assert since in ([("PUT", 409), ("GET", 200)], [("GET", 200)], []), "it looks once"
    assert {call.code for call in proxy.calls[before:] if call.method != "GET"} <= {409}
    await holder(cluster, "another")


async def test_who_is_not_sure_to_lead_reads_and_does_not_write(cluster: Cluster) -> None:
    doubts = cluster.api.only_while(lambda: False)
    with pytest.raises(Unavailable, match="nothing is written"):
        await doubts.create(MODEL_DEPLOYMENT, cluster.namespace, model_deployment())
    assert [page async for page in doubts.pages(MODEL_DEPLOYMENT, cluster.namespace)] == [[]]


def through(proxy: Proxy, folder: Path) -> Path:
    """A kubeconfig that goes by way of the proxy."""
    named = {"name": "proxy"}
    config = {
        "clusters": [named | {"cluster": {"server": proxy.configuration.host}}],
        "users": [named | {"user": {}}],
        "contexts": [named | {"context": {"cluster": "proxy", "user": "proxy"}}],
        "current-context": "proxy",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def same(raw: dict[str, Any], other: dict[str, Any]) -> bool:
    """One object, not two of one name."""
    return bool(raw["metadata"]["uid"] == other["metadata"]["uid"])


async def test_a_lease_that_is_deleted_is_made_anew_by_its_holder(cluster: Cluster, start: Start) -> None:
    first = await start("first")
    await first.says("watching")
    second = await start("second")
    await second.says("second stands by: first holds")
    for _ in range(2):
        (old,) = await cluster.list(LEASE)
        await cluster.delete(old)
        (new,) = await cluster.until(LEASE, lambda found, old=old: [r for r in found if not same(r, old)])
        assert new["spec"]["holderIdentity"] == "first"
    await cluster.apply(model_deployment())
    await cluster.until(MODEL_DEPLOYMENT, reported)
    assert first.process.returncode is None


async def test_both_replicas_are_ready_and_one_leads(cluster: Cluster, start: Start) -> None:
    first = await start("first")
    await first.says("watching")
    second = await start("second")
    await cluster.apply(model_deployment())
    await cluster.until(MODEL_DEPLOYMENT, reported)
    await second.ready()
    leading = [(await each.asks("/metrics"))[1].count("pilotboat_leader 1.0") for each in (first, second)]
    assert leading == [1, 0]
    assert [await each.asks("/healthz") for each in (first, second)] == [(200, "ok\n")] * 2
    page = (await first.asks("/metrics"))[1]
    for name in ("reconciles_total", "api_requests_total", "watch_events_total", "resource_conditions", "queue_depth"):
        assert f"pilotboat_{name}" in page


async def test_a_leader_whose_watches_are_dead_says_so_and_its_standby_is_well(
    cluster: Cluster, start: Start, proxy: Proxy, tmp_path: Path
) -> None:
    """Kubelet ends it then, and the other leads."""
    first = await start("first", through(proxy, tmp_path), PILOTBOAT_WORK_RESYNC="2")
    await first.says("watching")
    second = await start("second")
    await second.ready()
    code, told, numbers = 0, "", itertools.count()
    async with asyncio.timeout(PATIENCE):
        while f"the watch of modeldeployments in {cluster.namespace} is dead" not in told.splitlines():
            proxy.silence()
            await cluster.apply(model_deployment(f"unseen-{next(numbers)}"))
            await cluster.until(MODEL_DEPLOYMENT, reported)
            code, told = await first.asks("/healthz")
    assert code == 500
    assert await second.asks("/healthz") == (200, "ok\n")


async def test_a_standby_that_is_told_to_stop_stops(cluster: Cluster, start: Start) -> None:
    first = await start("first")
    await first.says("first leads")
    second = await start("second")
    await second.ready()
    second.process.terminate()
    assert await second.ends() == 0
    await holder(cluster, "first")


async def test_posts_whose_tokens_the_api_server_is_slow_to_judge_do_not_delay_the_work(
    cluster: Cluster, start: Start, proxy: Proxy, tmp_path: Path
) -> None:
    """Anybody who reaches the port may send as many as he likes."""
    held: list[Call] = []
    enough = asyncio.Event()

    async def hold(call: Call) -> None:
        if call.path.endswith("/tokenreviews"):
            held.append(call)
            if len(held) == POSTS:
                enough.set()
            await asyncio.Event().wait()

    proxy.faults = Faults(before=hold)
    only = await start("only", through(proxy, tmp_path))
    await only.says("watching")
    posts = [asyncio.create_task(only.hears(f"not-a-token-{number}")) for number in range(5 * POSTS)]
    try:
        async with asyncio.timeout(PATIENCE):
            await enough.wait()
        await cluster.apply(model_deployment())
        await cluster.until(MODEL_DEPLOYMENT, reported)
        assert len(held) == POSTS
    finally:
        for post in posts:
            post.cancel()
        await asyncio.gather(*posts, return_exceptions=True)
