"""A program of an image, to be run on this machine with the image's own libraries: tests try what ships.

Knows how such a program is taken out and started. It must not know which program, or what for.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import time
from pathlib import Path

from tools import host
from tools.images import engines, tree, work

TAKEN = 'set -e; cd /; tar -ch "$0" $(ldd "$0" | grep -o "/[^ )]*")'
"""The program and every library that it is linked with; links are followed."""
KEPT = 6 * 3600
"""Seconds: longer than any run of tests."""
STARTED = """\
#!/bin/sh
exec "{loader}" --argv0 "$0" --library-path "{libraries}" "{program}" "$@"
"""


def borrow(image: str, program: str) -> Path:
    """The folder, for PATH, with a program (by its full path) of an image, which is built where it is not yet."""
    work.build([image])
    ref = tree.refs()[image]
    folder = host.cache("borrowed", image) / ref.rpartition(":")[2]
    started = folder / "bin" / Path(program).name
    with host.locked("images"):  # a build ends by removing every container of the store
        if not started.exists():
            shutil.rmtree(folder, ignore_errors=True)
            with tarfile.open(fileobj=io.BytesIO(engines.choose().output(ref, TAKEN, program))) as tar:
                tar.extractall(folder / "root", filter="data")
            _start(folder / "root", program, started)
        os.utime(folder)
        forget(folder.parent)
    return started.parent


def forget(borrowed: Path) -> None:
    """What has not been borrowed for hours goes: what is newer may be another tree's, whose tests run beside."""
    for folder in borrowed.iterdir():
        if folder.stat().st_mtime < time.time() - KEPT:
            shutil.rmtree(folder)


def _start(root: Path, program: str, started: Path) -> None:
    """Written last, and all at once: where it is, all is."""
    libraries = sorted({str(path.parent) for path in root.rglob("*.so*")})
    loader = next(path for path in root.rglob("ld-linux-*.so*"))
    text = STARTED.format(loader=loader, libraries=":".join(libraries), program=root / program.lstrip("/"))
    started.parent.mkdir(parents=True)
    new = started.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o755)
    new.replace(started)
