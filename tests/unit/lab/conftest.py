"""A lab that runs, as far as it is asked: processes that are recorded, and an API server that is ready."""

from __future__ import annotations

import json
import os
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from lab import cluster, origin, procs
from lab.layout import Lab
from lab.pki import Authority


class Ready(BaseHTTPRequestHandler):
    """An API server, of which only this is asked."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def ready(folder: Path) -> Iterator[str]:
    """The address of an API server that is ready, with a certificate of an authority in this folder."""
    authority = Authority(folder)
    authority.create()
    authority.issue("apiserver", user="kube-apiserver", group="kubernetes", names=["IP:127.0.0.1"])
    authority.issue("admin", user="admin", group="system:masters")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "apiserver.crt", folder / "apiserver.key")
    server = HTTPServer(("127.0.0.1", 0), Ready)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for the names of a lab's sockets; pytest's own may not."""
    with tempfile.TemporaryDirectory(prefix="pb-") as folder:
        yield Path(folder)


@pytest.fixture
def lab(short: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """One whose processes all run, each of which sleeps, and whose API server is ready."""
    monkeypatch.setenv("PILOTBOAT_CACHE", str(short))
    found = Lab(f"old-{os.getpid()}")  # groups and namespaces go by the name, on the whole machine
    with ready(short / "pki") as address:
        try:
            for name in cluster.programs(found):
                node, _, program = name.rpartition("/")
                processes = procs.Processes(found.dir / node / "processes")
                processes.spawn(program, ["sleep", "600"], log=found.logs / "log")
            Authority(short / "pki").kubeconfig(found.kubeconfig, user="admin", server=address, context="old")
            yield found
        finally:
            for folder in found.dir.rglob("processes"):
                procs.Processes(folder).stop(*procs.Processes(folder).names(), grace=0)


def outdated(lab: Lab) -> None:
    """Of now on it was started from something older."""
    old = replace(origin.here(), kubernetes="v1.35.9")
    (lab.dir / "origin.json").write_text(json.dumps(asdict(old)))
