"""Who of a lane gets a request: whoever has the fewest, less where he says that he has much to do, little where he is
new. Replicas of our own making, which hold what they are given, so that every count is exact."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pilotboat.api.routing import LOAD_PORT
from pilotboat_gateway.runtime import ask
from tests.integration.cluster import Cluster
from tests.integration.gatewayproc import PORT, Gateway, addresses, gateway, until

REVISION = "aaaa1111"


@dataclass
class Replica:
    """It is well, answers a request when it is told to, and says of its load what it is told to say."""

    address: str
    held: list[asyncio.StreamWriter] = field(default_factory=list)
    word: str = ""

    @property
    def has(self) -> int:
        """Requests under way."""
        return len(self.held)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /v1/models"):
            self.held.append(writer)
        else:
            self._answer(writer)

    async def tell(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{self.word}\n".encode() if self.word else b"")
        writer.close()

    def release(self) -> None:
        """Answer all that is held."""
        while self.held:
            self._answer(self.held.pop())

    def _answer(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()


@pytest.fixture(scope="module")
def net() -> Iterator[str]:
    with addresses() as found:
        yield found


@pytest.fixture
async def two(net: str) -> AsyncIterator[tuple[Replica, Replica]]:
    made = Replica(f"{net}.1"), Replica(f"{net}.2")
    async with AsyncExitStack() as stack:
        for each in made:
            await stack.enter_async_context(await asyncio.start_server(each.serve, each.address, PORT))
            await stack.enter_async_context(await asyncio.start_server(each.tell, each.address, LOAD_PORT))
        yield made
        for each in made:
            each.release()


@asynccontextmanager
async def lane(cluster: Cluster, plane: Path, *there: Replica, slow_start: str = "0s") -> AsyncIterator[Gateway]:
    """A gateway with these in its only lane."""
    async with gateway(cluster, plane) as made:
        await made.endpoints(REVISION, *(each.address for each in there))
        await made.route(lanes={REVISION: 1000}, slow_start=slow_start, server_limit=200, max_queued=0)
        await made.serves({REVISION: 1000})
        await made.ready()
        yield made


async def asked(pod: Gateway, two: tuple[Replica, Replica], count: int) -> tuple[int, int]:
    """So many requests more, each begun when the one before is held: how many each replica got of them."""
    before = [each.has for each in two]
    for number in range(count):
        task = asyncio.create_task(pod.one())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await have(two, sum(before) + number + 1)
    first, second = (each.has - had for each, had in zip(two, before, strict=True))
    return first, second


async def have(two: tuple[Replica, Replica], count: int) -> None:
    async def come() -> bool:
        return sum(each.has for each in two) >= count

    await until(come)


async def weighs(pod: Gateway, each: Replica, wanted: int) -> bool:
    told = await ask(pod.folder / "runtime.sock", "show stat -1 4 -1")
    rows = csv.DictReader(told.removeprefix("# ").splitlines())
    return [int(row["weight"]) for row in rows if row["addr"].startswith(f"{each.address}:")] == [wanted]


async def test_a_new_request_goes_to_whoever_has_the_fewest(
    cluster: Cluster, plane: Path, two: tuple[Replica, Replica]
) -> None:
    async with lane(cluster, plane, *two) as pod:
        assert await asked(pod, two, 20) == (10, 10)
        two[1].release()
        await until(lambda: idle(pod, 10))
        assert await asked(pod, two, 9) == (0, 9), "by turns it would be half of them"
        assert sorted(await asked(pod, two, 11)) == [5, 6]


async def idle(pod: Gateway, count: int) -> bool:
    return sum((await pod.evidence()).open_streams.values()) == count


async def test_a_replica_that_becomes_ready_under_load_gets_a_rising_share(
    cluster: Cluster, plane: Path, two: tuple[Replica, Replica]
) -> None:
    """At its full weight it would have had every one from the first, for it has the fewest."""
    old, new = two
    async with lane(cluster, plane, old, slow_start="20s") as pod:
        await until(lambda: weighs(pod, old, 100))
        assert await asked(pod, two, 40) == (40, 0)
        await pod.endpoints(REVISION, old.address, new.address)
        await pod.uses(new.address)
        _, at_first = await asked(pod, two, 10)
        await until(lambda: weighs(pod, new, 100))
        _, later = await asked(pod, two, 10)
        assert at_first < later


async def test_the_load_that_a_replica_tells_rises_and_falls_and_its_share_with_it(
    cluster: Cluster, plane: Path, two: tuple[Replica, Replica]
) -> None:
    """By HAProxy's agent check, as the server answers it (test_agentcheck.py)."""
    async with lane(cluster, plane, *two) as pod:
        await tells(pod, two[1], 10)
        assert await asked(pod, two, 22) == (20, 2)
        await tells(pod, two[1], 100)
        assert await asked(pod, two, 18) == (0, 18)
        await tells(pod, two[1], 0)
        assert await asked(pod, two, 10) == (10, 0)


async def tells(pod: Gateway, each: Replica, load: int) -> None:
    """Until the gateway knows what the replica says of itself."""
    each.word = f"{load}%"
    await until(lambda: weighs(pod, each, load))


async def test_what_others_have_begun_counts_where_a_gateway_has_nobody_busy(
    cluster: Cluster, plane: Path, two: tuple[Replica, Replica]
) -> None:
    """There are other gateways, and all that one knows of their requests is what the replicas tell."""
    async with lane(cluster, plane, *two) as pod:
        await tells(pod, two[1], 10)
        got = 0
        for _ in range(44):
            _, second = await asked(pod, two, 1)
            got += second
            for each in two:
                each.release()
            await until(lambda: idle(pod, 0))
        assert 0 < got < 11, "by turns it would be 22"
