"""Programs that are not ours, built from their Go modules: once, and checked before each use.

Owns: how one is built and kept. Must not know: which there are, nor what is tested with them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab import build
from lab.layout import cache
from tools import host
from tools.steps import run, step


@dataclass(frozen=True)
class Peer:
    """What is built. `sources` answers the folder to build in, and may use the one it is given until that is done."""

    name: str
    module: str
    package: str
    usual: str
    sources: Callable[[Path], Path]


def program(peer: Peer) -> Path:
    """Its binary."""
    folder = cache() / "peers" / f"{peer.name}-{peer.module.rpartition('@')[2]}"
    binary, told = folder / peer.name, folder / "SHA256"
    if told.exists() and binary.exists() and host.sha256(binary) == told.read_text():
        return binary
    log = cache() / "logs" / f"{peer.name}.log"
    go = build.find_go(log)
    with step(f"Building {peer.name}", usual=f"{peer.usual}, once per machine", log=log):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        scratch = folder / "src"
        env = {"GOFLAGS": "-buildvcs=false -mod=readonly", "PATH": f"{Path(go).parent}:{os.environ['PATH']}"}
        asked = [go, "build", "-ldflags", "-s -w", "-o", binary, peer.package]
        run(asked, log=log, cwd=peer.sources(scratch), env=env)
        shutil.rmtree(scratch, ignore_errors=True)
        told.write_text(host.sha256(binary))
    return binary


def copied(module: str, expected: str, to: Path) -> Path:
    """A module's files, writable: it is not itself that is built."""
    shutil.copytree(build.module(module, expected), to)
    for path in (to, *to.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    return to
