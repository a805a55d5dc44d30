"""One HTTP worker process: `python -m pilotboat_server.worker LISTEN_FD CHANNEL_FD`.

Owns the worker's life. It never loads a model, and imports no library that does. Signals that a terminal or an init
sends to the whole group are ignored: the engine's process says when to stop, so that no stream is cut.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

from .app import create_app
from .config import Environment
from .httpserver import HttpServer
from .remote import RemoteBackend
from .wire import Channel


async def work(listener: socket.socket, connection: socket.socket, api_keys: tuple[str, ...]) -> int:
    """Serve until told to stop (0), or until the engine's process is gone (1)."""
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    backend = await RemoteBackend.connect(Channel(reader, writer))
    server = HttpServer(create_app(backend, api_keys))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    listening, told = asyncio.create_task(backend.run()), asyncio.create_task(backend.told.wait())
    await asyncio.wait({serving, listening, told}, return_when=asyncio.FIRST_COMPLETED)
    server.stop()
    await serving
    return 0 if backend.told.is_set() else 1


def main() -> int:
    """The process's entry; its sockets are inherited."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    listener, connection = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work(listener, connection, Environment.read().api_keys))


def loop_factory() -> type[asyncio.AbstractEventLoop]:
    """uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop
    return uvloop.Loop


if __name__ == "__main__":
    sys.exit(main())
