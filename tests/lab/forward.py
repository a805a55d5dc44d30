"""Brings connections from the host's loopback into a lab's namespace: `python3 -m lab.forward FD ADDRESS PORT`.

The listening socket is inherited, and so belongs to the host's namespace; this process lives in the lab's, and so do
the connections it opens. No address of the lab is ever needed outside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

CHUNK = 1 << 18


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction: what is read is written, and an end is passed on, so that half-closed streams work."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def serve(listener: socket.socket, host: str, port: int) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        finally:
            writer.close()
            far_writer.close()

    server = await asyncio.start_server(accept, sock=listener, limit=CHUNK)
    async with server:
        await server.serve_forever()


def listen(port: int) -> socket.socket:
    """A socket on the host's loopback; port 0 takes a free one."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(512)
    listener.set_inheritable(True)
    return listener


if __name__ == "__main__":
    inherited = socket.socket(fileno=int(sys.argv[1]))
    inherited.setblocking(False)
    asyncio.run(serve(inherited, sys.argv[2], int(sys.argv[3])))
