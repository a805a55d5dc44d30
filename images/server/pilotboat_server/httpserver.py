"""uvicorn as we run it: on a socket that is already bound, without its own signal handling and logging, and with one
write for a whole answer.

Owns nothing but that. Must not know: what is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .errors import CannotListen

BACKLOG = 2048
KEEP_ALIVE = 75
"""Seconds an idle connection stays open: longer than clients and gateways keep theirs, so that they close first."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(f"service.host, service.port: {host} port {port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


LAST_ANSWERS = 5
"""Seconds after `stop` in which answers are sent: nothing computes any more, and a caller may never read or finish."""


class Joined:
    """A transport that sends at once what is written in one turn of the loop.

    uvicorn writes an answer's header by itself. A process that is killed between that and the rest has lost a request
    that no gateway can ask elsewhere any more, for its caller has the header.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Sent when the loop turns, in the order written."""
        if not self._parts:
            asyncio.get_running_loop().call_soon(self._send)
        self._parts.append(data)

    def close(self) -> None:
        """When all is sent."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Protocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(Joined(transport))  # type: ignore[arg-type]  # all that is asked of one it has


class HttpServer(uvicorn.Server):
    """Ends when `stop` is called: it accepts no more, and returns when every answer is sent, or LAST_ANSWERS later."""

    def __init__(self, app: FastAPI) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws="none",
            backlog=BACKLOG,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=LAST_ANSWERS,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM is ours: uvicorn would stop accepting before /readyz could say so."""
        yield

    def stop(self) -> None:
        """Send the answers that are there, then end; callers that stall are cut off."""
        self.should_exit = True
