"""What a load balancer is told of load and drain, and that requests keep their ids."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.routing import BOUNDS
from pilotboat_server import agentcheck
from pilotboat_server.metrics import JUDGED
from pilotboat_server.phases import Phase
from tests.unit.server.harness import HELLO, config, serving, until

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("phase", "used", "room", "told"),
    [
        ("loading", 0, 68, None),
        ("warming", 1, 68, None),
        ("serving", 0, 68, 100),
        ("serving", 34, 68, 50),
        ("serving", 67, 68, 2),
        ("serving", 68, 68, 1),
        ("serving", 70, 68, 1),
        ("serving", 0, 1, 100),
        ("serving", 1, 1, 1),
        ("draining", 0, 68, 0),
        ("draining", 68, 68, 0),
    ],
)
def test_weight(phase: Phase, used: int, room: int, told: int | None) -> None:
    assert agentcheck.weight(phase, used, room) == told


@given(st.integers(0, 2000), st.integers(1, 1000))
def test_a_server_that_takes_requests_always_has_a_weight(used: int, room: int) -> None:
    now, more = (agentcheck.weight("serving", n, room) or 0 for n in (used, used + 1))
    assert 100 >= now >= more >= 1


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def said(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    text = (await reader.read()).decode()
    writer.close()
    return text


async def test_the_line_follows_what_runs_and_waits() -> None:
    port = free_port()
    body = {"messages": [{"role": "user", "content": "fake:delay=60"}]}
    async with (
        serving(config({"batchSize": 1}, {"maxQueuedRequests": 3}), load=False) as running,
        agentcheck.listening("127.0.0.1", port, running.host.weight),
    ):
        lines = [await said(port)]
        await running.host.start()
        lines.append(await said(port))
        asking = [asyncio.create_task(running.http.post(CHAT, json=body)) for _ in range(3)]
        await until(lambda: running.host.scheduler.waiting == 2)
        lines.append(await said(port))
        for task in asking:
            task.cancel()
        await until(lambda: running.host.scheduler.running + running.host.scheduler.waiting == 0)
        await running.host.drain(1)
        lines.append(await said(port))
    assert lines == ["", "100%\n", "25%\n", "0%\n"]


async def test_port_0_listens_nowhere() -> None:
    async with agentcheck.listening("127.0.0.1", 0, lambda: 100):
        pass


async def test_a_draining_server_sends_callers_elsewhere() -> None:
    async with serving() as running:
        before = await running.http.post(CHAT, json={"messages": HELLO})
        await running.host.drain(1)
        reply = await running.http.post(CHAT, json={"messages": HELLO})
    assert (before.status_code, reply.status_code) == (200, 503)
    assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")
    assert "connection" not in before.headers


@pytest.mark.parametrize(("method", "path"), [("POST", CHAT), ("GET", "/v1/models"), ("GET", "/nothing")])
async def test_a_given_id_comes_back_and_one_that_is_unfit_is_replaced(method: str, path: str) -> None:
    async with serving() as running:
        told, none, long = [
            (await running.http.request(method, path, headers=headers)).headers["x-request-id"]
            for headers in ({"X-Request-ID": "gateway-7"}, {}, {"x-request-id": "x" * 129})
        ]
    assert told == "gateway-7"
    assert len(none) == len(long) == 32
    assert none != long


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failed_request_is_logged_by_its_id_and_not_its_prompt(
    stream: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {"messages": [{"role": "user", "content": "private fake:fail=2"}], "stream": stream}
    headers = {"x-request-id": "r-1"}
    async with serving() as running, running.http.stream("POST", CHAT, json=body, headers=headers) as answer:
        with suppress(httpx.RemoteProtocolError):  # a stream that fails has no end
            await answer.aread()
    log = capsys.readouterr().err
    failed = [entry for line in log.splitlines() if (entry := json.loads(line))["event"] == "request_failed"]
    assert [(e["request_id"], e["status"], e["error"], e["begun"]) for e in failed] == [
        ("r-1", 500, "EngineFailed", stream)
    ]
    assert answer.headers["x-request-id"] == "r-1"
    assert "private" not in log


def test_judged_histograms_have_the_gateways_bounds() -> None:
    found = [BOUNDS.index(round(float(str(bound)) * 1000, 3)) for bound in JUDGED]
    assert found == list(range(len(JUDGED)))
    assert JUDGED[0] <= 0.001
    assert 10 <= JUDGED[-1] < 11.5
