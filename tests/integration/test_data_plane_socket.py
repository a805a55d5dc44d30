"""HAProxy's answers that come short or late: the agent takes none of them for the whole truth, and lives on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from pilotboat_gateway import runtime
from tests.integration.cluster import Cluster
from tests.integration.gatewayproc import PORT, Gateway, addresses, gateway, replica, serving, until

REVISION = "aaaa1111"
Change = Callable[[str], str]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One replica, at .1; nobody is at .9."""
    with addresses() as found, replica(tmp_path_factory.mktemp("replica"), f"{found}.1"):
        yield found


@pytest.fixture
async def pod(cluster: Cluster, plane: Path, net: str) -> AsyncIterator[Gateway]:
    await serving(f"{net}.1")
    async with gateway(cluster, plane) as made:
        await made.endpoints(REVISION, f"{net}.1", f"{net}.9")
        await made.route(lanes={REVISION: 1000})
        await made.serves({REVISION: 1000})
        await made.ready()
        await until(lambda: down(made, f"pod-{net}.9"))
        yield made


async def heard(pod: Gateway) -> bool:
    """Whether a request is evidence."""
    return bool((await pod.evidence()).minutes[REVISION])


async def down(pod: Gateway, name: str) -> bool:
    return await pod.unreached() == [name]


