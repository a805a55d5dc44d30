"""What the server tells a load balancer of its load, by HAProxy's agent-check protocol: connect, read a line, done.

Owns the listener and the words. Must not know: HTTP, what the load is made of.

The line is a weight alone, such as `75%`, and `0%` while draining, which takes the server out as `drain` would. The
words `drain`, `ready`, `down` and `up` are never said: what they set stays until they are taken back, also for the next
process at this address, and `ready` would undo what a gateway has set itself. Before it serves the server says nothing,
and its health check speaks alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable

from .errors import CannotListen
from .phases import Phase

Weight = Callable[[], int | None]


def weight(phase: Phase, used: int, room: int) -> int | None:
    """Per cent of the weight it has when idle, or None before it serves.

    A full server keeps 1 %: it still takes a request in the place of one that ends, and 0 would say that it is leaving.
    """
    match phase:
        case "serving":
            return min(100, max(1, math.ceil(100 * (room - used) / room)))
        case "draining":
            return 0
        case _:
            return None


@contextlib.asynccontextmanager
async def listening(host: str, port: int, current: Weight) -> AsyncIterator[None]:
    """Answer on that port; port 0: do not. Raises CannotListen."""
    if not port:
        yield
        return

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        percent = current()
        if percent is not None:
            writer.write(f"{percent}%\n".encode())
        writer.close()

    try:
        server = await asyncio.start_server(answer, host, port)
    except OSError as error:
        raise CannotListen(f"service.host, service.agentPort: {host} port {port}: {error.strerror}") from error
    async with server:
        yield
