"""Progress posts to the operator, from a thread of their own: a server that is away never slows the training.

Only the newest post matters, so there is no queue: a post that could not be sent is replaced by the next.

Owns: the connection, the token, the pace. Must not know: what a post says.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pilotboat.api.runtime import ProgressPost

EVERY_SECONDS = 2.0
TIMEOUT = 5.0
LONGEST_PAUSE = 30.0
LAST_CHANCES = 3


@dataclass(frozen=True)
class Server:
    """Where to post, as KEP-2779 says it in the environment."""

    url: str
    token_file: Path | None
    ca_file: Path | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Server | None:
        """The server, if there is one."""
        url = environment.get("KUBEFLOW_TRAINER_SERVER_URL", "")
        if urlsplit(url).scheme not in ("http", "https"):
            return None
        token, ca = (environment.get(f"KUBEFLOW_TRAINER_SERVER_{name}") for name in ("TOKEN", "CA_CERT"))
        return cls(url, Path(token) if token else None, Path(ca) if ca else None)


class Poster:
    """Sends the newest post, at most every two seconds, and the last one always."""

    def __init__(self, server: Server | None, every: float = EVERY_SECONDS) -> None:
        self._server, self._every = server, every
        self._newest: ProgressPost | None = None
        self._closing = threading.Event()
        self._wake = threading.Condition()
        self._complained = ""
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        if server:
            self._thread.start()

    def post(self, post: ProgressPost) -> None:
        """Hand over; returns at once."""
        with self._wake:
            self._newest = post
            self._wake.notify()

    def close(self) -> None:
        """Send what is still unsent, with a few tries and no more, then end the thread."""
        self._closing.set()
        with self._wake:
            self._wake.notify()
        if self._server:
            self._thread.join(LAST_CHANCES * (TIMEOUT + 1))

    def _run(self) -> None:
        pause, chances = self._every, LAST_CHANCES
        while (post := self._take()) is not None:
            if self._send(post):
                pause = self._every
            else:
                self._keep(post)
                pause = min(pause * 2, LONGEST_PAUSE)
                if self._closing.is_set():
                    chances -= 1
                    if not chances:
                        return
                    time.sleep(1)
            self._closing.wait(pause)

    def _take(self) -> ProgressPost | None:
        """The newest post; None where there will be no more."""
        with self._wake:
            self._wake.wait_for(lambda: self._newest is not None or self._closing.is_set())
            post, self._newest = self._newest, None
            return post

    def _keep(self, post: ProgressPost) -> None:
        with self._wake:
            self._newest = self._newest or post

    def _send(self, post: ProgressPost) -> bool:
        assert self._server
        body = json.dumps(post.wire(), separators=(",", ":")).encode()
        headers = {"content-type": "application/json", **self._authorization()}
        request = urllib.request.Request(self._server.url, body, headers, method="POST")
        try:
            with self._opener().open(request, timeout=TIMEOUT) as response:
                self._complained = ""
                return bool(200 <= response.status < 300)
        # URLError, HTTPError, TLS, timeouts, a missing file: all are OSError. What is no HTTP is not.
        except (OSError, ValueError, http.client.HTTPException) as error:
            return self._complain(error)

    def _opener(self) -> urllib.request.OpenerDirector:
        """The operator is in the cluster: a proxy in podTemplate.env is a way out of it."""
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._tls())
        )

    def _complain(self, error: Exception) -> bool:
        """Say it once, not at every try."""
        words = str(error).strip() or type(error).__name__
        if words != self._complained:
            print(f"trainer: progress could not be posted: {words}", flush=True)
            self._complained = words
        return False

    def _authorization(self) -> dict[str, str]:
        """Read each time: kubelet renews the token."""
        assert self._server
        try:
            token = self._server.token_file.read_text("utf-8").strip() if self._server.token_file else ""
        except OSError:
            token = ""
        return {"authorization": f"Bearer {token}"} if token else {}

    def _tls(self) -> ssl.SSLContext | None:
        assert self._server
        if not self._server.url.startswith("https:"):
            return None
        return ssl.create_default_context(cafile=str(self._server.ca_file) if self._server.ca_file else None)


def from_environment() -> Poster:
    """The poster of this pod; without a server it does nothing."""
    return Poster(Server.of(os.environ))
