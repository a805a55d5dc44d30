"""The HTTP front: routes, authentication, probes. One FastAPI application over one Backend.

Owns what callers see of HTTP. Must not know: engines, processes, the scheduler.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import Depends, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from . import params, requestid
from .backend import Backend, ServerInfo
from .errors import ApiError, BadRequest, NotFound, TooLarge, Unauthorized
from .lastresort import LastResort
from .params import Work
from .phases import Probe
from .responses import Generation, dump, error_response

MAX_BODY = 16 << 20
"""Bytes of a request body: more text than any context holds."""

Parse = Callable[[Any, ServerInfo, str, float], Work]


def create_app(backend: Backend, api_keys: Sequence[str] = ()) -> FastAPI:
    """The application. With keys, /v1/* needs one of them."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(LastResort)
    app.add_middleware(requestid.RequestIds)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    guard = [Depends(_key_check(api_keys))] if api_keys else []
    _add_generation(app, backend, guard)
    _add_models(app, backend, guard)
    for probe in ("startupz", "readyz", "livez"):
        _add_probe(app, backend, probe)

    @app.get("/readyz/inference")
    async def inference() -> Response:
        failure = await backend.inference()
        return _json_response({"ok": not failure, "message": failure}, 503 if failure else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(await backend.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


def _add_generation(app: FastAPI, backend: Backend, guard: list[Any]) -> None:
    async def run(request: Request, parse: Parse) -> Response:
        arrived = time.monotonic()
        data = await _json(request)
        return Generation(backend, parse(data, backend.info, uuid.uuid4().hex, arrived))

    @app.post("/v1/chat/completions", dependencies=guard)
    async def chat_completions(request: Request) -> Response:
        return await run(request, params.chat)

    @app.post("/v1/completions", dependencies=guard)
    async def completions(request: Request) -> Response:
        return await run(request, params.completion)


def _add_models(app: FastAPI, backend: Backend, guard: list[Any]) -> None:
    def model() -> dict[str, Any]:
        info = backend.info
        return {
            "id": info.model,
            "object": "model",
            "created": info.created,
            "owned_by": "pilotboat",
            "max_model_len": info.max_length,
        }

    @app.get("/v1/models", dependencies=guard)
    async def models() -> Response:
        return _json_response({"object": "list", "data": [model()]})

    @app.get("/v1/models/{name:path}", dependencies=guard)
    async def one_model(name: str) -> Response:
        if name != backend.info.model:
            raise NotFound(f"The model {name!r} does not exist.", "model", "model_not_found")
        return _json_response(model())


def _add_probe(app: FastAPI, backend: Backend, probe: Probe) -> None:
    @app.get(f"/{probe}")
    async def answer() -> Response:
        health = await backend.health()
        return _json_response(health.body(), 200 if health.passes(probe) else 503)


def _json_response(data: Any, status: int = 200) -> Response:
    return Response(dump(data), status, media_type="application/json")


async def _json(request: Request) -> Any:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise TooLarge(f"The body is larger than {MAX_BODY} bytes.")
    try:
        data = json.loads(body.decode("utf-8-sig"))  # of bytes it would take what is no UTF-8 too
        if b"\\ud" in body.lower():  # half a surrogate pair is valid JSON and no text: no tokenizer takes it
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON, or not text: {error}") from None
    return data


def _key_check(keys: Sequence[str]) -> Callable[[Request], Awaitable[None]]:
    """Compares digests, so that neither a key's length nor its beginning shows in the time it takes.

    Of bytes: a header has no letters beyond ASCII, Starlette reads one as Latin-1 and clients write UTF-8.
    """
    accepted = [_digest(key.encode("utf-8", "surrogateescape")) for key in keys]

    async def check(request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        given = _digest(key.strip(" \t").encode("latin-1"))
        if scheme.lower() != "bearer" or not any([hmac.compare_digest(given, known) for known in accepted]):
            raise Unauthorized("Give an accepted API key in the header `Authorization: Bearer KEY`.")

    return check


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, in the same shape."""
    assert isinstance(error, HTTPException)
    body = {"message": f"{request.method} {request.url.path}: {error.detail}", "type": "invalid_request_error"}
    content = dump({"error": {**body, "param": None, "code": None}})
    return Response(content, error.status_code, error.headers, media_type="application/json")
