"""Which streams are whole, and which were cut."""

from __future__ import annotations

import pytest
from aiohttp import web

from pilotboat.rehearse import file
from pilotboat.rehearse.load import Fate, Load

TOKEN = b'data: {"choices": [{"delta": {"content": "an \\"error\\""}}]}\n\n'
ERROR = b'data: {"error": {"message": "boom"}}\n\n'


@pytest.mark.parametrize(
    ("parts", "fate", "error"),
    [
        ([TOKEN, b"data: [DONE]\n\n"], Fate.WHOLE, ""),
        ([TOKEN, b"data: [DO", b"NE]\n\n"], Fate.WHOLE, ""),
        ([TOKEN, b"data: [DONE]"], Fate.WHOLE, ""),
        ([TOKEN + b"data: [DONE]\n\n: " + b"k" * 100 + b"\n\n"], Fate.WHOLE, ""),
        ([b"data:{}\r\n\r\ndata:[DONE]\r\n\r\n"], Fate.WHOLE, ""),
        ([b'data: {"error": null}\n\ndata: [DONE]\n\n'], Fate.WHOLE, ""),
        ([TOKEN], Fate.CUT, "the stream ended without [DONE]"),
        ([TOKEN, b'data: {"choices": "data: [DONE]"}\n\n'], Fate.CUT, "the stream ended without [DONE]"),
        ([TOKEN, ERROR], Fate.CUT, "the stream told an error"),
        ([TOKEN, ERROR, b"data: [DONE]\n\n"], Fate.CUT, "the stream told an error"),
        ([TOKEN + ERROR + b"data: [DONE]\n\n"], Fate.CUT, "the stream told an error"),
    ],
)
async def test_a_stream_is_whole_when_it_says_so_and_tells_no_error(parts: list[bytes], fate: Fate, error: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        load = Load(file.Load.model_validate({}), f"http://127.0.0.1:{runner.addresses[0][1]}", "m")
        async with load._session() as http:
            record = await load._request(http, stream=True)
    finally:
        await runner.cleanup()
    assert (record.fate, record.error) == (fate, error)
