"""Lines about requests that outlive the worker they came to: from when it accepts nothing more, HAProxy tells none of
them by itself, but keeps them for whoever is there and follows them. It does not end before he goes.

Owns: whom it follows, and until when. Must not know: what a line says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import runtime
from .runtime import Unreachable
from .settings import Settings

FOLLOW = b"show events evidence -w -n\n"
"""All that is told from now on."""
LINE = 4096


@dataclass(frozen=True)
class _Tail:
    reading: asyncio.Task[None]
    writer: asyncio.StreamWriter


class Tails:
    """Of the workers of one HAProxy. `take` is given each line, also those that a worker tells by itself before."""

    def __init__(self, settings: Settings, take: Callable[[str], None]) -> None:
        self._settings = settings
        self._take = take
        self._tails: dict[str, _Tail] = {}
        self._rested: set[str] = set()
        """Workers whose last caller had gone at the last look: what they told of him may be on its way here."""

    async def follow(self) -> None:
        """The worker that accepts, which is about to accept nothing more. Raises Unreachable where there is none."""
        pid = (await runtime.running(self._settings.runtime)).pid
        if pid not in self._tails:
            reader, writer = await _connect(self._settings.runtime)
            self._tails[pid] = _Tail(asyncio.create_task(self._read(reader)), writer)

    async def sweep(self) -> None:
        """Let those end whose last caller has gone."""
        rested, self._rested = self._rested, set()
        for pid, tail in list(self._tails.items()):
            if tail.reading.done() or (await self._at_rest(pid) and pid in rested):
                del self._tails[pid]
                tail.writer.close()

    async def _at_rest(self, pid: str) -> bool:
        try:
            if rests := await runtime.at_rest(self._settings.master, f"@!{pid} "):
                self._rested.add(pid)
        except Unreachable:  # it ends, which closes the connection
            return False
        return rests

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError, ValueError):
            async for line in reader:
                self._take(line.decode(errors="replace"))


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=LINE)
        writer.write(FOLLOW)
    except OSError as error:
        raise Unreachable(f"{path.name}: {type(error).__name__}") from error
    return reader, writer
