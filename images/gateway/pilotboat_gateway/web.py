"""The agent's port: /readyz, /livez, /synced, /metrics, /unreached, /evidence/NAME for the cluster; /v1/feedback by way
of HAProxy.

Owns: the answers' form. Must not know: how they come about.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from pilotboat.api.base import Model
from pilotboat.api.routing import Evidence, Unreached

DEPLOYMENT = "x-pilotboat-deployment"
"""Header that HAProxy sets: whose feedback it is."""
MOST = 16 << 10


class Feedback(Model):
    """What an application says of a request it made."""

    request_id: str = Field(max_length=128)
    outcome: str = Field(min_length=1, max_length=64)

    @field_validator("outcome")
    @classmethod
    def _shown(cls, outcome: str) -> str:
        """It comes to people's terminals."""
        if any(unicodedata.category(each) == "Cc" for each in outcome):
            raise PydanticCustomError("control", "must not contain control characters")
        return outcome


@dataclass(frozen=True)
class Answers:
    """What the port asks for."""

    ready: Callable[[], bool]
    synced: Callable[[], bool]
    metrics: Callable[[], Awaitable[bytes]]
    unreached: Callable[[list[str]], Awaitable[Unreached]]
    evidence: Callable[[str, float], Awaitable[Evidence | None]]
    feedback: Callable[[str, str, str], bool]


def app(answers: Answers) -> web.Application:
    """The application."""
    made = web.Application(client_max_size=MOST)
    made.router.add_get("/livez", _livez)
    made.router.add_get("/readyz", _probe(answers.ready, "HAProxy does not run with what is wanted yet\n"))
    made.router.add_get("/synced", _probe(answers.synced, "waiting for the API server\n"))

    async def metrics(_: web.Request) -> web.Response:
        page = await answers.metrics()
        return web.Response(body=page, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def unreached(request: web.Request) -> web.Response:
        found = await answers.unreached([name for name in request.query.get("of", "").split(",") if name])
        return web.Response(text=found.model_dump_json(), content_type="application/json")

    async def evidence(request: web.Request) -> web.Response:
        try:
            since = float(request.query.get("since", 0))
        except ValueError:
            return web.Response(status=400, text="since: not a Unix time\n")
        found = await answers.evidence(request.match_info["name"], since)
        if found is None:
            return web.Response(status=404, text="no such deployment\n")
        return web.Response(text=found.model_dump_json(by_alias=True), content_type="application/json")

    made.router.add_get("/metrics", metrics)
    made.router.add_get("/unreached", unreached)
    made.router.add_get("/evidence/{name}", evidence)
    made.router.add_route("*", "/v1/feedback", _feedback(answers.feedback))
    return made


async def serve(application: web.Application, port: int) -> web.AppRunner:
    """Start; the runner's cleanup stops it."""
    # What cannot be unpacked is thrown as an error at the handler, and once more at the connection.
    runner = web.AppRunner(application, access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port, reuse_address=True).start()
    return runner


def _probe(true: Callable[[], bool], otherwise: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if true() else web.Response(status=503, text=otherwise)

    return answer


def _feedback(take: Callable[[str, str, str], bool]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        if request.method != "POST":
            return _refusal(405, "Feedback is posted.", allow="POST")
        if "content-encoding" in request.headers:
            return _refusal(415, "The body must not be compressed.")
        try:
            posted = Feedback.model_validate_json(await request.read())
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or None
            return _refusal(400, f"{field or 'The body'}: {first['msg']}", field)
        except web.HTTPRequestEntityTooLarge:
            return _refusal(413, f"Feedback has {MOST} bytes at most.")
        if not take(request.headers.get(DEPLOYMENT, ""), posted.request_id, posted.outcome):
            return _refusal(404, "This gateway knows no revision that the id begins with.")
        return web.Response(status=204)

    return answer


async def _livez(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _refusal(status: int, message: str, param: str | None = None, **headers: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return web.json_response({"error": error}, status=status, headers=headers)
