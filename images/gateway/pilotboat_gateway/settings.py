"""What a container of the gateway is told by its environment, and where its files lie.

Owns: variables and paths. Must not know: what is in the files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pilotboat.api.routing import AGENT_PORT

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
THREADS = 4
"""Most threads of HAProxy, where the environment says nothing: what a node's CPUs would give is memory for nothing."""


@dataclass(frozen=True)
class Settings:
    """One gateway's."""

    namespace: str
    folder: Path = Path("/run/gateway")
    agent_port: int = AGENT_PORT
    threads: int = 1
    kubeconfig: str | None = None
    address: str | None = None
    """The pod's own."""

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """From the environment; ValueError names what cannot be read."""
        namespace = environ.get("PILOTBOAT_NAMESPACE") or (
            OWN_NAMESPACE.read_text().strip() if OWN_NAMESPACE.exists() else ""
        )
        if not namespace:
            raise ValueError("PILOTBOAT_NAMESPACE is not set, and this is no pod of a cluster")
        return cls(
            namespace=namespace,
            folder=Path(environ.get("PILOTBOAT_GATEWAY_DIR") or cls.folder),
            agent_port=_number(environ, "PILOTBOAT_AGENT_PORT", AGENT_PORT),
            threads=_number(environ, "PILOTBOAT_GATEWAY_THREADS", min(THREADS, os.cpu_count() or 1)),
            kubeconfig=environ.get("KUBECONFIG") or None,
            address=environ.get("PILOTBOAT_POD_IP") or None,
        )

    @property
    def config(self) -> Path:
        """What HAProxy starts with: always the present truth."""
        return self.folder / "haproxy.cfg"

    @property
    def map(self) -> Path:
        """Shares and revisions: changed while HAProxy runs, read when it starts."""
        return self.folder / "lanes.map"

    @property
    def state(self) -> Path:
        """Who sits in which slot."""
        return self.folder / "table.json"

    @property
    def runtime(self) -> Path:
        """Socket of the worker that accepts."""
        return self.folder / "runtime.sock"

    @property
    def master(self) -> Path:
        """Socket of the process that keeps the workers."""
        return self.folder / "master.sock"

    @property
    def log(self) -> Path:
        """Socket of the agent: a line a request."""
        return self.folder / "log.sock"

    def spill(self, port: int) -> Path:
        """Socket on which HAProxy takes back what a lane without servers could not serve."""
        return self.folder / f"spill-{port}.sock"

    def copies(self, port: int) -> Path:
        """Socket on which HAProxy takes the copies of requests that it makes."""
        return self.folder / f"copy-{port}.sock"


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{name}={text!r} is not a number above 0")
    return int(text)
