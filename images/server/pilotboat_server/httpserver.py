"""uvicorn as we run it: on a socket that is already bound, without its own signal handling and logging.

Owns nothing but that configuration.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

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


class HttpServer(uvicorn.Server):
    """Ends when `stop` is called: it accepts no more, and returns when every answer is sent, or LAST_ANSWERS later."""

    def __init__(self, app: FastAPI) -> None:
        config = uvicorn.Config(
            app,
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
