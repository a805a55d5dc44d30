"""The data plane with the real HAProxy, API server and servers: exact shares, and no request lost to a change."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from pilotboat_gateway.config import SPILL_SERVER
from pilotboat_gateway.runtime import servers, stats
from tests.integration.cluster import Cluster
from tests.integration.gatewayproc import PORT, Gateway, addresses, gateway, replica, replicas, serving, until

STABLE, CANARY = "aaaa1111", "bbbb2222"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Three replicas for all tests: .1 and .2 are stable's, .3 the canary's."""
    with addresses() as found, replicas(tmp_path_factory.mktemp("replicas"), [f"{found}.{n}" for n in (1, 2, 3)]):
        yield found


@pytest.fixture
async def pod(cluster: Cluster, plane: Path, net: str) -> AsyncIterator[Gateway]:
    """A gateway with both lanes, all traffic on stable."""
    for number in (1, 2, 3):
        await serving(f"{net}.{number}")
    async with gateway(cluster, plane) as made:
        await made.endpoints(STABLE, f"{net}.1", f"{net}.2")
        await made.endpoints(CANARY, f"{net}.3")
        await made.route(lanes={STABLE: 1000, CANARY: 0})
        await made.serves({STABLE: 1000})
        await made.ready()
        yield made


async def shift(pod: Gateway, lanes: dict[str, int], **more: object) -> None:
    """Change shares and wait until HAProxy has them."""
    changes = await pod.metric("share_changes_total")
    await pod.route(lanes=lanes, **more)

    async def done() -> bool:
        return await pod.metric("share_changes_total") > changes

    await until(done)


async def test_shares_are_exact_and_change_without_a_reload(pod: Gateway) -> None:
    reloads = await pod.metric("reloads_total")
    for share in (50, 370):
        await shift(pod, {STABLE: 1000 - share, CANARY: share})
        expected = {STABLE: 2 * (1000 - share), CANARY: 2 * share}
        assert await pod.models(2000) == {name: count for name, count in expected.items() if count}
    assert await pod.metric("reloads_total") == reloads


