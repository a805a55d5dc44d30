"""Callers and replicas that come and go, with the real HAProxy: no connection in use is shut, and no replica is called
reachable before it is."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pilotboat_gateway import runtime
from tests.integration.cluster import PATIENCE, Cluster
from tests.integration.gatewayproc import Gateway, addresses, gateway, replica, serving, until

STABLE, NEXT = "aaaa1111", "bbbb2222"
REQUEST = b"GET /v1/models HTTP/1.1\r\nhost: gateway\r\n\r\n"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One replica, at .1."""
    with addresses() as found, replica(tmp_path_factory.mktemp("replica"), f"{found}.1"):
        yield found


@pytest.fixture
async def pod(cluster: Cluster, plane: Path, net: str) -> AsyncIterator[Gateway]:
    """A gateway before it."""
    await serving(f"{net}.1")
    async with gateway(cluster, plane, PILOTBOAT_POD_IP=f"{net}.200") as made:
        await made.endpoints(STABLE, f"{net}.1")
        await made.route(lanes={STABLE: 1000})
        await made.serves({STABLE: 1000})
        await made.ready()
        yield made


class Keeper:
    """A caller who asks again and again on one connection, and makes another only when he is told, or it is shut."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.kept = 0
        self.lost: list[str] = []

    async def ask(self, until: asyncio.Event) -> None:
        """Requests, each as soon as the one before has its answer."""
        reader, writer, first = *await self._connect(), True
        while not until.is_set():
            if reader.at_eof():  # shut in time, as seen from here
                reader, writer, first = *await self._connect(), True
            began = time.monotonic()
            try:
                writer.write(REQUEST)
                closes = await self._answer(reader)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(f"{'first' if first else 'kept'}: {error!r} after {time.monotonic() - began:.3f} s")
                closes = True
            self.kept, first = self.kept + (not first), False
            if closes:
                writer.close()
                reader, writer, first = *await self._connect(), True
        writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    @staticmethod
    async def _answer(reader: asyncio.StreamReader) -> bool:
        """Whether it is the last on its connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.startswith("http/1.1 200"), head
        headers = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
        return headers.get("connection") == "close"


async def test_a_reload_shuts_no_connection_that_is_being_asked_on(pod: Gateway) -> None:
    keepers = [Keeper(pod.port) for _ in range(8)]
    end = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for keeper in keepers:
            tasks.create_task(keeper.ask(end))
        try:
            for bound in (10, 11, 12, 13):
                await pod.reload(lanes={STABLE: 1000}, max_queued=bound)
        finally:
            end.set()
    assert [lost for keeper in keepers for lost in keeper.lost] == []
    assert min(keeper.kept for keeper in keepers) > 0


async def test_it_is_ready_while_it_changes_and_not_while_haproxy_is_away(pod: Gateway) -> None:
    """What changes for seconds must not make every gateway of a namespace unready: each serves as before."""
    said, end = [], asyncio.Event()

    async def probe() -> None:
        while not end.is_set():
            said.append(await pod.answers())

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(probe())
        for bound in (10, 11):
            await pod.reload(lanes={STABLE: 1000}, max_queued=bound)
        end.set()
    assert said
    assert all(said)

    async def unready() -> bool:
        return not await pod.answers()

    pod.kill("haproxy")
    await until(unready)
    pod.start("haproxy")
    await until(pod.answers)


async def test_who_had_a_stream_while_it_was_reloaded_asks_on_by_the_shares_of_now(pod: Gateway, net: str) -> None:
    """His next request is there when the old worker has ended his stream, and that one knows nobody who serves now."""
    await pod.reload(lanes={STABLE: 1000}, sticky={"cookie": "who"})
    reader, writer = await asyncio.open_connection("127.0.0.1", pod.port)
    writer.write(stream("fake:tokens=100 fake:delay=0.1"))
    head = await reader.readuntil(b"\r\n\r\n")
    await pod.endpoints(NEXT, f"{net}.1")
    await pod.reload(lanes={NEXT: 1000}, max_queued=11, sticky={"cookie": "who"})
    await pod.serves({NEXT: 1000})
    writer.write(REQUEST)
    streamed = await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    writer.close()
    assert f"x-pilotboat-revision: {STABLE}" in head.decode().lower()
    assert streamed.count(b"data: ") >= 100
    assert answer.startswith("http/1.1 200")
    assert f"x-pilotboat-revision: {NEXT}" in answer
    assert "connection: close" in answer
    assert answer.count("set-cookie: who=") == 1


async def test_who_had_a_stream_while_it_was_reloaded_asks_on_where_the_pod_ends(pod: Gateway, net: str) -> None:
    """There is nobody whom the old worker could hand him to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", pod.port)
    writer.write(stream("fake:tokens=200 fake:delay=0.1"))
    await reader.readuntil(b"\r\n\r\n")
    await pod.reload(lanes={STABLE: 1000}, max_queued=11)
    await pod.endpoints("itself", f"{net}.200", name="any", terminating=True, ready=False)
    await until(lambda: leaving(pod))
    pod.processes["haproxy"].send_signal(signal.SIGUSR1)
    await until(lambda: closed(pod))
    writer.write(REQUEST)
    await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    writer.close()
    assert answer.startswith("http/1.1 200")


async def closed(pod: Gateway) -> bool:
    """Whether nobody accepts any more."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", pod.port)
    except OSError:
        return True
    writer.close()
    return False


