"""Copies of requests for a canary, by the real HAProxy: as many as asked for, and no caller ever notices one."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pilotboat_gateway.template import MOST_COPIES
from tests.integration.cluster import Cluster
from tests.integration.gatewayproc import PORT, Gateway, addresses, gateway, replicas, serving, until

STABLE, CANARY = "aaaa1111", "bbbb2222"
SHARES = {STABLE: 1000, CANARY: 0}
KEY = "Bearer not-to-be-logged"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Stable's replica is .1; the canary's, where there is one, is what a test says."""
    with addresses() as found, replicas(tmp_path_factory.mktemp("replicas"), [f"{found}.1"]):
        yield found


@pytest.fixture
async def pod(cluster: Cluster, plane: Path, net: str) -> AsyncIterator[Gateway]:
    """All traffic on stable, and a place for the canary at .9."""
    await serving(f"{net}.1")
    async with gateway(cluster, plane) as made:
        await made.endpoints(STABLE, f"{net}.1")
        await made.endpoints(CANARY, f"{net}.9")
        yield made


async def copying(pod: Gateway, percent: int, revision: str | None = CANARY, room: int = 512, **route: object) -> None:
    """Write the route and wait until HAProxy runs with it."""
    await pod.route(lanes=SHARES, copies={"percent": percent, "revision": revision, "room": room}, **route)
    wanted = f"{percent}|chat:1|{room}" if revision else None

    async def done() -> bool:
        lanes = pod.folder / "lanes.map"
        entries = dict(line.split(" ", 1) for line in lanes.read_text().splitlines()) if lanes.exists() else {}
        return entries.get("copies/chat") == wanted and "split/chat" in entries and await pod.is_ready()

    await until(done)


@dataclass
class Learner:
    """A canary that passes its probes and remembers what else it is asked; it answers, unless it is told to hang."""

    hangs: bool = False
    asked: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    """Headers, the first line among them, and bodies."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {"": first} | dict(line.lower().split(": ", 1) for line in lines if line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if not first.startswith("GET /readyz"):
            self.asked.append((headers, body))
            if self.hangs:
                await reader.read()  # until HAProxy hangs up
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()


@asynccontextmanager
async def learner(pod: Gateway, address: str, hangs: bool = False) -> AsyncIterator[Learner]:
    """The canary's replica, known to HAProxy as up."""
    made = Learner(hangs)
    server = await asyncio.start_server(made.serve, address, PORT)
    try:
        await until(lambda: counts(pod, 'servers_up{deployment="chat",revision="bbbb2222"}', 1))
        yield made
    finally:
        server.close()


async def counts(pod: Gateway, metric: str, count: int) -> bool:
    return await pod.metric(metric) == count


async def ended(pod: Gateway, count: int) -> Counter[str]:
    """What became of so many copies, once all of them have ended."""
    await until(lambda: counts(pod, "copies_total", count))
    return await fates(pod)


async def fates(pod: Gateway) -> Counter[str]:
    told = {fate: await pod.metric(f'copies_total{{deployment="chat",fate="{fate}"}}') for fate in FATES}
    return Counter({fate: int(count) for fate, count in told.items() if count})


FATES = ("answered", "failed", "dropped")


async def chats(pod: Gateway, count: int, **headers: str) -> Counter[str]:
    """Requests one after the other; by revision that answered, or status."""
    seen: Counter[str] = Counter()
    for number in range(count):
        body = {"model": "chat", "messages": [{"role": "user", "content": f"fake:tokens=1 number {number}"}]}
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{pod.port}/v1/chat/completions"
        async with pod.http.post(url, json=body, headers=sent) as response:
            await response.read()
            seen[response.headers["x-pilotboat-revision"] if response.status == 200 else str(response.status)] += 1
    return seen


async def judged(pod: Gateway) -> dict[str, tuple[int, int]]:
    """Requests and errors that are evidence, by revision."""
    minutes = (await pod.evidence()).minutes
    sums = {name: (sum(at.requests for at in found), sum(at.errors for at in found)) for name, found in minutes.items()}
    return {name: both for name, both in sums.items() if any(both)}


async def test_the_share_is_exact_and_what_is_copied_is_the_request_itself(pod: Gateway, net: str) -> None:
    await copying(pod, 30)
    reloads = await pod.metric("reloads_total")
    async with learner(pod, f"{net}.9") as canary:
        assert await chats(pod, 100, authorization=KEY) == {STABLE: 100}
        assert await ended(pod, 30) == {"answered": 30}
        numbers = [int(re.findall(rb"number (\d+)", body)[0]) for _, body in canary.asked]
        assert max(later - sooner for sooner, later in zip(sorted(numbers), sorted(numbers)[1:], strict=False)) <= 4
        for headers, body in canary.asked:
            assert headers[""] == "POST /v1/chat/completions HTTP/1.1"
            assert (headers["x-pilotboat-mirror"], headers["authorization"]) == ("1", KEY.lower())
            assert headers["x-request-id"].startswith(f"{CANARY}-")
            assert json.loads(body)["model"] == "chat"
        await copying(pod, 100)
        assert await chats(pod, 10) == {STABLE: 10}
        assert await ended(pod, 40) == {"answered": 40}
        assert await pod.metric("reloads_total") == reloads
    await until(lambda: counts(pod, "requests_total", 110))
    assert await judged(pod) == {STABLE: (110, 0)}
    assert KEY.split()[-1] not in pod.log()


