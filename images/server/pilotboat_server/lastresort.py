"""What nobody expected while a request was answered: the caller gets an error in the promised shape, the log its place.

Owns the middleware. Must not know: routes, what is asked. A caller that hung up while it was sending is no error.
"""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import requestid
from .errors import EngineFailed
from .responses import error_response, report


class LastResort:
    """Middleware, inside RequestIds: its answers have the request's id too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        begun = False

        async def tell(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, tell)
        except ClientDisconnect:
            return
        except Exception as error:  # a bug of ours: whoever asked gets an answer all the same
            if begun or scope["type"] != "http":
                raise
            report(error, requestid.of(scope))
            await error_response(EngineFailed("Internal error."))(scope, receive, send)
