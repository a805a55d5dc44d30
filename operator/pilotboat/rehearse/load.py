"""The load of a rehearsal: whole answers at a rate and streams without end, each recorded.

Owns: requests, what becomes of each, and telling its own failures from the deployment's. Must not know: faults.
Every request has a connection of its own, because a Service spreads connections over its pods.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import aiohttp

from . import file
from .errors import Refused

FORWARD_FAILED = 599
"""Status by which our own port-forward says that it, and not the deployment, has failed."""
OWN_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})
MAX_ANSWER = 8 << 20
IN_FLIGHT = 512
"""Requests at once: beyond it the client would measure itself."""
PAUSE = 0.1
"""Seconds before a stream that failed is begun anew: a closed door must not be hammered."""
DONE = b"[DONE]"


class Fate(StrEnum):
    """What became of a request."""

    WHOLE = "whole"
    LOST = "lost"
    """Before its first token."""
    CUT = "cut"
    """After it."""
    OWN = "own"
    """This client, or its way to the cluster, failed: it says nothing about the deployment."""


@dataclass(frozen=True)
class Record:
    """One request; times are the event loop's."""

    began: float
    first: float | None
    """When the answer's header came: a stream's with its first token, a whole answer's with its end."""
    ended: float
    stream: bool
    fate: Fate
    status: int | None = None
    error: str = ""
    revision: str = ""

    @property
    def wait(self) -> float | None:
        """Seconds to the first token."""
        return None if self.first is None else self.first - self.began


