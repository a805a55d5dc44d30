"""The Debian system under all images, as an image: pulled from a registry, or made here from Debian's packages.

Owns the choice and the making. It must not know what is built on it.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tools import host
from tools.images.engines import Engine
from tools.images.tree import DEBIAN
from tools.steps import StepFailed, run, step

SUITE = "trixie"
PUBLISHED = f"docker.io/library/debian:{SUITE}-slim"
SCRIPTS = Path("/usr/share/debootstrap/scripts")
# A pod's runtime brings its own of these, and packages are never installed twice.
LEFT_OUT = ("./dev/*", "./proc/*", "./sys/*", "./var/cache/apt/archives/*.deb", "./var/lib/apt/lists/*", "./var/log/*")


def ensure(engine: Engine, log: Path) -> None:
    """The image is there. buildah's machines have Debian's packages; those of the others, as a rule, a registry."""
    if DEBIAN in engine.tags():
        return
    ways = [_bootstrap, _pull] if engine.name == "buildah" else [_pull, _bootstrap]
    with step(f"Debian {SUITE}, which the images stand on", usual="1 min", log=log):
        try:
            ways[0](engine, log)
        except StepFailed:
            ways[1](engine, log)


def _pull(engine: Engine, log: Path) -> None:
    engine.pull(PUBLISHED, DEBIAN, log)


def _bootstrap(engine: Engine, log: Path) -> None:
    program = host.need("debootstrap", "debootstrap")
    if not (SCRIPTS / SUITE).exists():  # the one of Debian 12 may be older than the suite, whose steps are sid's
        (SCRIPTS / SUITE).symlink_to("sid")
    with tempfile.TemporaryDirectory(dir=host.cache("containers", "tmp")) as name:
        system, context = Path(name) / "system", Path(name) / "context"
        context.mkdir()
        run([program, "--variant=minbase", SUITE, system], log=log)
        _with_security_updates(system)
        left_out = [f"--exclude={pattern}" for pattern in LEFT_OUT]
        run(["tar", "--numeric-owner", *left_out, "-C", system, "-cf", context / "system.tar", "."], log=log)
        (context / "Containerfile").write_text('FROM scratch\nADD system.tar /\nCMD ["bash"]\n')
        label = f"org.opencontainers.image.base.name=debian:{SUITE}"
        engine.build(DEBIAN, context / "Containerfile", context, {}, label, log)


def _with_security_updates(system: Path) -> None:
    """debootstrap writes one line, of the release itself; its mirror has the updates beside it."""
    sources = system / "etc" / "apt" / "sources.list"
    mirror = sources.read_text().split()[1]
    more = [f"deb {mirror} {SUITE}-updates main", f"deb {mirror}-security {SUITE}-security main"]
    answered = [line for line in more if _answers(system, line)]
    sources.write_text("\n".join([sources.read_text().strip(), *answered]) + "\n")


def _answers(system: Path, line: str) -> bool:
    """A mirror of one's own may lack a suite, and apt then refuses everything: each is tried alone."""
    trial = system / "tmp" / "trial.list"
    trial.write_text(line + "\n")
    only = ["-o", f"Dir::Etc::SourceList=/tmp/{trial.name}", "-o", "Dir::Etc::SourceParts=-"]
    done = subprocess.run(["chroot", system, "apt-get", "update", *only], capture_output=True)
    trial.unlink()
    return done.returncode == 0
