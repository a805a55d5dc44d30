"""Files of the model that lie in the cache of a node or of a volume: held as long as this process lives.

fetch removes nothing from the cache that somebody has locked. Owns: those locks. Must not know: what the files are.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pilotboat.api.runtime import CACHE_DIR

from .errors import InvalidModel


def hold(places: Iterable[Path], cache: Path = Path(CACHE_DIR)) -> list[int]:
    """Descriptors of every file there that is a link into the cache; no child inherits them.

    Nobody needs to close them. Raises InvalidModel where a file has gone: this container cannot bring it back.
    """
    return [_held(link) for place in places for link in _links(place, cache.resolve())]


def _links(place: Path, cache: Path) -> Iterator[Path]:
    """Of a folder, or of a file and those beside it: a model may be split."""
    files = place.rglob("*") if place.is_dir() else place.parent.glob("*")
    return (file for file in sorted(files) if file.is_symlink() and file.resolve().is_relative_to(cache))


def _held(link: Path) -> int:
    try:
        handle = os.open(link, os.O_RDONLY)
        with suppress(OSError):  # a volume without locks: there nothing is ever removed
            fcntl.flock(handle, fcntl.LOCK_SH)
        link.stat()  # it may have been removed before the lock was had
    except FileNotFoundError:
        raise InvalidModel(
            f"{link} leads to a file that has gone from the cache ({link.readlink()}): delete the pod, so that it is "
            "fetched again"
        ) from None
    return handle
