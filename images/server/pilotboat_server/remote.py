"""The Backend of an HTTP worker: everything is asked of the engine's process, across a socket.

Owns the worker's end of the protocol; `bridge` is the other end. Must not know: HTTP, engines.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from typing import Any

from .backend import ServerInfo
from .errors import ApiError, Unavailable
from .phases import Health
from .types import Done, Event, GenerateRequest, event_from_wire, requests_to_wire
from .wire import Channel, Frame

GONE: Frame = {"error": Unavailable("The engine has stopped.").to_wire()}


class RemoteBackend:
    """One connection, many requests at a time, told apart by a number."""

    def __init__(self, channel: Channel, info: ServerInfo) -> None:
        self._channel = channel
        self._info = info
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Queue[Frame]] = {}
        self.told = asyncio.Event()
        self.gone = asyncio.Event()
        """The engine's process answers nothing any more."""

    @classmethod
    async def connect(cls, channel: Channel) -> RemoteBackend:
        """The engine's process speaks first. Raises ConnectionError where it is gone."""
        hello = await channel.receive()
        if hello is None:
            raise ConnectionError("the engine's process is gone")
        return cls(channel, ServerInfo.from_wire(hello["hello"]))

    @property
    def info(self) -> ServerInfo:
        """What never changes."""
        return self._info

    @property
    def waiting(self) -> int:
        """Questions that have no answer yet."""
        return len(self._replies)

    async def run(self) -> None:
        """Hand out what arrives until the engine's process is gone; `told` is set when we are to stop.

        What is under way then still gets its frames: the end of what was cut short comes after the word to stop.
        """
        while (frame := await self._channel.receive()) is not None:
            if "stop" in frame:
                self.told.set()
            elif "ping" in frame:
                self._channel.send({"pong": frame["ping"]})
            elif replies := self._replies.get(frame["id"]):
                replies.put_nowait(frame)
        self.gone.set()
        for replies in self._replies.values():
            replies.put_nowait(GONE)

    async def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncGenerator[tuple[int, Event], None]:
        """Events of each request, with its place; leaving early cancels all of them over there."""
        number, replies = self._ask({"generate": requests_to_wire(requests)})
        under_way = len(requests)
        try:
            while under_way:
                frame = await replies.get()
                if "error" in frame:
                    under_way = 0
                    raise ApiError.from_wire(frame["error"])
                event = event_from_wire(frame["event"])
                under_way -= isinstance(event, Done)
                yield frame["of"], event
        finally:
            del self._replies[number]
            if under_way:
                self._channel.send({"id": number, "cancel": True})

    async def health(self) -> Health:
        """For the probes."""
        return Health(**await self._call("health"))

    async def inference(self) -> str:
        """For the deep health check."""
        return str(await self._call("inference"))

    async def metrics(self) -> bytes:
        """Prometheus text."""
        text: str = await self._call("metrics")
        return text.encode()

    async def _call(self, method: str) -> Any:
        number, replies = self._ask({"call": method})
        try:
            frame = await replies.get()
        finally:
            del self._replies[number]
        if "error" in frame:
            raise ApiError.from_wire(frame["error"])
        return frame["result"]

    def _ask(self, what: Frame) -> tuple[int, asyncio.Queue[Frame]]:
        number, replies = next(self._numbers), asyncio.Queue[Frame]()
        self._channel.send({"id": number, **what})
        self._replies[number] = replies  # after what may raise: nobody would take it out again
        if self.gone.is_set():
            replies.put_nowait(GONE)
        return number, replies
