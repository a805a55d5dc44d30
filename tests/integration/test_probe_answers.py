"""Servers that speak HTTP and not OpenAI's API, or half of it: each has its name in the probe's counts or its end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from pilotboat.api.probing import Endpoint
from pilotboat_probe.client import Version, session
from pilotboat_probe.errors import KeyRefused, ProbeError, Unanswered, Unreachable, WrongAnswer

KEY = "sk-very-secret"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def chunk(text: str = "word", **more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}], **more}).encode() + b"\n\n"


def message(content: Any = "word", **more: Any) -> str:
    return json.dumps({"choices": [{"message": {"content": content}, **more}]})


def fixed(status: int = 200, text: str = "", headers: dict[str, str] | None = None) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers)

    return answer


def streamed(*parts: bytes, cut: bool = False) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        if cut and request.transport:
            request.transport.abort()
        return response

    return answer


@asynccontextmanager
async def version(handler: Handler, limit: float = 30) -> AsyncIterator[Version]:
    """A version whose every path is answered so."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        async with session(KEY, limit) as http:
            yield Version(http, "canary", Endpoint(revision="r", url=f"http://{host}:{port}"), "m")
    finally:
        await runner.cleanup()


WHOLE = [
    (fixed(text="<html>hello</html>"), "invalid"),
    (fixed(text="[]"), "invalid"),
    (fixed(text="{}"), "invalid"),
    (fixed(text='{"choices": []}'), "invalid"),
    (fixed(text='{"choices": [{"message": "x"}]}'), "invalid"),
    (fixed(text="[" * 100_000), "invalid"),
    (fixed(text=message(content=7)), "invalid"),
    (fixed(text=message(logprobs={"content": [{"token": "a", "logprob": "much"}]})), "invalid"),
    (fixed(text=message(logprobs=[])), None),
    (fixed(text=message(content=None)), None),
    (fixed(500, "oh"), "500"),
    (fixed(429, '{"error": {"message": "later"}}'), "429"),
    (fixed(302, headers={"Location": "http://example.com/"}), "302"),
    (fixed(204), "204"),
    (streamed(message().encode()[:9], cut=True), "cut"),
    (streamed(*[b"x" * (1 << 20)] * 9), "invalid"),
]


@pytest.mark.parametrize(("handler", "kind"), WHOLE, ids=range(len(WHOLE)))
async def test_whole_answers(handler: Handler, kind: str | None) -> None:
    async with version(handler) as asked:
        assert await fault(asked.whole("hello", 4)) == kind


STREAMS = [
    (streamed(chunk("a"), chunk("b"), b"data: [DONE]\n\n"), None),
    (streamed(b": comment\n\nevent: x\n", chunk(), b"data:[DONE]\r\n\r\n"), None),
    (streamed(chunk(""), b"data: [DONE]\n\n"), None),
    (streamed(chunk("a"), chunk("b")), "cut"),
    (streamed(chunk("a"), cut=True), "cut"),
    (streamed(chunk("a"), b'data: {"error": {"message": "broken"}}\n\n'), "cut"),
    (streamed(), "invalid"),
    (streamed(b"data: {]\n\n"), "invalid"),
    (streamed(b'data: {"choices": 3}\n\n'), "invalid"),
    (streamed(b"data: " + b"x" * 1_000_000), "invalid"),
    (streamed(*[chunk("y" * 10_000)] * 900), "invalid"),
    (fixed(503, "down"), "503"),
]


@pytest.mark.parametrize(("handler", "kind"), STREAMS, ids=range(len(STREAMS)))
async def test_streams(handler: Handler, kind: str | None) -> None:
    async with version(handler) as asked:
        assert await fault(asked.stream("hello", 4, due=0)) == kind


async def fault(asking: Awaitable[object]) -> str | None:
    try:
        await asking
    except Unanswered as error:
        return error.kind
    return None


REACH: list[tuple[Handler, type[ProbeError] | None]] = [
    (fixed(text='{"data": []}'), None),
    (fixed(text='{"data": 1}'), WrongAnswer),
    (fixed(text="<html>"), WrongAnswer),
    (fixed(404, "nothing"), WrongAnswer),
    (fixed(401, f'{{"error": {{"message": "bad key {KEY}"}}}}'), KeyRefused),
    (fixed(403, f'{{"error": {{"message": "bad key {KEY}"}}}}'), KeyRefused),
    (fixed(400, f'{{"error": {{"message": "bad key {KEY}"}}}}'), WrongAnswer),
    (fixed(503), Unreachable),
]


@pytest.mark.parametrize(("handler", "error"), REACH, ids=range(len(REACH)))
async def test_before_the_work_begins(handler: Handler, error: type[ProbeError] | None) -> None:
    async with version(handler) as asked:
        if error is None:
            return await asked.reach(10)
        with pytest.raises(error) as raised:
            await asked.reach(0.2 if error is Unreachable else 10)
    assert KEY not in str(raised.value)


async def test_a_server_without_log_probabilities_is_asked_without() -> None:
    seen = []

    async def picky(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        seen.append("logprobs" in body)
        refused = '{"error": {"message": "logprobs is not supported", "param": "logprobs"}}'
        return web.Response(status=400, text=refused) if seen[-1] else web.Response(text=message("two words"))

    async with version(picky) as asked:
        answers = [await asked.whole("hello", 4), await asked.whole("again", 4)]
    assert seen == [True, False, False]
    assert all(answer.tokens == ("two", "words") and answer.logprobs is None for answer in answers)


async def test_a_server_that_never_answers_is_a_timeout() -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while request.transport and not request.transport.is_closing():
            await response.write(b": still here\n\n")
        return response

    async with version(silent, limit=0.2) as asked:
        assert await fault(asked.stream("hello", 4, due=0)) in ("timeout", "invalid")
