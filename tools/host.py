"""What the tools need from the machine: Debian packages, the cache directory, a lock. Standard library only.

Knows nothing of images, requirements or the lab: it runs before any of these exist.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.steps import run

ROOT = Path(__file__).resolve().parent.parent
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def cache(*parts: str) -> Path:
    """A directory under the project's one cache, made when it is not there."""
    home = Path(os.environ.get("PILOTBOAT_CACHE") or Path.home() / ".cache" / "pilotboat")
    path = home.joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time for what is named; the kernel lets go when the holder dies."""
    with (cache("locks") / name).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def alone(name: str) -> Iterator[bool]:
    """Whether nobody else holds what is named: not waited for, and held until the end of the block, or process."""
    with (cache("locks") / name).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def need(command: str, package: str) -> str:
    """The path of a command, installed from Debian's package where it is missing and may be installed."""
    found = shutil.which(command)
    if found is None:
        install(package)
        found = shutil.which(command)
    if found is None:
        sys.exit(f"{command} is needed and not here: install the package {package!r}")
    return found


def install(*packages: str) -> None:
    """Debian packages, by apt, as root; elsewhere a sentence that says what to install."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"needed on this machine: {' '.join(packages)} (Debian's names); install them and run this again")
    apt("update", "-q")
    apt("install", "-q", "--yes", "--no-install-recommends", *packages)


def apt(*arguments: str, cwd: Path | None = None) -> None:
    """apt-get, its output in `apt_log`; StepFailed with its last lines where it fails."""
    run(["apt-get", *arguments], log=apt_log(), cwd=cwd, env={"DEBIAN_FRONTEND": "noninteractive"})


def apt_log() -> Path:
    """What apt-get said."""
    return cache("logs") / "apt.log"


def unpacked(package: str, folder: Path) -> Path:
    """The files of a Debian package, under `folder`: nothing is installed, and no service of it is started.

    The package is kept in the cache, and checked each time against the SHA-256 that apt's signed index has.
    """
    digest = _offered(package)
    kept = cache("debs") / f"{digest}.deb"
    if not kept.exists() or sha256(kept) != digest:
        with tempfile.TemporaryDirectory(dir=cache("debs")) as name:
            apt("-q", "-o", "APT::Sandbox::User=root", "download", package, cwd=Path(name))
            (got,) = Path(name).glob("*.deb")
            if sha256(got) != digest:
                sys.exit(f"{got.name} is not what apt's index says: run `apt-get update` and this again")
            got.rename(kept)
    run(["dpkg-deb", "--extract", kept, folder], log=apt_log())
    return folder


def _offered(package: str) -> str:
    for update in (False, True):
        if update:
            apt("update", "-q")
        asked = ["apt-cache", "show", "--no-all-versions", package]
        shown = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        for line in shown.splitlines():
            if line.startswith("SHA256: "):
                return line.split()[1]
    sys.exit(f"Debian's package {package!r} is needed, and apt knows none")


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
