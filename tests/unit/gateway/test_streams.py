"""Whom the agent waits for when it is to end."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from pilotboat_gateway.settings import Settings
from pilotboat_gateway.streams import until_gone


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
