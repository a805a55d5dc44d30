"""A flood of outcomes, from a real gateway to the ModelDeployment's own words."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pilotboat.api.routing import AGENT_PORT, ROUTE
from pilotboat.engine.kinds import CONFIG_MAP, MODEL_DEPLOYMENT
from tests.integration.cluster import Cluster
from tests.integration.gatewayproc import Gateway, addresses, gateway, until
from tests.integration.running import operator
from tests.integration.test_data_plane_rules import post
from tests.integration.test_gateway import kubelet, named, says, through_gateway


@pytest.fixture
def net() -> Iterator[str]:
    with addresses() as found:
        yield found


@asynccontextmanager
async def reached_at(address: str, port: int) -> AsyncIterator[None]:
    """The agent at its own port, where the operator asks it, on an address that no other test has."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(2**16):
                writer.write(data)
        writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, back), pipe(there, writer))

    async with await asyncio.start_server(join, address, AGENT_PORT):
        yield


async def route(cluster: Cluster) -> dict[str, Any]:
    """What the operator tells the gateway."""
    found = await cluster.until(CONFIG_MAP, lambda found: named(found, "chat-route"))
    return dict(json.loads((named(found, "chat-route") or {})["data"][ROUTE]))


async def test_a_flood_is_a_condition_with_its_figure_and_one_event(cluster: Cluster, plane: Path, net: str) -> None:
    async with operator(cluster.configuration, cluster.namespace), gateway(cluster, plane) as pod:
        await cluster.apply(through_gateway())
        await kubelet(cluster, "gateway", True, address=f"{net}.50", first=1)
        told = await route(cluster)
        pod.port = told["port"]
        async with reached_at(f"{net}.50", pod.agent_port):
            await pod.ready()
            request = f"{told['lanes'][0]['revision']}-1"
            assert await post(pod, {"request_id": request, "outcome": "liked"}) == 204
            refused = await flood(pod, request)
            found = await cluster.until(
                MODEL_DEPLOYMENT, lambda found: says(found, "FeedbackAccepted", "False", "FeedbackFlooded")
            )
            status = (named(found, "chat") or {})["status"]
            message = next(c["message"] for c in status["conditions"] if c["type"] == "FeedbackAccepted")
            told_posts = int(re.match(r"(\d+) posts to /v1/feedback were refused", message)[1])  # type: ignore[index]
            assert 0 < told_posts == status["feedbackRefused"]["posts"] <= refused
            await told_of(pod, await flood(pod, request))
            assert len(await cluster.events("FeedbackFlooded")) == 1


async def flood(pod: Gateway, request: str) -> int:
    """More than one caller may post; how many were refused."""
    told = await asyncio.gather(*(post(pod, {"request_id": request, "outcome": "a"}) for _ in range(400)))
    assert {204, 429} >= set(told) >= {429}
    return told.count(429)


async def told_of(pod: Gateway, refused: int) -> None:
    """Until the agent tells of all these; what was refused before may be a minute ago by then."""

    async def told() -> bool:
        return (await pod.flooded()).get("chat", 0) >= refused

    await until(told)