@asynccontextmanager
async def broken(address: str, answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[list[str]]:
    """A replica that passes its probe and does worse with what it is asked; it lists those requests."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if head.startswith("GET /readyz"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        elif not head.startswith("GET /metrics"):
            asked.append(head)
            await answer(writer)
        writer.close()

    server = await asyncio.start_server(serve, address, PORT)
    try:
        yield asked
    finally:
        server.close()


async def close(writer: asyncio.StreamWriter) -> None:
    """End the connection without a word."""


async def stall(writer: asyncio.StreamWriter) -> None:
    """Say nothing for longer than anybody waits."""
    await asyncio.sleep(300)


async def draining(writer: asyncio.StreamWriter) -> None:
    """As a server that shuts down."""
    writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


@pytest.mark.parametrize("answer", [close, stall, draining], ids=["closes", "stalls", "drains"])
async def test_a_replica_that_fails_before_its_first_token_costs_no_request(
    pod: Gateway, net: str, answer: Callable[[asyncio.StreamWriter], Awaitable[None]]
) -> None:
    async with broken(f"{net}.9", answer) as asked:
        await pod.reload(lanes={STABLE: 1000}, request_timeout="2s")
        await pod.endpoints(STABLE, f"{net}.1", f"{net}.9")
        await pod.uses(f"{net}.9")
        for _ in range(4):
            answers = await asyncio.gather(*(said(pod, "fake:tokens=2") for _ in range(10)))
            assert [status for status, _ in answers] == [200] * 10
        assert asked, "the broken replica was tried"


async def test_a_probe_that_is_late_after_a_reload_takes_nobody_out(pod: Gateway, net: str) -> None:
    """The new worker has probed nobody yet; the replica was well until then, and answers what it is asked."""
    late: list[None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if holds and head.startswith("GET /readyz"):
            with suppress(ConnectionError):
                await reader.read()  # until the prober has had enough
            late.append(None)
        else:
            body = b"" if head.startswith("GET /readyz") else b"{}"
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body))
        writer.close()

    holds = False
    async with await asyncio.start_server(serve, f"{net}.8", PORT):
        await pod.endpoints(STABLE, f"{net}.8")
        await pod.uses(f"{net}.8")
        await until(lambda: answered(pod))
        holds = True
        await pod.reload(lanes={STABLE: 1000}, max_queued=9)
        late.clear()  # of the former worker's
        while len(late) < 2:
            assert (await said(pod, "fake:tokens=1"))[0] == 200
        assert (await said(pod, "fake:tokens=1"))[0] == 200
        assert await pod.unreached() == []


async def answered(pod: Gateway) -> bool:
    return (await said(pod, "fake:tokens=1"))[0] == 200


async def said(pod: Gateway, text: str) -> tuple[int, str]:
    """Status and body of a request that is not streamed."""
    async with pod.chat(text) as response:
        return response.status, await response.text()


async def test_a_stream_survives_shares_endpoints_and_a_reload(pod: Gateway, net: str) -> None:
    async with pod.chat("fake:tokens=9000 fake:delay=0.01", stream=True) as response:
        mine = response.headers["x-pilotboat-revision"]
        assert (mine, response.headers["x-request-id"].startswith(f"{STABLE}-")) == (STABLE, True)
        assert await response.content.readline()
        await shift(pod, {STABLE: 500, CANARY: 500})
        await shift(pod, {CANARY: 1000})  # stable is no lane any more
        await pod.endpoints(STABLE, f"{net}.9")
        await pod.reload(lanes={CANARY: 1000}, max_queued=7)
        assert await pod.models(20) == {CANARY: 20}

        async def only_mine() -> bool:
            return (await pod.evidence()).open_streams == {STABLE: 1, CANARY: 0}

        await until(only_mine)  # an answer is read a moment before its stream is over
        lines = [await response.content.readline() for _ in range(200)]
        assert sum(line.startswith(b"data: {") for line in lines) >= 99


async def more_than(pod: Gateway, metric: str, value: float) -> bool:
    return await pod.metric(metric) > value


async def test_a_stopped_replica_is_out_until_it_answers_and_what_it_has_waits_for_it(
    pod: Gateway, net: str, tmp_path: Path
) -> None:
    with replica(tmp_path, f"{net}.5") as process:
        asked = await stopped(pod, process, f"{net}.5")
        assert set(await pod.models(20)) == {STABLE}, "others are asked meanwhile"
        os.killpg(process.pid, signal.SIGCONT)
        await until(lambda: more_than(pod, "servers_up", 2))
        assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 40
        assert await pod.metric("errors_total") == 0


async def test_a_stopped_replica_costs_no_request_once_its_container_is_ended(
    pod: Gateway, net: str, tmp_path: Path
) -> None:
    """As its kubelet does after failed probes of liveness."""
    with replica(tmp_path, f"{net}.5") as process:
        asked = await stopped(pod, process, f"{net}.5")
        os.killpg(process.pid, signal.SIGKILL)
        assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 40
        assert await pod.metric("errors_total") == 0


async def stopped(pod: Gateway, process: subprocess.Popen[bytes], address: str) -> list[asyncio.Task[tuple[int, str]]]:
    """Forty requests are asked of replicas one of which has just stopped; until that is found out."""
    await serving(address)
    await pod.endpoints(STABLE, f"{address.rpartition('.')[0]}.1", address)
    await pod.uses(address)
    await pod.answered_by({STABLE})
    os.killpg(process.pid, signal.SIGSTOP)
    asked = [asyncio.create_task(said(pod, "fake:tokens=2")) for _ in range(40)]

    async def out() -> bool:
        return await pod.metric("servers_up") == 2

    await until(out)
    return asked


@pytest.mark.parametrize("first", [0, 12], ids=["unheard", "heard"])
async def test_a_host_that_falls_silent_costs_no_request(pod: Gateway, net: str, tmp_path: Path, first: int) -> None:
    """Whether it has acknowledged a request or not; connections to it rest, and take the next requests."""
    with replica(tmp_path, f"{net}.7"):
        await serving(f"{net}.7")
        await pod.endpoints(STABLE, f"{net}.1", f"{net}.7")
        await pod.uses(f"{net}.7")
        await pod.models(40)
        waiting = [asyncio.create_task(said(pod, f"fake:first={first}")) for _ in range(8 if first else 0)]
        await until(lambda: under_way(pod, len(waiting)))
        with silent(f"{net}.7"):
            waiting += [asyncio.create_task(said(pod, "fake:tokens=2")) for _ in range(8)]
            assert [status for status, _ in await asyncio.gather(*waiting)] == [200] * len(waiting)
        assert await pod.metric("errors_total") == 0


@contextmanager
def silent(address: str) -> Iterator[None]:
    """As where a node's power is gone: nothing is answered, and nobody is told."""
    rules = [("-s", address), ("-d", address)]
    for rule in rules:
        subprocess.run(["iptables", "-w", "-I", "INPUT", "-i", "lo", *rule, "-j", "DROP"], check=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-D", "INPUT", "-i", "lo", *rule, "-j", "DROP"], check=True)


async def test_a_lane_whose_only_replica_dies_hands_its_requests_to_the_others(
    pod: Gateway, net: str, tmp_path: Path
) -> None:
    with replica(tmp_path, f"{net}.6") as process:
        await serving(f"{net}.6")
        await pod.endpoints(CANARY, f"{net}.6")
        await shift(pod, {STABLE: 500, CANARY: 500})
        assert set(await pod.models(20)) == {STABLE, CANARY}
        waiting = [asyncio.create_task(said(pod, "fake:first=4")) for _ in range(4)]
        await until(lambda: under_way(pod, 4))
        os.killpg(process.pid, signal.SIGKILL)
        assert set(await pod.models(40)) <= {STABLE, CANARY}
        assert [status for status, _ in await asyncio.gather(*waiting)] == [200] * 4
        await pod.answered_by({STABLE})
    for revision in (STABLE, CANARY):
        await pod.endpoints(revision, f"{net}.200")
    await until(lambda: refused(pod))
    assert set(await pod.models(8)) == {"503"}


async def test_who_asks_a_gateway_that_has_just_got_its_link_back_waits_until_it_knows(pod: Gateway, net: str) -> None:
    """It has marked everybody down, and its zone's own replica has been told off meanwhile."""
    await pod.endpoints(STABLE, f"{net}.1", f"{net}.2", zones={1: "own", 2: "other"})
    with silent(f"{net}.2"):
        await until(lambda: down(pod, 1))
        await pod.route(lanes={STABLE: 1000}, zones={"own": 0})
        await until(lambda: resting(pod, f"{net}.1"))
        asked = [asyncio.create_task(said(pod, "fake:tokens=2")) for _ in range(8)]
        await until(lambda: held(pod, len(asked)))
    assert [status for status, _ in await asyncio.gather(*asked)] == [200] * len(asked)


async def refused(pod: Gateway) -> bool:
    """As one is who has waited for a replica in vain."""
    status, body = await said(pod, "anybody?")
    return status == 503 and '"code": "not_serving"' in body


async def down(pod: Gateway, count: int) -> bool:
    return len(await pod.unreached()) == count


async def held(pod: Gateway, count: int) -> bool:
    """That many are where those come whom no replica takes."""
    rows = await stats(pod.folder / "runtime.sock")
    return sum(int(row["scur"]) for row in rows if row["svname"] == SPILL_SERVER) >= count


async def resting(pod: Gateway, address: str) -> bool:
    found = await servers(pod.folder / "runtime.sock")
    return [each.weight for each in found.values() if each.address == address and not each.maintenance] == [0]


async def under_way(pod: Gateway, count: int) -> bool:
    return sum((await pod.evidence()).open_streams.values()) == count


async def test_killed_and_started_anew_it_has_the_shares_of_now_before_it_accepts(pod: Gateway) -> None:
    await shift(pod, {STABLE: 950, CANARY: 50})
    for name in ("agent", "haproxy"):
        pod.kill(name)
    await pod.route(lanes={STABLE: 0, CANARY: 1000})
    pod.start("haproxy")
    pod.start("agent")
    answered = [await first_answer(pod), *(await pod.models(20))]
    assert set(answered) == {CANARY}
    pod.kill("haproxy")
    pod.start("haproxy")
    assert await first_answer(pod) == CANARY
    pod.kill("agent")
    pod.start("agent")
    await pod.ready()
    await shift(pod, {STABLE: 500, CANARY: 500})
    assert set(await pod.models(20)) == {STABLE, CANARY}
    assert await pod.metric("reloads_total") == 0


async def first_answer(pod: Gateway) -> str:
    """What the very first connection gets that is accepted."""
    found: list[str] = []

    async def answered() -> bool:
        try:
            found.append(await pod.one())
        except OSError:
            return False
        return True

    await until(answered)
    return found[0]
