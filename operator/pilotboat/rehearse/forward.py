"""A port-forward to one pod, on this machine's loopback: for a load from outside the cluster.

Owns: the listener and its bridges. Must not know: HTTP, save for the one answer by which it owns up to a failure of its
own: status 599, so that nobody takes it for the deployment's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from .errors import Unmeasured
from .load import FORWARD_FAILED
from .reach import Reach
from .world import Pod

DATA, ERROR = 0, 1
CHUNK = 1 << 16
OWN_UP = f"HTTP/1.1 {FORWARD_FAILED} Port-Forward\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


@dataclass(frozen=True)
class Way:
    """An open port-forward."""

    url: str
    broken: set[int] = field(default_factory=set)
    """Ports of callers whose connections broke in the forward, and were not ended by the pod."""


@dataclass
class _Told:
    """What the far side did with one connection."""

    heard: bool = False
    ended: bool = False
    """It closed, or refused, by itself."""


@asynccontextmanager
async def forwarded(reach: Reach, pod: Pod, port: int) -> AsyncIterator[Way]:
    """A way to a pod's port while the block runs."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bridging.add(task := asyncio.current_task())
        told = _Told()
        try:
            async with reach.connection(pod, port) as socket:
                await _bridge(socket, reader, writer, told)
        except (Unmeasured, aiohttp.ClientError, OSError):
            pass
        except asyncio.CancelledError:  # the way is being closed: nobody waits for this task
            told.ended = True
        finally:
            bridging.discard(task)
            if not told.ended:
                way.broken.add(writer.get_extra_info("peername")[1])
            with contextlib.suppress(OSError):
                if not told.ended and not told.heard:
                    writer.write(OWN_UP)
                    await writer.drain()
                writer.close()

    bridging: set[asyncio.Task[None] | None] = set()
    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=CHUNK)
    way = Way(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield way
    finally:
        server.close()
        for task in tuple(bridging):
            if task:
                task.cancel()


async def _bridge(
    socket: aiohttp.ClientWebSocketResponse, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: _Told
) -> None:
    """Both directions, until either ends."""
    sending = asyncio.create_task(_send(socket, reader))
    try:
        await _receive(socket, writer, told)
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError, aiohttp.ClientError):
            await sending


async def _send(socket: aiohttp.ClientWebSocketResponse, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(CHUNK):
        await socket.send_bytes(bytes([DATA]) + data)
    await socket.close()


async def _receive(socket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter, told: _Told) -> None:
    """What the far side says and does. A connection that it ended is closed with the code for that."""
    begun = set[int]()
    async for message in socket:
        if not isinstance(message.data, bytes) or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel not in begun:  # the port's number
            begun.add(channel)
        elif channel == ERROR:
            told.ended = b"refused" in data or b"reset" in data
            return
        else:
            told.heard = True
            writer.write(data)
            await writer.drain()
    told.ended = socket.close_code == aiohttp.WSCloseCode.OK