async def test_only_what_stable_answers_is_copied_once_and_only_while_there_is_a_canary(pod: Gateway, net: str) -> None:
    testers = {"header": "x-try", "value": "yes", "revision": CANARY}
    await copying(pod, 100, revision=None, testers=testers)
    reloads = await pod.metric("reloads_total")
    async with learner(pod, f"{net}.9") as canary:
        assert await chats(pod, 5) == {STABLE: 5}
        await copying(pod, 100, testers=testers)
        assert await chats(pod, 5, x_try="yes") == {CANARY: 5}
        assert await chats(pod, 5, x_pilotboat_mirror="1") == {STABLE: 5}
        assert await chats(pod, 5) == {STABLE: 5}
        assert await ended(pod, 5) == {"answered": 5}
        assert len(canary.asked) == 10
        await copying(pod, 100, revision=None, testers=testers)
        assert await chats(pod, 5) == {STABLE: 5}
        await until(lambda: counts(pod, "requests_total", 25))
        assert (await fates(pod), len(canary.asked)) == ({"answered": 5}, 10)
    assert await pod.metric("reloads_total") == reloads


@pytest.mark.parametrize(("room", "most"), [(2, 2), (512, MOST_COPIES)], ids=["a replica's room", "the gateway's"])
async def test_a_canary_that_hangs_costs_callers_nothing_and_gets_no_more_than_there_is_room_for(
    pod: Gateway, net: str, room: int, most: int
) -> None:
    await copying(pod, 100, room=room)
    async with learner(pod, f"{net}.9", hangs=True) as canary:
        assert await chats(pod, 3 * MOST_COPIES) == {STABLE: 3 * MOST_COPIES}

        async def settled() -> bool:
            return len(canary.asked) + await pod.metric("copies_total") == 3 * MOST_COPIES

        await until(settled)
        assert most >= len(canary.asked) >= 1
        assert set(await fates(pod)) == {"dropped"}
        reloads = await pod.metric("reloads_total")
        await copying(pod, 100, room=room, max_queued=7)
        await until(lambda: counts(pod, "reloads_total", reloads + 1))
        await pod.ready()  # it is counted before it is done
        before = len(canary.asked)
        assert await chats(pod, 1) == {STABLE: 1}
        await until(lambda: more_than(canary, before))
    await until(lambda: counts(pod, "requests_total", 3 * MOST_COPIES + 1))
    assert await judged(pod) == {STABLE: (3 * MOST_COPIES + 1, 0)}


async def more_than(canary: Learner, count: int) -> bool:
    return len(canary.asked) > count


async def test_a_canary_that_is_dead_costs_callers_nothing_and_stable_is_not_asked_twice(pod: Gateway) -> None:
    await copying(pod, 100)
    assert await chats(pod, 30) == {STABLE: 30}
    told = await ended(pod, 30)
    assert told["answered"] == 0
    await until(lambda: counts(pod, 'servers_up{deployment="chat",revision="bbbb2222"}', 0))
    assert await chats(pod, 10) == {STABLE: 10}
    assert (await ended(pod, 40))["dropped"] >= 10
    await until(lambda: counts(pod, "requests_total", 40))
    assert await judged(pod) == {STABLE: (40, 0)}
    assert await pod.metric("refused_total") == 0


async def test_a_body_that_is_not_all_here_is_not_copied(pod: Gateway, net: str) -> None:
    await copying(pod, 100)
    async with learner(pod, f"{net}.9") as canary:
        async with pod.chat("fake:tokens=1 " + "long " * 40_000) as response:
            assert response.headers["x-pilotboat-revision"] == STABLE

        async def pieces() -> AsyncIterator[bytes]:
            yield b'{"model": "chat", "messages": [{"role": "user", "content": "in pieces"}]}'

        url = f"http://127.0.0.1:{pod.port}/v1/chat/completions"
        async with pod.http.post(url, data=pieces(), headers={"content-type": "application/json"}) as response:
            assert response.status == 200
        assert await chats(pod, 1) == {STABLE: 1}
        assert await ended(pod, 1) == {"answered": 1}
        assert len(canary.asked) == 1
