"""The HTTP worker processes: started, connected to the engine by a socket pair each, replaced when they die or hang.

Owns the workers' processes. Must not know: HTTP, engines. A socket pair needs no path, so nobody else can connect, and
its end is seen by both sides at once: a dead worker's requests are cancelled, a dead engine ends its workers. A worker
that hangs takes no new connection, so no probe meets it; but those it has wait for ever, and it is asked for a sign.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time

from . import log
from .backend import Backend
from .bridge import Bridge
from .httpserver import LAST_ANSWERS
from .wire import Channel

SHORT_LIFE = 5.0
"""Seconds: a worker that dies sooner counts as one that cannot start."""
MAX_SHORT_LIVES = 5
LAST_WORDS = 2.0
"""Seconds more than a worker's own limit in which it may end after it was told to: one that hangs never would."""
SIGNS = 6
"""Signs of life that a worker is asked for in vain before it is killed: counted, for the whole pod may have slept."""


class WorkerFailure(Exception):
    """Workers die as soon as they start."""


class Supervisor:
    """N workers on one listening socket."""

    def __init__(self, backend: Backend, listener: socket.socket, count: int, patience: float) -> None:
        self._backend = backend
        self._listener = listener
        self._count = count
        self._pause = patience / SIGNS
        self._workers: dict[Bridge, asyncio.subprocess.Process] = {}
        self._stopping = False
        self.restarts = 0

    async def run(self) -> None:
        """Until `stop`; raises WorkerFailure where workers cannot live."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._keep(number))

    def stop(self) -> None:
        """Workers send their answers and end, or are killed; nobody replaces them."""
        self._stopping = True
        for bridge in self._workers:
            bridge.stop()
        asyncio.get_running_loop().call_later(LAST_ANSWERS + LAST_WORDS, self._kill_what_is_left)

    def _kill_what_is_left(self) -> None:
        for process in self._workers.values():
            log.event("worker_left", worker_pid=process.pid)
            process.kill()

    async def _keep(self, number: int) -> None:
        short_lives = 0
        while not self._stopping:
            began = time.monotonic()
            code = await self._run_one(number)
            if self._stopping:
                return
            lived = time.monotonic() - began
            short_lives = short_lives + 1 if lived < SHORT_LIFE else 0
            log.event("worker_died", worker=number, exit_code=code, seconds=round(lived, 1))
            if short_lives >= MAX_SHORT_LIVES:
                raise WorkerFailure(
                    f"HTTP worker {number} died {short_lives} times within {SHORT_LIFE:g} s of its start"
                )
            self.restarts += 1

    async def _run_one(self, number: int) -> int:
        """One worker's life; its exit code."""
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = (self._listener.fileno(), theirs.fileno())
            command = [sys.executable, "-m", "pilotboat_server.worker", *map(str, descriptors)]
            process = await asyncio.create_subprocess_exec(*command, pass_fds=descriptors)
        log.event("worker_started", worker=number, worker_pid=process.pid)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        bridge = Bridge(self._backend, Channel(reader, writer))
        self._workers[bridge] = process
        if self._stopping:
            bridge.stop()
        watching = asyncio.create_task(self._watch(bridge, process))
        try:
            await bridge.run()
            return await process.wait()
        finally:
            watching.cancel()
            del self._workers[bridge]
            if process.returncode is None:
                process.kill()

    async def _watch(self, bridge: Bridge, process: asyncio.subprocess.Process) -> None:
        """Kill the worker where it hangs."""
        missed = 0
        while missed < SIGNS:
            await asyncio.sleep(self._pause)
            if self._stopping:  # it was told to end and listens no more
                return
            missed = 0 if bridge.ping() else missed + 1
        log.event("worker_hung", worker_pid=process.pid, seconds=round(SIGNS * self._pause, 1))
        process.kill()
