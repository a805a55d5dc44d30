"""Writers of regions as two operators have them, without operators: each by a way of its own, which can be cut.

Owns: what befalls them, and how long it takes until others are answered. Must not know: what is expected of that.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field

from pilotboat.engine.errors import DnsFailure
from pilotboat.engine.region import Region
from pilotboat.plan.dns import EVERY, Decision, Me
from tests.integration.nameserver import Primary, Relay, relay

EAST, WEST = "127.1.0.1", "127.2.0.1"


@dataclass
class Writer:
    """One operator's part for one host name."""

    region: Region
    healthy: bool = True
    decisions: list[Decision] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    over: bool = False

    @classmethod
    def of(cls, server: Primary, hostname: str, me: Me, port: int | None = None) -> Writer:
        return cls(Region(me, server.client(hostname, port), time.monotonic, time.time))

    def start(self) -> Writer:
        self.task = asyncio.create_task(self._run())
        return self

    def kill(self) -> None:
        assert self.task
        self.task.cancel()

    async def end(self) -> None:
        """After its turn: one that leaves takes no turns any more, and what it has sent has been answered."""
        assert self.task
        self.over = True
        await self.task

    async def _run(self) -> None:
        while not self.over:
            with suppress(DnsFailure):
                self.decisions.append(await self.region.turn(self.healthy))
            await asyncio.sleep(EVERY)


def east(**more: int) -> Me:
    return Me("east", "uid-east", (EAST,), 0, **more)


def west(**more: int) -> Me:
    return Me("west", "uid-west", (WEST,), 1, **more)


async def lost(server: Primary, kind: str, suffix: str = "") -> tuple[float, float]:
    """Seconds from a fault of the region answered to another answer: at the source, and with a memory of 5 s."""
    host = f"{kind}{suffix}.example.org"
    async with relay(server.port) as way:
        first = Writer.of(server, host, east(), way.port).start()
        second = Writer.of(server, host, west()).start()
        try:
            await server.until(host, EAST)
            await asyncio.sleep(2 * EVERY)  # both have looked and beaten for a while
            began = time.monotonic()
            memory = asyncio.create_task(remembering(server, host, WEST))
            await befall(kind, first, way)
            await server.until(host, WEST)
            at_the_source = time.monotonic() - began
            await memory
            return at_the_source, time.monotonic() - began
        finally:
            first.kill()
            second.kill()


async def befall(kind: str, writer: Writer, way: Relay) -> None:
    if kind == "killed":
        writer.kill()
    elif kind == "cut":
        await way.cut()
    else:
        writer.healthy = False


async def remembering(server: Primary, host: str, wanted: str) -> None:
    """A resolver's caller: an answer is used for its whole time to live, begun just before the fault."""
    while await server.ask(host) != [wanted]:  # noqa: ASYNC110 -- as often as its memory lasts
        await asyncio.sleep(5)
