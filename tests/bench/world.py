"""A fresh control plane for every measurement, so that none sees what another left behind.

Owns: starting and ending it, with our CRDs and two audited users. Must not know: what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import objects, process
from bench.audit import Log
from lab import bench as simulated
from lab.kube import Client
from tools.host import ROOT, cache

NAME = "bench"
NODES = 50
CLIENT, OPERATOR = "bench-client", "bench-operator"


@dataclass(frozen=True)
class World:
    """A control plane that is up."""

    requests: Log

    @property
    def client(self) -> Path:
        """The kubeconfig of the user."""
        return simulated.kubeconfig_of(CLIENT, NAME)

    @property
    def operator(self) -> Path:
        """The operator's kubeconfig."""
        return simulated.kubeconfig_of(OPERATOR, NAME)

    @property
    def log(self) -> Path:
        """Where the operator's output goes: the last measurement's is kept."""
        return cache("logs") / "bench-operator.log"


@contextmanager
def world() -> Iterator[World]:
    """Up while the block runs."""
    try:
        simulated.up(NAME, NODES, (CLIENT, OPERATOR), sorted((ROOT / "crds").glob("*.yaml")))
        made = World(Log(simulated.audit_log(NAME)))
        made.log.unlink(missing_ok=True)
        _prepare(made.client)
        yield made
    finally:
        simulated.down(NAME)


def _prepare(kubeconfig: Path) -> None:
    client = Client.load(kubeconfig)
    for name in (objects.NAMESPACE, process.NAMESPACE):
        client.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
