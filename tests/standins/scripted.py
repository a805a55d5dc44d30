"""A stand-in for any web server: what it answers is a function of the request, and an answer may break off.

Owns: sockets and headers. Must not know: who asks, what a test wants.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 100
"""Bytes."""


@dataclass(frozen=True)
class Asked:
    """One request; its headers have names in lower case."""

    path: str
    headers: dict[str, str]

    @property
    def start(self) -> int:
        """Where its range begins."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").split("-")[0])


@dataclass(frozen=True)
class Answer:
    """One answer; of its body only `sent` bytes, where that is given, before the connection is shut. With `before` the
    body comes in pieces, and before each that is called."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None
    before: Callable[[], None] | None = None


class Scripted:
    """The server. `with Scripted(lambda asked: Answer(404)) as server: ... server.url, server.seen`."""

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self.seen: list[Asked] = []
        self._answer = answer
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Scripted:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()})
                server.seen.append(asked)
                self._send(server._answer(asked))

            def _send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                for name, value in ({"content-length": str(len(answer.body))} | answer.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                body = answer.body[: answer.sent]
                with contextlib.suppress(ConnectionError):  # who has had enough of pieces goes
                    size = PIECE if answer.before else max(1, len(body))
                    for start in range(0, len(body), size):
                        if answer.before:
                            answer.before()
                        self.wfile.write(body[start : start + size])
                self.close_connection = answer.sent is not None

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
