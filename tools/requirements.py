"""Owns the compiled requirements: every `requirements.in` becomes a file with versions and hashes. Standard library.

`python3 -m tools.requirements [--upgrade]`. The host's file is compiled first and holds for all images, so a version
exists once in the project. Compiled files name no index: they work behind any mirror. Which sources make one file is
read from pyproject.toml, where they are the package's extras.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from tools import host, venv

DEV_IN = Path("tests/requirements.in")
DEV = Path("requirements-dev.txt")
# No address and no path of this machine may get into a file; the oldest Python is the host's, and images have Debian's.
COMPILE = (
    "pip", "compile", "--quiet", "--no-config", "--universal", "--python-version", "3.11", "--generate-hashes",
    "--no-emit-index-url", "--custom-compile-command", "make requirements",
)  # fmt: skip


def images() -> list[Path]:
    """The images' sources, the host's excepted."""
    return sorted(path.relative_to(host.ROOT) for path in host.ROOT.glob("images/*/requirements.in"))


def with_parents(source: Path) -> list[Path]:
    """A source after those that it stands on."""
    dynamic = tomllib.loads((host.ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]
    lists = [[Path(name) for name in extra["file"]] for extra in dynamic["optional-dependencies"].values()]
    return next((paths for paths in lists if paths[-1] == source), [source])


def compile_one(source: Path, target: Path, *options: str) -> None:
    """One file; versions already in it stay, unless the options say otherwise."""
    env = {name: value for name, value in venv.environment().items() if name not in ("PIP_FIND_LINKS", "UV_FIND_LINKS")}
    command = [str(venv.uv()), *COMPILE, *options, "--output-file", str(target), *map(str, with_parents(source))]
    subprocess.run(command, check=True, cwd=host.ROOT, env=env)
    print(target)


def main(options: list[str]) -> None:
    """The host's file, then each image's within it."""
    compile_one(DEV_IN, DEV, *options)
    for source in images():
        compile_one(source, source.with_suffix(".txt"), "--constraint", str(DEV), *options)


if __name__ == "__main__":
    main(sys.argv[1:])
