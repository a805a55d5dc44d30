"""Into pods through the API server, with the caller's own credentials: commands by exec, connections by port-forward.

Owns: the two websocket protocols (`v4.channel.k8s.io`). Must not know: what is run or sent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.stream import WsApiClient

from ..engine.kinds import POD
from .errors import Unmeasured
from .world import Pod

STDOUT, STDERR, ERROR = 1, 2, 3
HEARTBEAT = 10.0
PATIENCE = 20.0
"""Seconds for a connection into a pod, and for a program there to say what it did."""


@dataclass
class Running:
    """A command in a pod."""

    socket: aiohttp.ClientWebSocketResponse
    output: str = ""
    complaint: str = ""
    code: int | None = None
    """Exit status; None: it runs, or its connection broke."""

    async def until(self, line: str) -> bool:
        """Read until it says that line (True) or ends (False)."""
        while line not in self.output.splitlines():
            message = await self.socket.receive()
            if not isinstance(message.data, bytes):
                return False
            self._take(message.data[:1], message.data[1:].decode(errors="replace"))
            if self.code is not None:
                return line in self.output.splitlines()
        return True

    def _take(self, channel: bytes, text: str) -> None:
        match channel[0] if channel else 0:
            case 1:
                self.output += text
            case 2:
                self.complaint += text
            case 3 if text:
                self.code = _exit_code(text)
                if self.code == -1:
                    self.complaint += text

    @property
    def said(self) -> str:
        """Its words, for a message."""
        return " ".join(f"{self.output} {self.complaint}".split())[-400:] or "nothing"


def _exit_code(status: str) -> int:
    """From the metav1.Status that ends an exec; -1 where there is none."""
    try:
        told = json.loads(status)
        if told.get("status") == "Success":
            return 0
        causes = (told.get("details") or {}).get("causes") or ()
        return next((int(each["message"]) for each in causes if each.get("reason") == "ExitCode"), -1)
    except (ValueError, TypeError, KeyError, AttributeError):
        return -1


@dataclass
class Reach:
    """The API server's way into pods of one namespace."""

    configuration: client.Configuration
    namespace: str
    _client: Any = field(init=False)

    async def __aenter__(self) -> Self:
        self._client = WsApiClient(self.configuration, heartbeat=HEARTBEAT)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    @asynccontextmanager
    async def program(self, pod: Pod, text: str, wish: dict[str, Any]) -> AsyncIterator[Running]:
        """A program of `inside`, running while the block does: when it is left, the program's stdin ends."""
        words = ["python3", "-c", text, json.dumps(wish)]
        flags = [(name, "true") for name in ("stdin", "stdout", "stderr")]
        query = [*(("command", word) for word in words), ("container", pod.container), *flags]
        async with self._open(pod, "exec", query) as socket:
            yield Running(socket)

    async def ask(self, pod: Pod, text: str, wish: dict[str, Any], line: str = "ready") -> Running:
        """A program that says one line and ends. Raises Unmeasured where it does not."""
        try:
            async with asyncio.timeout(PATIENCE), self.program(pod, text, wish) as running:
                said = await running.until(line)
        except TimeoutError:
            raise Unmeasured(f"{pod.name}: no answer from inside within {PATIENCE:g} s") from None
        if not said:
            raise Unmeasured(f"{pod.name}: {running.said}")
        return running

    @asynccontextmanager
    async def connection(self, pod: Pod, port: int) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """To a port of a pod: channel 0 is data, 1 an error; the first message of each repeats the port."""
        async with self._open(pod, "portforward", [("ports", str(port))]) as socket:
            yield socket

    @asynccontextmanager
    async def _open(
        self, pod: Pod, what: str, query: Sequence[tuple[str, str]]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        url = self.configuration.host + POD.path(self.namespace, pod.name, what)
        token = await self.configuration.get_api_key_with_prefix("BearerToken")
        headers = {"Authorization": token} if token else {}
        opening = await self._client.request("GET", url, query, headers, _preload_content=False)
        try:
            async with asyncio.timeout(PATIENCE):
                socket = await opening
        except aiohttp.WSServerHandshakeError as error:
            raise Unmeasured(f"pods/{what} of {pod.name}: {error.status} {_hint(error.status, what)}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unmeasured(f"pods/{what} of {pod.name}: {type(error).__name__} {error}") from None
        try:
            yield socket
        finally:
            await socket.close()


def _hint(status: int, what: str) -> str:
    if status in (401, 403):
        return f"(the caller needs the verbs get and create on pods/{what})"
    return "(is its node reachable?)"