class Between:
    """Before HAProxy's socket: passes on what is asked and answered, `show stat` as it is changed."""

    def __init__(self, real: Path) -> None:
        self._real = real
        self.change: Change = str
        self.looks = 0
        """Answers to `show stat` that were changed."""
        self.refused: list[str] = []
        self.asked: list[str] = []
        self.loses = ""
        """The next command that has this in it does not get there."""
        self.began = ""
        """When HAProxy says it has begun, if not when it has."""
        self._serving: set[asyncio.Task[None] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self._serving.add(asyncio.current_task())  # nothing else holds it while it waits for HAProxy
        asked = (await reader.read()).decode()
        self.asked.append(asked)
        if self.loses and self.loses in asked:
            self.loses = ""
            writer.close()
            return
        inner, outer = await asyncio.open_unix_connection(str(self._real))
        outer.write(asked.encode())
        outer.write_eof()
        answer = (await inner.read()).decode()
        outer.close()
        if asked.startswith("show stat"):
            answer, self.looks = self.change(answer), self.looks + 1
        elif self.began and asked.startswith("show info"):
            answer = re.sub("(?<=Start_time_sec: ).*", self.began, answer)
        elif "gone:0" in asked:
            self.refused.append(answer.strip())
        writer.write(answer.encode())
        writer.close()

    async def looked(self, change: Change) -> None:
        """Until the agent has been answered so a few times."""
        self.change, since = change, self.looks

        async def often() -> bool:
            return self.looks >= since + 3

        await until(often)


@asynccontextmanager
async def between(pod: Gateway) -> AsyncIterator[Between]:
    """Takes the place of HAProxy's socket while the block runs."""
    socket, real = pod.folder / "runtime.sock", pod.folder / "real.sock"
    socket.rename(real)
    made = Between(real)
    server = await asyncio.start_unix_server(made.serve, str(socket))
    try:
        yield made
    finally:
        server.close()
        real.replace(socket)


def rows(text: str, count: int) -> str:
    return "".join(text.splitlines(keepends=True)[:count])


CUTS: list[Change] = [
    lambda text: "",
    lambda text: "\n",
    lambda text: rows(text, 1),
    lambda text: rows(text, 1) + "chat:0,s0",
    lambda text: rows(text, 1) + "chat:0,s0\n\n",
    lambda text: rows(text, 5),
    lambda text: text.removesuffix("\n"),
]


async def test_an_answer_that_was_cut_says_nothing(pod: Gateway, net: str) -> None:
    async with between(pod) as socket:
        for number, cut in enumerate(CUTS):
            await socket.looked(cut)
            assert await down(pod, f"pod-{net}.9"), f"{number}: what was known before is known still"
    assert pod.processes["agent"].poll() is None
    await pod.ready()
    assert await pod.models(4) == {REVISION: 4}
    async with pod.chat("fake:tokens=1") as response:
        assert response.status == 200
    await until(lambda: heard(pod))


def stuck(text: str) -> str:
    """As where a queue waits in vain in a lane that is no more when HAProxy is told so."""
    spill = next(line for line in text.splitlines() if line.startswith("chat:0,spill,"))
    more = "\n".join(
        f"gone:0,{name},{queue},{spill.split(',', 3)[3]}" for name, queue in (("BACKEND", 3), ("spill", 0))
    )
    return text.removesuffix("\n") + more + "\n\n"


async def test_what_is_gone_before_haproxy_is_told_of_it_ends_nothing(pod: Gateway) -> None:
    async with between(pod) as socket:
        await socket.looked(stuck)
        assert set(socket.refused) == {"No such backend."}
    assert pod.processes["agent"].poll() is None
    await pod.ready()
    assert await pod.models(4) == {REVISION: 4}


async def test_a_drain_and_its_end_are_told_again_where_they_were_not_heard(pod: Gateway, net: str) -> None:
    here, nobody = f"{net}.1", f"{net}.9"
    async with between(pod) as socket, pod.chat("fake:tokens=600 fake:delay=0.1", stream=True) as answer:
        assert answer.status == 200
        for state, names in (("drain", [nobody]), ("ready", [here, nobody])):
            socket.loses = f"state {state}"
            await pod.endpoints(REVISION, *names)

            async def so(sits: bool = here in names) -> bool:
                return not socket.loses and (here in await pod.active()) is sits

            await until(so)


async def test_one_that_began_anew_as_the_same_process_is_steered(pod: Gateway) -> None:
    """In a container that begins anew processes have the numbers of before."""
    async with between(pod) as socket:
        await socket.looked(str)
        assert not trusted(socket)
        socket.began = "1"

        async def steered() -> bool:
            return trusted(socket)

        await until(steered)


def trusted(socket: Between) -> bool:
    """Whether HAProxy was told who is well, as after its beginning."""
    return any("health up" in asked for asked in socket.asked)


async def test_a_map_larger_than_haproxys_buffer_is_replaced_at_once(pod: Gateway) -> None:
    socket, name = pod.folder / "runtime.sock", pod.folder / "lanes.map"
    entries = await runtime.show_map(socket, name) | {f"lane/{number:0100}:0": "1a2b3c4d" for number in range(2000)}
    await runtime.replace_map(socket, name, entries)
    assert await runtime.show_map(socket, name) == entries


async def test_haproxy_that_stays_away_is_told_of_once(pod: Gateway) -> None:
    pod.kill("haproxy")

    async def told() -> bool:
        return await pod.metric("apply_failures_total") == 1

    await until(told)
    assert pod.log().count("cannot be brought to what is wanted for 10 s") == 1
    pod.start("haproxy")
    await pod.ready()
    assert await told()


async def test_a_worker_that_is_no_more_has_no_streams(pod: Gateway) -> None:
    """The master says so in words, and not in rows."""
    with pytest.raises(runtime.Unreachable):
        await runtime.stats(pod.folder / "master.sock", "@!999999 ")


async def test_while_slots_are_laid_out_anew_nobody_is_taken_for_another(pod: Gateway, net: str) -> None:
    """The worker that accepts until the reload has others in them; all gateways would say so, at the same time."""
    others, said = [f"{net}.{number}" for number in range(10, 17)], set()
    before = await pod.metric("reloads_total")
    async with AsyncExitStack() as stack:
        for address in others:
            await stack.enter_async_context(await asyncio.start_server(well, address, PORT))
        await pod.endpoints(REVISION, f"{net}.1", f"{net}.9", *others)
        while await pod.metric("reloads_total") == before or not await pod.is_ready():
            said |= {*await pod.unreached(), *(await out(pod))}
    assert said == {f"pod-{net}.9"}


async def out(pod: Gateway) -> list[str]:
    """Who is not reached, by the evidence."""
    return [name for name, seen in (await pod.evidence()).replicas.items() if not seen.up]


async def well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A replica that passes its probes."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()