async def test_streams_that_outlive_a_reload_are_told_and_then_the_old_worker_ends(pod: Gateway) -> None:
    """Without evidence of them much of what a canary did in a busy namespace is not known."""
    async with asyncio.TaskGroup() as callers:
        for tokens in (100, 101, 105, 110):
            callers.create_task(streamed(pod, f"fake:tokens={tokens} fake:delay=0.1"))
        await until(lambda: under_way(pod, 4))
        await pod.reload(lanes={STABLE: 1000}, max_queued=11)
        assert await told(pod) == (0, 0)
    await until(lambda: all_told(pod, (4, 0)))
    await until(lambda: no_old_worker(pod))


async def test_streams_that_outlive_their_gateway_are_told_to_who_asks_it_last(pod: Gateway, net: str) -> None:
    """A pod that ends is ready for as long as it streams, and so is asked."""
    await pod.endpoints("itself", f"{net}.200", name="any", terminating=True, ready=False)
    async with asyncio.TaskGroup() as callers:
        callers.create_task(streamed(pod, "fake:tokens=100 fake:delay=0.1"))
        await until(lambda: under_way(pod, 1))
        await until(lambda: leaving(pod))
        pod.processes["haproxy"].send_signal(signal.SIGUSR1)
    await until(lambda: all_told(pod, (1, 0)))
    pod.processes.pop("haproxy").wait(PATIENCE)


async def streamed(pod: Gateway, prompt: str) -> None:
    """One answer to its end, or to where it is cut off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", pod.port)
    writer.write(stream(prompt))
    await reader.readuntil(b"data: ")
    while not (b"\r\n0\r\n\r\n" in (piece := await reader.read(4096)) or not piece):
        pass
    writer.close()


async def under_way(pod: Gateway, count: int) -> bool:
    return await pod.metric("open_streams") == count


async def leaving(pod: Gateway) -> bool:
    """Whether the agent has told HAProxy, and done what else it does then."""
    entries = await runtime.show_map(pod.folder / "runtime.sock", pod.folder / "lanes.map")
    return "leaving" in entries and await pod.is_ready()


async def asks_to_leave(pod: Gateway) -> bool:
    return "close" in await connection(pod)


async def told(pod: Gateway) -> tuple[int, int]:
    """Requests and errors."""
    minutes = (await pod.evidence()).minutes.get(STABLE, [])
    return sum(each.requests for each in minutes), sum(each.errors for each in minutes)


async def all_told(pod: Gateway, wanted: tuple[int, int]) -> bool:
    return await told(pod) == wanted


async def no_old_worker(pod: Gateway) -> bool:
    return await runtime.old_workers(pod.folder / "master.sock") == []


def stream(prompt: str) -> bytes:
    body = json.dumps({"model": "chat", "stream": True, "messages": [{"role": "user", "content": prompt}]})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-length: {len(body)}"
    return f"{head}\r\ncontent-type: application/json\r\n\r\n{body}".encode()


async def test_the_first_requests_of_a_worker_may_come_at_once(pod: Gateway) -> None:
    """Each of its threads makes the entry that gives requests their turns; none may go without."""
    told = []
    for bound in range(10, 18):
        await pod.reload(lanes={STABLE: 1000}, max_queued=bound)
        ends = [await asyncio.open_connection("127.0.0.1", pod.port) for _ in range(32)]
        for _, writer in ends:
            writer.write(REQUEST)
        told += [(await reader.readline()).decode().split()[1] for reader, _ in ends]
        for _, writer in ends:
            writer.close()
    assert told == ["200"] * len(told)


async def test_one_that_began_with_no_route_takes_up_its_first(cluster: Cluster, plane: Path, net: str) -> None:
    """Its HAProxy knows of no map yet, and there is nobody to be told of the reload."""
    await serving(f"{net}.1")
    async with gateway(cluster, plane) as made:
        await made.ready()
        await made.endpoints(STABLE, f"{net}.1")
        await made.route(lanes={STABLE: 1000})
        await made.serves({STABLE: 1000})
        await made.ready()
        assert await made.models(8) == {STABLE: 8}


async def test_it_says_to_whom_it_sends_no_requests_yet(pod: Gateway, net: str) -> None:
    names = f"pod-{net}.1", f"pod-{net}.7"
    assert await pod.unseated(*names) == [names[1]]
    await pod.endpoints(STABLE, f"{net}.1", f"{net}.7")

    async def both() -> bool:
        return await pod.unseated(*names) == []

    await until(both)
    assert f"{net}.7" in await pod.active(), "HAProxy has it when the agent says so"


async def test_it_asks_those_who_are_new_how_long_they_had_warmed_up(pod: Gateway, net: str) -> None:
    async with pod.http.get(f"http://{net}.1:8080/readyz") as response:
        said = (await response.json())["startup_seconds"]["warming"]
    assert await pod.warmed(f"pod-{net}.1", f"pod-{net}.7") == {f"pod-{net}.1": said}
    assert await pod.warmed() == {}


async def test_one_that_is_being_ended_asks_callers_to_connect_elsewhere(pod: Gateway, net: str) -> None:
    """Until it ends it answers, and each answer is the last on its connection: nobody meets a closed door."""
    assert "close" not in await connection(pod)
    await pod.endpoints("itself", f"{net}.200", name="any", terminating=True, ready=False)

    await until(lambda: asks_to_leave(pod))
    assert await pod.models(20) == {STABLE: 20}


async def connection(pod: Gateway) -> str:
    async with pod.http.get(f"http://127.0.0.1:{pod.port}/v1/models") as response:
        assert response.status == 200
        return str(response.headers.get("connection", ""))
