"""Traefik as a Gateway controller that is not ours: built from its Go module, run against a test's API server.

Owns: what it is built from, and how it is started. Must not know: what is tested with it.

Its module does not build as it is published: a nested module is not in it, and registries lack some of what its ACME
client and its authentication need. Neither has to do with the Gateway API, and both are left out of ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.plane import free_ports
from tests.integration import peers

CONTROLLER = "traefik.io/gateway-controller"
TRAEFIK = ("github.com/traefik/traefik/v3@v3.7.13", "h1:T8wy9KuaFzCkmXCqAzDy7t73pBDR1DHrJe3pqXpNXTw=")
LEGO = ("github.com/go-acme/lego/v5@v5.4.1", "h1:Jt6xAP9xQrJ3SLLGgxejfDDd3pzdrmuLCWe4oTqHHQc=")
EXT = {
    "go.mod": "module github.com/traefik/traefik/dynamic/ext\n\ngo 1.26.0\n",
    "ext.go": "package ext\n\ntype HTTP struct{}\n\ntype Router struct{}\n",
}
NO_DNS = """package dns

import (
\t"fmt"

\t"github.com/go-acme/lego/v5/challenge"
)

func NewDNSChallengeProviderByName(name string) (challenge.Provider, error) {
\treturn nil, fmt.Errorf("%s is left out", name)
}
"""
AUTH = "github.com/abbot/go-http-auth"
SUMS = f"""{AUTH} v0.4.0 h1:QjmvZ5gSC7jm3Zg54DqWE/T5m1t2AfDu6QlXJT0EVT0=
{AUTH} v0.4.0/go.mod h1:Cz6ARTIzApMJDzh5bRMSUou6UMSp0IEXg9km/ci7TJM=
"""
CHANGES = (
    ("go.mod", "=> github.com/containous/go-http-auth v0.4.1-0.20260804094822-b975dcaa8c48", f"=> {AUTH} v0.4.0"),
    ("pkg/middlewares/auth/basic_auth.go", "goauth.CheckSecret,", "func(string, string) bool { return false },"),
    ("pkg/middlewares/auth/digest_auth.go", "RequireAuthStale", "RequireAuth"),
)


def program() -> Path:
    """Its binary, built where it is not there."""
    return peers.program(peers.Peer("traefik", TRAEFIK[0], "./cmd/traefik", "5 to 10 min", _sources))


def _sources(folder: Path) -> Path:
    sources, lego = peers.copied(*TRAEFIK, folder / "traefik"), peers.copied(*LEGO, folder / "lego")
    ext = sources / "pkg" / "config" / "dynamic" / "ext"
    ext.mkdir()
    for name, text in EXT.items():
        (ext / name).write_text(text)
    shutil.rmtree(lego / "providers" / "dns")
    (lego / "providers" / "dns").mkdir()
    (lego / "providers" / "dns" / "none.go").write_text(NO_DNS)
    for name, old, new in CHANGES:
        path = sources / name
        assert old in path.read_text(), f"{name} is not as it was"
        path.write_text(path.read_text().replace(old, new))
    with (sources / "go.mod").open("a") as file:
        file.write(f"\nreplace {LEGO[0].partition('@')[0]} => ../lego\n")
    with (sources / "go.sum").open("a") as file:
        file.write(SUMS)
    return sources


@contextmanager
def traefik(binary: Path, kubeconfig: Path, namespace: str, folder: Path) -> Iterator[int]:
    """Runs while the block does; the port at which it takes requests."""
    (port,) = free_ports(1)
    options = (
        f"--entryPoints.web.address=127.0.0.1:{port}",
        "--providers.kubernetesGateway=true",
        f"--providers.kubernetesGateway.namespaces={namespace}",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
    )
    with (folder / "traefik.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, *options], env={**os.environ, "KUBECONFIG": str(kubeconfig)}, stdout=log, stderr=log, cwd=folder
        )
    try:
        yield port
    finally:
        process.kill()
        process.wait()
        print((folder / "traefik.log").read_text()[-4000:])  # shown where the test failed
