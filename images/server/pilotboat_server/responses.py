"""The HTTP responses that generate: whole or streamed, cancelled when the caller goes away.

Owns the rule that the header goes out only with the first token, so that a gateway may try another replica before it.
Must not know: parameters, the scheduler.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from . import log, requestid
from .answers import Answer
from .backend import Backend
from .errors import ApiError, EngineFailed
from .params import Work
from .types import Delta, Done, Event

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
JSON_HEADERS = {"content-type": "application/json"}


def dump(data: Any) -> bytes:
    """Compact JSON. Raises ValueError for NaN and infinity, which are none."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")


def error_response(error: ApiError) -> Response:
    """OpenAI's error shape."""
    return Response(dump(error.body()), error.status, {**JSON_HEADERS, **error.headers()})


def report(error: Exception, request_id: str) -> None:
    """A bug of ours, by its kind and place in the log: what it says may quote the prompt."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    log.event("request_error", request_id=request_id, error=type(error).__name__, where=where)


class Generation(Response):
    """Runs the work while it is sent; a caller that hangs up ends it."""

    def __init__(self, backend: Backend, work: Work) -> None:
        super().__init__()
        self._work = work
        self._backend = backend
        self._answer = Answer(work, backend.info.model)
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Two tasks: one answers, one waits for the caller to hang up; whichever ends first ends the other."""
        answering = asyncio.create_task(self._respond(send, requestid.of(scope)))
        leaving = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving):
                task.cancel()
            results = await asyncio.gather(answering, leaving, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    async def _respond(self, send: Send, request_id: str) -> None:
        try:
            async with aclosing(self._backend.generate(self._work.requests)) as stream:
                await (self._stream(stream, send) if self._work.stream else self._whole(stream, send))
        except ApiError as error:
            if error.status >= 500:  # what it says may quote the prompt: the log has its kind alone
                fields = {"request_id": request_id, "status": error.status, "error": type(error).__name__}
                log.event("request_failed", **fields, begun=self._started)
            await self._fail(error, send)
        except Exception as error:  # a bug of ours: the caller still gets an answer in the promised shape
            report(error, request_id)
            await self._fail(EngineFailed("Internal error."), send)

    async def _whole(self, stream: AsyncGenerator[tuple[int, Event], None], send: Send) -> None:
        async for index, event in stream:
            self._note(index, event)
        await self._send_all(send, 200, JSON_HEADERS, dump(self._answer.whole()))

    async def _stream(self, stream: AsyncGenerator[tuple[int, Event], None], send: Send) -> None:
        async for index, event in stream:
            if isinstance(event, Delta | Done):
                self._note(index, event)
                chunks = b"".join(b"data: " + dump(chunk) + b"\n\n" for chunk in self._answer.chunks(index, event))
                if chunks:
                    await self._send_part(send, chunks)
        tail = b"data: " + dump(self._answer.usage_chunk()) + b"\n\n" if self._work.include_usage else b""
        await self._send_part(send, tail + b"data: [DONE]\n\n", more=False)

    def _note(self, index: int, event: Event) -> None:
        choice = self._answer.choices[index]
        if isinstance(event, Delta):
            if not self._work.stream:
                choice.add(event)
        elif isinstance(event, Done):
            choice.done = event

    async def _send_part(self, send: Send, body: bytes, more: bool = True) -> None:
        if not self._started:
            self._started = True
            await send(_start(200, STREAM_HEADERS))
        await send({"type": "http.response.body", "body": body, "more_body": more})

    async def _fail(self, error: ApiError, send: Send) -> None:
        """Before the first token a plain error; after it an error event, and no [DONE]: the answer is not whole.

        Where that is our fault its body has no end either, and the connection is closed: a gateway reads no events, and
        would count it among the good ones.
        """
        if self._started:
            await self._send_part(send, b"data: " + dump(error.body()) + b"\n\n", more=error.status >= 500)
        else:
            await self._send_all(send, error.status, JSON_HEADERS | error.headers(), dump(error.body()))

    async def _send_all(self, send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._started = True
        await send(_start(status, {**headers, "content-length": str(len(body))}))
        await send({"type": "http.response.body", "body": body})


def _start(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": raw}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
