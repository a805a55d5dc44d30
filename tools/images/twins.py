"""Keeps one copy of what lies on the disk twice: the large files of wheels, in uv's cache and in the builder's layers.

A build copies wheels out of the cache, because a layer is another file system while it is built. Afterwards both are
folders of one disk, and the copies (mostly CUDA's libraries) become hard links: 5 GB less. Both sides are written once
and then only read; a layer that changed all the same is refused when it is exported. It must not know what is in them.
"""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SMALLEST = 1 << 20  # below this nothing is gained, and people patch scripts in place
_INSTALLED = "overlay/*/diff/opt/venv/lib/python3*/site-packages"


def link(storage: Path, wheels: Path) -> int:
    """Hard-link layers' files with those of unpacked wheels; returns the bytes that this set free."""
    unpacked: dict[Path, list[Path]] = defaultdict(list)
    for wheel in wheels.glob("archive-v*/*"):
        for path in _large(wheel):
            unpacked[path.relative_to(wheel)].append(path)
    freed = 0
    for installed in storage.glob(_INSTALLED):
        for path in _large(installed):
            freed += _link_one(path, unpacked.get(path.relative_to(installed), []))
    return freed


def _large(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for path in (Path(parent) / name for name in names):
            if not path.is_symlink() and path.stat().st_size >= SMALLEST:
                yield path


def _link_one(path: Path, others: list[Path]) -> int:
    for other in others:
        if path.samefile(other):
            return 0
        if _alike(path, other) and filecmp.cmp(path, other, shallow=False):
            freed = path.stat().st_size if path.stat().st_nlink == 1 else 0
            staged = path.with_name(path.name + ".twin")
            os.link(other, staged)
            os.replace(staged, path)
            return freed
    return 0


def _alike(path: Path, other: Path) -> bool:
    """Links share everything but the name, so the owner and the mode must be the same, and the disk."""
    one, two = path.stat(), other.stat()
    return (one.st_dev, one.st_size, one.st_mode, one.st_uid) == (two.st_dev, two.st_size, two.st_mode, two.st_uid)
