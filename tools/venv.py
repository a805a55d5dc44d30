"""Owns `.venv`, the one environment of tests and tools, and the uv that fills it. Standard library only.

`python3 -m tools.venv` makes `.venv` equal to `requirements-dev.txt` and does nothing where it already is. It must not
know what the packages are for.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tools import host
from tools.endings import spoken
from tools.steps import run, step

VENV = host.ROOT / ".venv"
REQUIREMENTS = host.ROOT / "requirements-dev.txt"
UV_REQUIREMENTS = host.ROOT / "images" / "builder" / "requirements.txt"
# Where our packages lie in the tree: the environment imports them from there.
SOURCES = ("operator", "images/server", "images/trainer", "images/fetch", "images/gateway", ".")


def log() -> Path:
    """Where the commands' output goes."""
    return host.cache("logs") / "venv.log"


def digest(*parts: bytes) -> str:
    """A short name for contents."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def uv() -> Path:
    """The uv that the requirements pin, with its hashes, in an environment of its own in the cache."""
    home = host.cache("tools") / f"uv-{digest(UV_REQUIREMENTS.read_bytes(), sys.version.encode())}"
    if not (home / "bin" / "uv").exists():
        with_ensurepip()
        run([sys.executable, "-m", "venv", "--clear", home], log=log())
        pip: list[str | Path] = [home / "bin" / "pip", "install", "--no-deps", "--require-hashes"]
        run([*pip, "--requirement", UV_REQUIREMENTS], log=log())
    return home / "bin" / "uv"


def with_ensurepip() -> None:
    """Debian keeps what `python3 -m venv` needs in a package of its own."""
    if subprocess.run([sys.executable, "-c", "import ensurepip"], capture_output=True).returncode:
        host.install("python3-venv")


def environment() -> dict[str, str]:
    """uv with the system's certificates, and one cache for host and images: each wheel is fetched once."""
    return {**os.environ, "UV_CACHE_DIR": str(host.cache("uv")), "UV_SYSTEM_CERTS": "1"}


def key() -> str:
    """What `.venv` must be equal to: the requirements and the interpreter."""
    return digest(REQUIREMENTS.read_bytes(), sys.version.encode(), sys.base_prefix.encode())


def update() -> bool:
    """Bring `.venv` up to date; False where nothing was to be done."""
    stamp = VENV / "pilotboat.key"
    with host.locked("venv"):
        if stamp.exists() and stamp.read_text() == key():
            return False
        stamp.unlink(missing_ok=True)
        with step("Python packages for tests and tools", usual="1 to 3 min"):
            fill(uv())
        stamp.write_text(key())
    return True


def fill(command: Path) -> None:
    """`.venv` with exactly the packages listed, linked with the cache, and our own from the tree."""
    env = environment()
    make: list[str | Path] = [
        command,
        "venv",
        "--quiet",
        "--no-config",
        "--allow-existing",
        "--python",
        sys.executable,
        VENV,
    ]
    run(make, log=log(), env=env)
    python = VENV / "bin" / "python"
    sync: list[str | Path] = [
        command,
        "pip",
        "sync",
        "--no-config",
        "--compile-bytecode",  # torch without it takes ten seconds of CPU more to import, in every process of the tests
        "--require-hashes",
        "--python",
        python,
        REQUIREMENTS,
    ]
    run(sync, log=log(), env=env)
    site = next(VENV.glob("lib/python3*/site-packages"))
    (site / "pilotboat-tree.pth").write_text("".join(f"{host.ROOT / source}\n" for source in SOURCES))


def main() -> int:
    """One line of answer."""
    print(".venv is made" if update() else ".venv is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(spoken(main))
