"""The engine's end of the socket to one HTTP worker: runs what the worker asks for.

Owns the protocol's other half (`remote`). When the worker dies, everything it asked for is cancelled. Must not know:
HTTP, how workers are started.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from . import log
from .backend import Backend
from .errors import ApiError, EngineFailed
from .types import event_to_wire, requests_from_wire
from .wire import Channel, Frame


class Bridge:
    """One worker's requests."""

    def __init__(self, backend: Backend, channel: Channel) -> None:
        self._backend = backend
        self._channel = channel
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._pings = self._pongs = 0

    async def run(self) -> None:
        """Until the worker is gone."""
        self._channel.send({"hello": self._backend.info.to_wire()})
        try:
            while (frame := await self._channel.receive()) is not None:
                self._take(frame)
        finally:
            for task in self._tasks.values():
                task.cancel()
            self._channel.close()

    def ping(self) -> bool:
        """Ask for a sign of life; whether the last one asked for has come."""
        answered = self._pongs == self._pings
        self._pings += answered
        if answered:
            self._channel.send({"ping": self._pings})
        return answered

    def stop(self) -> None:
        """Tell the worker to finish its answers and end."""
        self._channel.send({"stop": True})

    def _take(self, frame: Frame) -> None:
        if "pong" in frame:
            self._pongs = frame["pong"]
            return
        number: int = frame["id"]
        if "cancel" in frame:
            if task := self._tasks.get(number):
                task.cancel()
            return
        work = self._generate(number, frame) if "generate" in frame else self._call(number, frame["call"])
        task = self._tasks[number] = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._tasks.pop(number, None))

    async def _generate(self, number: int, frame: Frame) -> None:
        try:
            requests = requests_from_wire(frame["generate"])
            async with aclosing(self._backend.generate(requests)) as events:
                async for place, event in events:
                    self._channel.send({"id": number, "of": place, "event": event_to_wire(event)})
                    await self._channel.drain()
        except ApiError as error:
            self._channel.send({"id": number, "error": error.to_wire()})
        except Exception as error:  # a bug of ours: the worker must not wait for ever
            log.event("bridge_error", error=type(error).__name__)
            self._channel.send({"id": number, "error": EngineFailed("Internal error.").to_wire()})

    async def _call(self, number: int, method: str) -> None:
        self._channel.send({"id": number, "result": await self._answer(method)})

    async def _answer(self, method: str) -> dict[str, Any] | str:
        match method:
            case "health":
                return (await self._backend.health()).body()
            case "inference":
                return await self._backend.inference()
            case _:
                return (await self._backend.metrics()).decode()
