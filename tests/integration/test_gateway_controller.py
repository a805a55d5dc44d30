"""`traffic: HTTPRoute`, and an HTTPRoute of others, with a Gateway controller that is not ours, real servers and real
requests.

The cluster has no nodes: the test says of the pods that they run, at addresses where servers of ours really are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pilotboat.api import labels
from pilotboat.engine.kinds import HTTP_ROUTE, MODEL_DEPLOYMENT, POD
from pilotboat.plan import routes
from tests.integration import gateway_api, traefik
from tests.integration.cluster import PATIENCE, Cluster
from tests.integration.gatewayproc import PORT, SLICE, addresses, replicas, serving, until
from tests.integration.running import operator
from tests.integration.test_foreign_route import behind
from tests.integration.test_foreign_route import rules as shared_rules
from tests.integration.test_gateway import says
from tests.integration.test_http_route import V1, by_route, rules, weights

pytestmark = pytest.mark.long
Raw = dict[str, Any]
SUCCESS = "vllm:request_success_total"
HOST = {"host": "chat.example"}
STEPS = {"steps": [{"weight": 25, "hold": "1s", "approval": True}]}


@pytest.fixture(scope="module")
def binary() -> Path:
    return traefik.program()


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Replicas at .1 and .2 for the first revision, .3 and .4 for the second."""
    with addresses() as found, replicas(tmp_path_factory.mktemp("replicas"), [f"{found}.{n}" for n in (1, 2, 3, 4)]):
        yield found


@dataclass
class Edge:
    """The way in."""

    cluster: Cluster
    http: aiohttp.ClientSession
    port: int
    net: str

    async def ask(self, count: int) -> Counter[str]:
        """Requests; by what became of each."""
        seen: Counter[str] = Counter()
        for _ in range(count):
            seen[await self.one()] += 1
        return seen

    async def one(self) -> str:
        body = {"model": "chat", "messages": [{"role": "user", "content": "fake:tokens=2"}]}
        async with self.http.post(f"http://127.0.0.1:{self.port}/v1/chat/completions", json=body, headers=HOST) as said:
            await said.read()
            return str(said.status)

    async def answered(self) -> list[int]:
        """Requests that each replica has answered since it began."""
        return [await self._count(f"{self.net}.{number}") for number in (1, 2, 3, 4)]

    async def _count(self, address: str) -> int:
        async with self.http.get(f"http://{address}:{PORT}/metrics") as response:
            page = await response.text()
        return round(sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(SUCCESS)))

    async def serve(self, revision: str, *numbers: int) -> None:
        """As kubelets do: the pods of a revision run, at these addresses. Pods without a node get no endpoints."""

        def mine(found: list[Raw]) -> list[Raw]:
            return [raw for raw in found if raw["metadata"]["labels"].get(labels.REVISION) == revision]

        found = mine(await self.cluster.until(POD, lambda found: len(mine(found)) >= len(numbers)))
        for pod, number in zip(sorted(found, key=lambda raw: str(raw["metadata"]["name"])), numbers, strict=False):
            address = f"{self.net}.{number}"
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": pod["metadata"]["creationTimestamp"]}
            status = {"phase": "Running", "conditions": [ready], "podIP": address, "podIPs": [{"ip": address}]}
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod["metadata"]["name"]}, "status": status}
            await self.cluster.apply(body, "kubelet", subresource="status")
        await points_at(self.cluster, f"chat-{revision}-backend", [f"{self.net}.{number}" for number in numbers])

    async def shares(self, *wanted: int) -> None:
        """Until the HTTPRoute has these weights, in any order."""
        await self.cluster.until(
            HTTP_ROUTE, lambda found: bool(rules(found)) and sorted(weights(rules(found)[0]).values()) == sorted(wanted)
        )

    async def revision(self) -> str:
        """The newest."""
        found = await self.cluster.get(MODEL_DEPLOYMENT, "chat")
        return str(found["status"]["updateRevision"])


async def points_at(cluster: Cluster, service: str, where: list[str]) -> None:
    """A Service's endpoints are at these addresses."""
    manifest = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-test", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in where],
    }
    await cluster.api.create(SLICE, cluster.namespace, manifest)


@pytest.fixture
def port(cluster: Cluster, plane: Path, binary: Path, tmp_path: Path) -> Iterator[int]:
    """Where the controller takes requests."""
    with gateway_api.installed(plane, gateway_api.ALL):
        gateway_api.gateway_class(plane, "traefik", traefik.CONTROLLER)
        with traefik.traefik(binary, plane, cluster.namespace, tmp_path) as port:
            yield port


@asynccontextmanager
async def edge_of(cluster: Cluster, port: int, net: str, deployment: Raw | None = None) -> AsyncIterator[Edge]:
    """A Gateway, the operator, and a first revision that is served through it."""
    for number in (1, 2, 3, 4):
        await serving(f"{net}.{number}")
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as http,
        operator(cluster.configuration, cluster.namespace),
    ):
        listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
        spec = {"gatewayClassName": "traefik", "listeners": listeners}
        await cluster.apply({"apiVersion": V1, "kind": "Gateway", "metadata": {"name": "edge"}, "spec": spec})
        edge = Edge(cluster, http, port, net)
        await cluster.apply(deployment or by_route(rollout=STEPS))
        await cluster.until(MODEL_DEPLOYMENT, lambda found: bool(found[0].get("status", {}).get("updateRevision")))
        await edge.serve(await edge.revision(), 1, 2)
        for kind, reason in (("GatewayReady", "Routed"), ("Ready", "RolledOut")):
            await cluster.until(MODEL_DEPLOYMENT, lambda found, k=kind, r=reason: says(found, k, "True", r))
        await until(lambda: answers(edge))
        yield edge


