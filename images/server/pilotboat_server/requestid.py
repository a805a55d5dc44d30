"""The header x-request-id: a gateway's own is handed back with every answer, and one is made where none was given.

Owns the header and how a request's id is found. Must not know: what is asked or answered.
"""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-request-id"
FIT = re.compile(r"[!-~]{1,128}")
"""An id that may stand in a log line and a header as it is; any other is replaced."""


class RequestIds:
    """Middleware: puts the id into the scope and into the header of each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == HEADER.encode()), "")
        number = scope[HEADER] = given if FIT.fullmatch(given) else uuid.uuid4().hex

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = number
            await send(message)

        await self._app(scope, receive, tell)


def of(scope: Scope) -> str:
    """The id of the request that this scope is of."""
    number: str = scope[HEADER]
    return number
