"""Stands in for an API server's way into pods: exec and port-forward over websockets, as kubelet answers them.

A "container" is a PID namespace of this machine whose first process is a shell, as tini is in the image, so what is
run by exec has no parent there. Needs root.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from aiohttp import WSMsgType, web

STDIN, STDOUT, STDERR, ERROR = range(4)


@dataclass
class PodAccess:
    """The server, and the containers that it knows by their pod's name."""

    containers: dict[str, int] = field(default_factory=dict)
    """PID of each one's first process, on this machine."""
    ports: dict[str, int] = field(default_factory=dict)
    """Where each pod's port is on this machine's loopback."""
    broken: bool = False
    """Connections end as when a node's kubelet is gone."""
    url: str = ""
    _open: list[asyncio.Transport] = field(default_factory=list, init=False)

    def cut(self) -> None:
        """Every connection breaks, without a word."""
        for transport in self._open:
            transport.abort()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[PodAccess]:
        app = web.Application()
        pods = "/api/v1/namespaces/{namespace}/pods/{name}"
        app.add_routes([web.get(f"{pods}/exec", self._exec), web.get(f"{pods}/portforward", self._forward)])
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _accept(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        assert request.transport
        self._open.append(cast(asyncio.Transport, request.transport))
        return socket

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        pid = self.containers.get(request.match_info["name"])
        if pid is None:
            raise web.HTTPNotFound
        socket = await self._accept(request)
        process = await asyncio.create_subprocess_exec(
            *("nsenter", f"--target={pid}", "--pid", "--mount", "--", *request.query.getall("command")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin
        assert process.stdout
        assert process.stderr
        pumps = [self._pump(socket, STDOUT, process.stdout), self._pump(socket, STDERR, process.stderr)]
        working = asyncio.gather(*pumps, process.wait())
        hearing = asyncio.create_task(self._hear(socket))
        await asyncio.wait({working, hearing}, return_when=asyncio.FIRST_COMPLETED)
        process.stdin.close()  # a connection that is gone ends stdin, and kills nothing
        await working
        with contextlib.suppress(ConnectionError):
            await socket.send_bytes(bytes([ERROR]) + json.dumps(_status(process.returncode or 0)).encode())
            await socket.close()
        return socket

    async def _hear(self, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            assert message.type is WSMsgType.BINARY

    async def _pump(self, socket: web.WebSocketResponse, channel: int, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(4096):
            with contextlib.suppress(ConnectionError):
                await socket.send_bytes(bytes([channel]) + data)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        port = self.ports[request.match_info["name"]]
        socket = await self._accept(request)
        if self.broken:
            self.cut()
            return socket
        for channel in (0, 1):
            await socket.send_bytes(bytes([channel]) + int(request.query["ports"]).to_bytes(2, "little"))
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            words = f"error forwarding port: failed to connect: connect: {os.strerror(error.errno or 0).lower()}"
            await socket.send_bytes(b"\x01" + words.encode())
            await socket.close()
            return socket
        pumping = asyncio.create_task(self._pump(socket, 0, reader))
        pumping.add_done_callback(lambda _: asyncio.ensure_future(socket.close()))
        async for message in socket:
            writer.write(message.data[1:])
        writer.close()
        pumping.cancel()
        return socket


def _status(code: int) -> dict[str, object]:
    if code == 0:
        return {"status": "Success"}
    cause = {"reason": "ExitCode", "message": str(code)}
    return {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [cause]}}


@asynccontextmanager
async def container(command: Sequence[str | Path]) -> AsyncIterator[int]:
    """A PID namespace with a shell as its first process and a command below it, or nothing; the shell's PID."""
    script = '"$@" & wait' if command else "read nothing"
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script, "sh", *map(str, command)),
        stdin=asyncio.subprocess.PIPE,
    )
    try:
        yield await _first_child(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def _first_child(pid: int) -> int:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    async with asyncio.timeout(20):
        while not (found := path.read_text().split()) or _name(found[0]) != "sh":  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.001)  # another process makes it, and becomes the shell when /proc is its own
    return int(found[0])


def _name(pid: str) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