@dataclass
class Load:
    """Requests while the block of `running` runs."""

    wish: file.Load
    url: str
    model: str
    key: str | None = None
    broken: Container[int] = ()
    """Local ports of connections that broke on their way to the cluster, where somebody knows."""
    records: list[Record] = field(default_factory=list)
    skipped: int = 0
    """Requests that were due while too many were under way."""
    late: float = 0.0
    """Seconds by which the latest request was begun too late."""
    most: int = IN_FLIGHT
    """Requests under way at once; whatever is due above that is skipped."""
    _flying: set[asyncio.Task[Fate]] = field(default_factory=set, init=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Under load. At the end what is under way is waited for, within the time-out of a request."""
        tasks: list[asyncio.Task[None]] = []
        async with self._session() as http:
            try:
                tasks = [asyncio.create_task(self._stream(http)) for _ in range(self.wish.streams)]
                if self.wish.requests_per_second:
                    tasks.append(asyncio.create_task(self._pace(http)))
                self._stopping = False
                yield
                self._stopping = True
                await self._finish(tasks)
            finally:
                for task in (*tasks, *self._flying):
                    task.cancel()
                await asyncio.gather(*tasks, *self._flying, return_exceptions=True)

    async def probe(self) -> None:
        """One request before all others. Raises Refused with what is wrong where it is not answered."""
        async with self._session() as http:
            record = await self._request(http, stream=False)
        if record.fate is not Fate.WHOLE:
            raise Refused(f"the endpoint {self.url} does not answer: {record.error}{_hint(record.status)}")

    async def _finish(self, tasks: list[asyncio.Task[None]]) -> None:
        waiting = [*tasks, *self._flying]
        if waiting:
            await asyncio.wait(waiting, timeout=self.wish.timeout)

    async def _pace(self, http: aiohttp.ClientSession) -> None:
        clock, gap = asyncio.get_running_loop().time, 1 / self.wish.requests_per_second
        due = clock()
        while not self._stopping:
            self.late = max(self.late, clock() - due)
            if len(self._flying) < self.most:
                task = asyncio.create_task(self._record(http, stream=False))
                self._flying.add(task)
                task.add_done_callback(self._flying.discard)
            else:
                self.skipped += 1
            due += gap
            await asyncio.sleep(max(0.0, due - clock()))

    async def _stream(self, http: aiohttp.ClientSession) -> None:
        while not self._stopping:
            if await self._record(http, stream=True) is not Fate.WHOLE:
                await asyncio.sleep(PAUSE)

    async def _record(self, http: aiohttp.ClientSession, *, stream: bool) -> Fate:
        record = await self._request(http, stream=stream)
        self.records.append(record)
        return record.fate

    async def _request(self, http: aiohttp.ClientSession, *, stream: bool) -> Record:
        clock = asyncio.get_running_loop().time
        began, first, status, revision, port = clock(), None, None, "", None
        fate, error = Fate.WHOLE, ""
        try:
            async with http.post(self._path, json=self._body(stream), allow_redirects=False) as response:
                status, revision = response.status, response.headers.get("x-pilotboat-revision", "")
                if status == 200:
                    first, port = clock(), _local_port(response)
                    await _read(response, stream)
                else:
                    fate = Fate.OWN if status == FORWARD_FAILED else Fate.LOST
                    error = f"status {status}" if fate is Fate.LOST else "the port-forward failed"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as failure:
            fate, error = _failed(failure, first is not None)
            if port in self.broken:
                fate, error = Fate.OWN, "the port-forward broke"
        return Record(began, first, clock(), stream, fate, status, error, revision)

    def _session(self) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        limit = self.wish.timeout
        limits = aiohttp.ClientTimeout(total=None, sock_connect=limit, sock_read=limit)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        return aiohttp.ClientSession(headers=headers, connector=connector, timeout=limits)

    @property
    def _path(self) -> str:
        base = self.url.rstrip("/")
        return f"{base if base.endswith('/v1') else f'{base}/v1'}/chat/completions"

    def _body(self, stream: bool) -> dict[str, Any]:
        messages = [{"role": "user", "content": self.wish.prompt}]
        return {"model": self.model, "messages": messages, "max_tokens": self.wish.max_tokens, "stream": stream}

    _stopping: bool = field(default=False, init=False)


class _Broken(ValueError):
    """An answer that came, and is not whole."""


async def _read(response: aiohttp.ClientResponse, stream: bool) -> None:
    """To the end. Raises _Broken where a stream has an error or no `[DONE]`, or an answer is not whole."""
    size, done, rest = 0, not stream, b""
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_ANSWER:
            raise _Broken(f"an answer of more than {MAX_ANSWER} bytes")
        if stream:
            *lines, rest = (rest + part).split(b"\n")
            done = any(map(_done, lines)) or done
    if not size or not (_done(rest) or done):
        raise _Broken("the stream ended without [DONE]" if size else "an answer without a byte")


def _done(line: bytes) -> bool:
    """Whether this line of a stream says that it is whole. Raises _Broken where it tells an error."""
    name, _, data = line.strip().partition(b":")
    if name == b"data" and _error(data):
        raise _Broken("the stream told an error")
    return name == b"data" and data.strip() == DONE


def _error(data: bytes) -> bool:
    """Within a token's text the quotes would be escaped, so that few events have to be read."""
    if b'"error"' not in data:
        return False
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and bool(told.get("error"))


def _local_port(response: aiohttp.ClientResponse) -> int | None:
    """Known only while the answer is still coming; who has none to look up needs none."""
    transport = response.connection.transport if response.connection else None
    name = transport.get_extra_info("sockname") if transport else None
    return int(name[1]) if name else None


def _failed(failure: Exception, begun: bool) -> tuple[Fate, str]:
    """Whose failure it is, and its name; the words of the library may hold an address, never the key."""
    if isinstance(failure, aiohttp.ClientConnectorDNSError) or getattr(failure, "errno", None) in OWN_ERRNOS:
        return Fate.OWN, f"{type(failure).__name__} {failure}"[:200]
    if isinstance(failure, TimeoutError):
        return (Fate.CUT, "silent") if begun else (Fate.LOST, "time-out")
    words = "connection refused" if getattr(failure, "errno", None) == errno.ECONNREFUSED else type(failure).__name__
    if isinstance(failure, _Broken):
        words = str(failure)
    return (Fate.CUT if begun else Fate.LOST), words


def _hint(status: int | None) -> str:
    if status in (401, 403):
        return ": it wants an API key; load.apiKey names the file or the variable that has it"
    return ": is load.url, or the model's name, right?" if status == 404 else ""
