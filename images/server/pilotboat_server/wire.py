"""Frames between the engine's process and its HTTP workers: four bytes of length, big-endian, then JSON.

Owns the framing. Must not know: what the frames mean.
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

LENGTH = struct.Struct(">I")
MAX_FRAME = 64 << 20
"""Bytes: far above any request the front accepts; a larger length means that the stream is out of step."""

Frame = dict[str, Any]


class Channel:
    """One end of the socket. Writes from one event loop never interleave, because each is a single call."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, frame: Frame) -> None:
        """Queue a frame; the transport sends it. After the other end is gone it does nothing."""
        payload = json.dumps(frame, separators=(",", ":"), ensure_ascii=False).encode()
        self._writer.write(LENGTH.pack(len(payload)) + payload)

    async def receive(self) -> Frame | None:
        """The next frame; None when the other end is gone."""
        try:
            (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            if length > MAX_FRAME:
                return None
            frame: Frame = json.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return frame

    async def drain(self) -> None:
        """Wait while the other end is slower than we are."""
        await self._writer.drain()

    def close(self) -> None:
        """Hang up."""
        self._writer.close()
