"""HAProxy's answers that come short or late: the agent takes none of them for the whole truth, and lives on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pilotboat_gateway import runtime
from tests.integration.cluster import Cluster
from tests.integration.gatewayproc import Gateway, addresses, gateway, replica, serving, until

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

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        asked = (await reader.read()).decode()
        inner, outer = await asyncio.open_unix_connection(str(self._real))
        outer.write(asked.encode())
        outer.write_eof()
        answer = (await inner.read()).decode()
        outer.close()
        if asked.startswith("show stat"):
            answer, self.looks = self.change(answer), self.looks + 1
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
    assert (await pod.evidence()).minutes[REVISION], "nothing of the evidence is lost"


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


async def test_a_worker_that_is_no_more_has_no_streams(pod: Gateway) -> None:
    """The master says so in words, and not in rows."""
    with pytest.raises(runtime.Unreachable):
        await runtime.stats(pod.folder / "master.sock", "@!999999 ")
