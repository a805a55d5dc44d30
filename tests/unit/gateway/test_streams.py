"""Whom the agent waits for when it is to end, and how often it looks at HAProxy."""

from __future__ import annotations

import asyncio
import math
import tempfile
from pathlib import Path

import pytest

from pilotboat_gateway import streams
from pilotboat_gateway.settings import Settings
from pilotboat_gateway.streams import Looks, until_gone
from tests.unit.gateway.test_config import made, seats

STATISTICS = (
    f"# pxname,svname,qcur,qmax,scur,smax,slim,stot,{'x,' * 9}status,{'x,' * 5}lastchg,more,\n"
    f"chat:0,s0,0,0,3,3,0,9,{'0,' * 9}UP,{'0,' * 5}7,,\n\n"
)


async def test_haproxy_that_does_not_answer_is_there_until_it_listens_no_more() -> None:
    again = asyncio.Event()
    asked = 0

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            again.set()
        writer.close()

    with tempfile.TemporaryDirectory() as folder:  # sockets allow paths of 90 characters, and pytest's are longer
        settings = Settings("ns", Path(folder))
        server = await asyncio.start_unix_server(silent, str(settings.master))
        waits = asyncio.create_task(until_gone(settings))
        async with asyncio.timeout(10):
            await again.wait()
            assert not waits.done()
            server.close()
            await waits


async def test_all_who_ask_within_a_moment_have_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal looks
        if (await reader.read()).startswith(b"show stat"):
            looks += 1
            writer.write(STATISTICS.encode())
        writer.close()

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings("ns", Path(folder))
        server = await asyncio.start_unix_server(answer, str(settings.runtime))
        taken, boards = Looks(settings), seats(made(), a=[1])
        monkeypatch.setattr(streams, "MOMENT", math.inf)
        told = await asyncio.gather(*(taken.take(boards) for _ in range(100)))
        assert looks == 1
        assert {each.open["chat", "a"] for each in (*told, await taken.take(boards))} == {3}
        monkeypatch.setattr(streams, "MOMENT", 0.0)
        await taken.take(boards)
        assert looks == 2
        server.close()