async def test_a_canary_behind_a_real_gateway_controller(cluster: Cluster, port: int, net: str) -> None:
    """Its word is read, its split is the one asked for, and a canary that is given up gets nothing more."""
    async with edge_of(cluster, port, net) as edge:
        first = await edge.revision()
        assert await edge.ask(20) == {"200": 20}

        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"inference": {"batchSize": 2}}})
        await cluster.until(MODEL_DEPLOYMENT, lambda found: found[0]["status"]["updateRevision"] != first)
        second = await edge.revision()
        await edge.serve(second, 3)
        await edge.shares(750, 250)
        await until(lambda: canary_has_some(edge))
        before = await edge.answered()
        assert await edge.ask(400) == {"200": 400}
        got = [after - earlier for earlier, after in zip(before, await edge.answered(), strict=True)]
        assert sum(got) == 400
        assert abs(got[2] - 100) <= 4, got

        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"rollout": {"action": {"verb": "Abort", "id": "one"}}}})
        await edge.shares(1000, 0)
        await until(lambda: canary_has_none(edge))
        before = await edge.answered()
        assert await edge.ask(40) == {"200": 40}
        assert (await edge.answered())[2] == before[2]

        await cluster.delete(await cluster.get(MODEL_DEPLOYMENT, "chat"))
        await cluster.until(HTTP_ROUTE, lambda found: not found)
        await until(lambda: unknown(edge))


async def test_a_canary_in_a_route_of_others_takes_no_request_that_is_not_ours(
    cluster: Cluster, port: int, net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A platform team's rule gives a fifth of the requests to another Service, before, during and after our canary."""
    monkeypatch.setattr(routes, "HEARD_BY", timedelta(seconds=0.2))  # nobody tells us of what others do with it
    await the_platform_teams(cluster, f"{net}.4")
    async with edge_of(cluster, port, net, behind(replicas=2, rollout=STEPS)) as edge:
        first = await edge.revision()
        await until(lambda: settles(edge, (200, 200, 0, 100)))

        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"inference": {"batchSize": 2}}})
        await cluster.until(MODEL_DEPLOYMENT, lambda found: found[0]["status"]["updateRevision"] != first)
        await edge.serve(await edge.revision(), 3)
        await until(lambda: settles(edge, (150, 150, 100, 100)))

        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"rollout": {"action": {"verb": "Abort", "id": "one"}}}})
        await until(lambda: settles(edge, (200, 200, 0, 100)))

        before = (await cluster.get(HTTP_ROUTE, "edge"))["metadata"]["uid"]
        await cluster.delete(await cluster.get(MODEL_DEPLOYMENT, "chat"))
        await cluster.until(MODEL_DEPLOYMENT, lambda found: not found)
        (left,) = await cluster.list(HTTP_ROUTE)
        assert left["metadata"]["uid"] == before
        assert weights(shared_rules([left])[0]) == {"chat": 800, "legacy": 200}


async def the_platform_teams(cluster: Cluster, address: str) -> None:
    """A route with one rule, of which our Service has eight in ten, and the Service at that address that has the
    others."""
    ports = [{"name": "http", "port": 80, "targetPort": PORT}]
    legacy = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "legacy"}, "spec": {"ports": ports}}
    await cluster.apply(legacy, "git")
    await points_at(cluster, "legacy", [address])
    refs = [{"name": "chat", "port": 8080, "weight": 800}, {"name": "legacy", "port": 80, "weight": 200}]
    spec = {"hostnames": [HOST["host"]], "parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": refs}]}
    await cluster.apply({"apiVersion": V1, "kind": "HTTPRoute", "metadata": {"name": "edge"}, "spec": spec}, "git")


async def settles(edge: Edge, wanted: tuple[int, ...]) -> bool:
    """Whether five hundred requests go as they should, give or take one in fifty: the controller hears of a change in
    its own time."""
    before = await edge.answered()
    told = await edge.ask(500)
    got = [after - earlier for earlier, after in zip(before, await edge.answered(), strict=True)]
    assert set(told) <= {"200", "404", "500", "503"}, told
    return told == {"200": 500} and all(abs(has - should) <= 10 for has, should in zip(got, wanted, strict=True))


async def answers(edge: Edge) -> bool:
    return await edge.one() == "200"


async def unknown(edge: Edge) -> bool:
    return await edge.one() == "404"


async def canary_has_some(edge: Edge) -> bool:
    before = (await edge.answered())[2]
    await edge.ask(1)
    return (await edge.answered())[2] > before


async def canary_has_none(edge: Edge) -> bool:
    before = (await edge.answered())[2]
    await edge.ask(20)
    return (await edge.answered())[2] == before


async def test_streams_go_through_it_token_by_token(cluster: Cluster, port: int, net: str) -> None:
    async with edge_of(cluster, port, net) as edge:
        body = {
            "model": "chat",
            "stream": True,
            "messages": [{"role": "user", "content": "fake:tokens=30 fake:delay=0.05"}],
        }
        url = f"http://127.0.0.1:{edge.port}/v1/chat/completions"
        async with edge.http.post(url, json=body, headers=HOST) as said:
            first = await said.content.readline()
            ended = asyncio.ensure_future(said.content.read())
            await asyncio.sleep(0.01)
            assert first.startswith(b"data: ")
            assert not ended.done(), "the first token came before the last was made"
            assert b"[DONE]" in await ended
