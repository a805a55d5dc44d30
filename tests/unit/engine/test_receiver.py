"""What the receiver of progress does with posts that no trainer sends; those of trainers are in tests/integration."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from aiohttp import TCPConnector
from aiohttp.test_utils import TestClient, TestServer

from pilotboat.engine.receiver import MOST, PATH, Receiver

URL = PATH.format(namespace="a", name="b")


class Doubtful:
    """An API server that takes its time to say that it knows no token."""

    def __init__(self) -> None:
        self.asked = 0
        self.all_asked = asyncio.Event()
        self.answers = asyncio.Event()

    async def create(self, *_: Any) -> dict[str, Any]:
        self.asked += 1
        if self.asked == MOST:
            self.all_asked.set()
        await self.answers.wait()
        return {"status": {"authenticated": False}}


async def test_a_token_of_bytes_that_are_no_text_is_refused_and_counted() -> None:
    counted: Counter[str] = Counter()
    app = Receiver(Doubtful(), lambda code: counted.update([code])).app()  # type: ignore[arg-type]
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n"
        writer.write(head.encode() + b"Authorization: Bearer \xff\xfe\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
        writer.close()
    assert counted == {"401": 1}


async def test_more_posts_at_once_than_can_be_looked_at_are_turned_away() -> None:
    api = Doubtful()
    server = TestServer(Receiver(api).app())  # type: ignore[arg-type]
    async with TestClient(server, connector=TCPConnector(limit=0)) as client:

        async def post(number: int) -> int:
            async with client.post(URL, headers={"Authorization": f"Bearer {number}"}) as response:
                return response.status

        async with asyncio.TaskGroup() as group:
            posts = [group.create_task(post(number)) for number in range(MOST)]
            await api.all_asked.wait()
            assert await post(MOST) == 503
            api.answers.set()
        assert {await each for each in posts} == {401}
        assert await post(0) == 401
