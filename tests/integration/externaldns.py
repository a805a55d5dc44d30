"""external-dns, the real one: built from its Go module, run against a test's API server and a test's name server.

Owns: what it is built from, how it is started, and what it tells of itself. Must not know: what is tested with it.

Registries lack some of what its Exoscale provider and its OpenShift source need; ours has other versions of these. The
rest is what its module asks for.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from lab import build
from lab.plane import free_ports
from tests.integration import peers
from tests.integration.nameserver import KEY, ZONE, Primary

MODULE = ("sigs.k8s.io/external-dns@v0.22.0", "h1:+ASJ3KF7DLqHo2LsG8Qinuh2J389MS86I19i/r8ewUc=")
OTHERS = """
require github.com/gogo/protobuf v1.3.2 // indirect

replace (
\tgithub.com/exoscale/egoscale/v3 => github.com/exoscale/egoscale/v3 v3.1.43
\tgithub.com/openshift/api => github.com/openshift/api v0.0.0-20251015095338-264e80a2b6e7
\tgithub.com/openshift/client-go => github.com/openshift/client-go v0.0.0-20251015124057-db0dee36e235
)
"""
SUMS = Path(__file__).with_name("external-dns.sum")
"""Of these and of what only they ask for; its own are in its go.sum."""
NAMED = "PILOTBOAT_EXTERNAL_DNS"
"""Names another binary, which is run in place of the one that is built."""

INTERVAL = 1.0
"""Seconds between its looks."""
PATIENCE = 180.0
ERROR = re.compile(" level=(error|fatal) ")
QUIET = "All records are already up to date"


def program() -> Path:
    """The binary that is named, or the one that is built."""
    named = os.environ.get(NAMED)
    peer = peers.Peer("external-dns", MODULE[0], ".", "5 to 10 min", _sources)
    return Path(named) if named else peers.program(peer)


def crd() -> Path:
    """The DNSEndpoint as its release has it."""
    return build.module(*MODULE) / "config" / "crd" / "standard" / "dnsendpoints.externaldns.k8s.io.yaml"


def _sources(folder: Path) -> Path:
    sources = peers.copied(*MODULE, folder)
    for name, more in (("go.mod", OTHERS), ("go.sum", SUMS.read_text())):
        with (sources / name).open("a") as file:
            file.write(more)
    return sources


class ExternalDns:
    """The process, by what it logs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lines: list[str] = []
        self._news = asyncio.Condition()

    async def read(self) -> None:
        """Until it ends."""
        assert self._process.stderr
        async for line in self._process.stderr:
            async with self._news:
                self._lines.append(line.decode())
                self._news.notify_all()

    async def settled(self, looks: int) -> None:
        """Until it has looked so often, from now on, and found nothing to do."""
        wanted = self._quiet() + looks
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: self._quiet() >= wanted)

    def errors(self) -> list[str]:
        """What it has logged as one."""
        return [line for line in self._lines if ERROR.search(line)]

    def end(self) -> str:
        """Its last words."""
        return "".join(self._lines[-20:])

    def _quiet(self) -> int:
        return sum(QUIET in line for line in self._lines)


@asynccontextmanager
async def external_dns(
    binary: Path, kubeconfig: Path, namespace: str, source: str, server: Primary, owner: str
) -> AsyncIterator[ExternalDns]:
    """A cluster's own, while the block runs: it reads one namespace and has an owner's name of its own."""
    (port,) = free_ports(1)
    options = (
        f"--kubeconfig={kubeconfig}",
        f"--namespace={namespace}",
        f"--source={source}",
        "--policy=sync",
        "--registry=txt",
        f"--txt-owner-id={owner}",
        f"--interval={INTERVAL:.0f}s",
        f"--metrics-address=127.0.0.1:{port}",
        "--provider=rfc2136",
        f"--rfc2136-host={server.host}",
        f"--rfc2136-port={server.port}",
        f"--rfc2136-zone={ZONE}",
        f"--rfc2136-tsig-keyname={KEY}",
        "--rfc2136-tsig-secret-alg=hmac-sha256",
        "--rfc2136-tsig-axfr",  # the name of it that releases before 0.22 know as well
    )
    env = {**os.environ, "EXTERNAL_DNS_RFC2136_TSIG_SECRET": server.secret}
    process = await asyncio.create_subprocess_exec(binary, *options, env=env, stderr=subprocess.PIPE, limit=2**20)
    running = ExternalDns(process)
    reader = asyncio.create_task(running.read())
    try:
        yield running
    finally:
        process.kill()
        await process.wait()
        await reader
        print(running.end())  # shown where the test failed
