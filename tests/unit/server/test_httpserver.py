"""What goes over the wire at once: who is killed in the middle has answered whole, or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from starlette.responses import PlainTextResponse, StreamingResponse
from uvicorn.server import ServerState

from pilotboat_server.httpserver import HttpServer, Joined


class Wire(asyncio.Transport):
    """What a socket would be given, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nobody writes here."""

    def resume_reading(self) -> None:
        """Likewise."""


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_is_written_in_one_turn_goes_at_once_and_in_order() -> None:
    wire = Wire()
    joined: Any = Joined(wire)
    joined.write(b"a")
    joined.write(b"b")
    assert wire.sent == []
    await settled()
    joined.write(b"c")
    joined.close()
    await settled()
    assert (wire.sent, wire.closed) == ([b"ab", b"c"], True)


async def test_to_a_caller_who_has_gone_nothing_is_sent() -> None:
    wire = Wire()
    joined: Any = Joined(wire)
    joined.write(b"a")
    wire.closed = True
    await settled()
    assert wire.sent == []
    assert joined.is_closing()


async def asked(path: str) -> list[bytes]:
    """One request to an application behind our server; what it wrote, call by call."""
    app, wire, turn = FastAPI(), Wire(), asyncio.Event()

    @app.get("/whole")
    async def whole() -> PlainTextResponse:
        return PlainTextResponse("all of it")

    @app.get("/streamed")
    async def streamed() -> StreamingResponse:
        async def parts() -> Any:
            yield "first"
            await turn.wait()
            yield "second"

        return StreamingResponse(parts())

    config = HttpServer(app).config
    config.load()
    protocol: Any = config.http_protocol_class(config=config, server_state=ServerState(), app_state={})  # type: ignore[call-arg]
    protocol.connection_made(wire)
    protocol.data_received(f"GET {path} HTTP/1.1\r\nhost: here\r\n\r\n".encode())
    await settled()
    turn.set()
    await settled()
    protocol.timeout_keep_alive_handler()
    await settled()
    return wire.sent


async def test_an_answer_is_one_write() -> None:
    (sent,) = await asked("/whole")
    assert sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert sent.endswith(b"all of it")


async def test_a_stream_is_one_write_a_part_and_its_header_goes_with_the_first() -> None:
    first, *rest = await asked("/streamed")
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(b"first\r\n")
    assert b"".join(rest) == b"6\r\nsecond\r\n0\r\n\r\n"
