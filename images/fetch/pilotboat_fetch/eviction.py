"""What may leave the cache, and when: files that nobody has used for a while, and what dead writers left.

A process that uses a blob has it locked, shared. Of what is found without a lock the time is marked, and only a mark of
some age lets a file go: between fetch and the server, and where a server is restarted, nobody has the lock.

Owns: marks, limits, the choice. Must not know: sources, how files come into the cache.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotboat.api.runtime import FetchCache

from . import locks
from .cache import Cache
from .download import SPARE
from .errors import DiskFull
from .manifest import Manifest
from .progress import mib

FREE_FOR = 3600.0
"""Seconds that nobody must have used a file: a server's image may take long to pull, and a container that crashed is
started again minutes later, without fetch."""


@dataclass(frozen=True)
class Free:
    """A blob that nobody uses, and since when."""

    sha256: str
    size: int
    since: float


@dataclass(frozen=True)
class Room:
    """What there is on the volume, in bytes."""

    total: int
    free: int
    blobs: int
    coming: int
    """What files that are on their way still lack."""
    arrived: int
    """What there is of them."""

    def left(self, limits: FetchCache) -> int:
        """Bytes that may be written; negative where a limit is exceeded already."""
        of_disk = self.free - self.coming - SPARE - self.total * limits.keep_free // 100
        of_size = limits.size - self.blobs - self.arrived - self.coming if limits.size else of_disk
        return min(of_disk, of_size)


def chosen(free: Sequence[Free], short: int, now: float) -> list[Free]:
    """What goes so that `short` bytes are gained, the longest free first; nothing where all would not be enough."""
    going: list[Free] = []
    for blob in sorted(free, key=lambda blob: blob.since):
        if short <= 0:
            break
        if blob.since <= now - FREE_FOR:
            going.append(blob)
            short -= blob.size
    return going if short <= 0 else []


def sweep(cache: Cache) -> None:
    """Mark what nobody uses, and remove what leads nowhere."""
    with locks.alone(cache.room):
        for blob in cache.blobs.iterdir():
            _mark(cache, blob)
        _remove_leftovers(cache)
        _remove_dangling(cache)


def make_room(cache: Cache, size: int, path: Path | None = None) -> None:
    """Have room for so many bytes more, of the file at `path`, which then is reserved. Raises DiskFull."""
    with locks.alone(cache.room):
        room = _room(cache, path)
        short = size - room.left(cache.config)
        if size and short > 0:
            free = _free(cache)
            if _evict(cache, free, short) > 0:
                raise DiskFull(_full(cache, size, room, free))
        if path:
            path.touch()
            cache.reserve(path, _stat(path)[0] + size)


def _evict(cache: Cache, free: list[Free], short: int) -> int:
    """What is still short when all has gone that may."""
    while short > 0 and (going := chosen(free, short, time.time())):
        short -= sum(_removed(cache, blob) for blob in going)
        free = [blob for blob in free if blob not in going]
    return short


def _removed(cache: Cache, blob: Free) -> int:
    """Bytes gained: none where somebody has come to use it since it was marked."""
    with locks.unused(cache.blobs / blob.sha256) as free:
        if not free or not (cache.free / blob.sha256).exists():
            return 0
        cache.remove(blob.sha256)
    return blob.size


def _free(cache: Cache) -> list[Free]:
    sizes = {blob.name: _stat(blob)[0] for blob in cache.blobs.iterdir()}
    marks = [mark for mark in cache.free.iterdir() if mark.name in sizes]
    return [Free(mark.name, sizes[mark.name], _stat(mark)[1]) for mark in marks]


def _room(cache: Cache, besides: Path | None) -> Room:
    whole, here = dict[str, int](), Counter[str]()
    for path, key, size in cache.arriving():  # before the blobs, which they become: better counted twice than never
        whole[key] = max(size, whole.get(key, 0))
        here[key] += _stat(path)[0]
    ours = besides.name.split(".")[0] if besides else ""
    coming = sum(max(0, size - here[key]) for key, size in whole.items() if key != ours)
    blobs = sum(_stat(blob)[0] for blob in cache.blobs.iterdir())
    disk = shutil.disk_usage(cache.root)
    return Room(disk.total, disk.free, blobs, coming, here.total())


def _stat(path: Path) -> tuple[int, float]:
    """Size and mtime; of a file that has just gone, none and now."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, time.time()
    return found.st_size, found.st_mtime


def _full(cache: Cache, size: int, room: Room, free: list[Free]) -> str:
    limits = cache.config
    may_go = sum(blob.size for blob in free if blob.since <= time.time() - FREE_FOR)
    most = f"at most {mib(limits.size)}, " if limits.size else ""
    limited, left = f"({most}{limits.keep_free} % of its volume kept free)", max(0, room.left(limits))
    return (
        f"{mib(size)} to fetch, and the cache {cache.root} {limited} has {mib(left)} left and could give up "
        f"{mib(may_go)}; {mib(room.blobs - may_go)} stay: pods use them, or did so less than an hour ago"
    )


def _mark(cache: Cache, blob: Path) -> None:
    mark = cache.free / blob.name
    with locks.unused(blob) as free:
        if not free:
            mark.unlink(missing_ok=True)
        elif not mark.exists():
            mark.touch()


def _remove_leftovers(cache: Cache) -> None:
    """Of writers that are dead: who lives has a lock."""
    for path, lock in list(cache.leftovers()):
        with locks.alone_at_once(lock) as dead:
            if dead or (dead is None and _stat(path)[1] <= time.time() - FREE_FOR):
                path.unlink(missing_ok=True)
    for lock in cache.locks.iterdir():
        if lock != cache.room:
            with locks.alone_at_once(lock):
                pass  # which removes it


def _remove_dangling(cache: Cache) -> None:
    """What leads to a blob that is no more; of a source, when none of its files is left."""
    there = {blob.name for blob in cache.blobs.iterdir()}
    for mark in cache.free.iterdir():
        if mark.name not in there:
            mark.unlink(missing_ok=True)
    for alias in cache.git.iterdir():
        if alias.read_text("utf-8", "replace") not in there:
            alias.unlink(missing_ok=True)
    for entry in cache.index.iterdir():
        manifest = Manifest.parse(entry.read_text("utf-8", "replace"))
        if manifest is None or not there & {file.sha256 for file in manifest.files}:
            entry.unlink(missing_ok=True)
