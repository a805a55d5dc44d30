"""A server that takes KEP-2779 progress posts over TLS and keeps them; it can be away, or answer with errors.

Owns: receiving. Must not know: who posts, what is trained.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lab.pki import Authority


@dataclass(frozen=True)
class Post:
    """One post as it came."""

    body: dict[str, Any]
    authorization: str

    @property
    def step(self) -> int:
        """The step it tells of."""
        return int(self.body["progress"]["step"])


class Receiver:
    """`with Receiver(folder) as server: ... server.environment`."""

    def __init__(self, folder: Path, token: str = "token-1") -> None:
        authority = Authority(folder / "pki")
        authority.create()
        authority.issue("server", user="progress", group="test", names=["IP:127.0.0.1"])
        self.posts: list[Post] = []
        self.status = 200
        self._arrived = threading.Condition()
        self._token = folder / "token"
        self.token = token
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(authority.cert("server"), authority.key("server"))
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.receiver = self
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.environment = {
            "KUBEFLOW_TRAINER_SERVER_URL": f"https://127.0.0.1:{self._server.server_address[1]}/status",
            "KUBEFLOW_TRAINER_SERVER_TOKEN": str(self._token),
            "KUBEFLOW_TRAINER_SERVER_CA_CERT": str(authority.cert("ca")),
        }

    @property
    def token(self) -> str:
        """What the token file holds; kubelet renews it."""
        return self._token.read_text()

    @token.setter
    def token(self, value: str) -> None:
        self._token.write_text(value)

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, condition: Callable[[list[Post]], bool], limit: float = 300) -> None:
        """Until the posts so far fulfil the condition."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: condition(self.posts), limit):
                raise TimeoutError(f"{len(self.posts)} posts and not the one that was waited for")

    def keep(self, post: Post) -> None:
        """One more."""
        with self._arrived:
            self.posts.append(post)
            self._arrived.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.receiver.keep(Post(body, self.headers.get("authorization", "")))
        self.send_response(self.server.receiver.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is its own."""
