"""What a source offers and how it is had: the words that hub, HTTP and local sources share.

Owns: Wanted, Listing, Source. Must not know: any one kind of source.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .errors import DiskFull, DownloadFailed
from .manifest import Entry, Manifest


@dataclass(frozen=True)
class Wanted:
    """One file of a source, with what is known of it beforehand."""

    path: str
    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None
    origin: str = ""
    """Where the source finds it: an address or a path of its own."""


@dataclass(frozen=True)
class Listing:
    """What a source turned out to have."""

    files: tuple[Wanted, ...]
    revision: str | None = None
    in_place: bool = False
    """The files stay where they are and are only linked, so they need no room."""


class Source(Protocol):
    """One place that files come from."""

    def describe(self) -> dict[str, Any]:
        """What was asked for, without secrets: two equal descriptions ask for the same files."""

    def resolve(self, revision: str | None) -> Listing:
        """The files there are; at `revision`, where one is known from an earlier run."""

    def obtain(self, file: Wanted, target: Path) -> str:
        """Bring the file to `target`, whole and verified. Returns its SHA-256."""

    def remember(self, manifest: Manifest) -> tuple[Entry, ...] | None:
        """All of it is in its folder. Returns what of it another pod had fetched; None where none leaves anything."""
        return None


def sync(path: Path) -> None:
    """Flush a file or a folder to the volume, so that READY never outlives what it vouches for."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the errors of a full or read-only volume into reasons."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room left on the volume while writing {path.name}") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise DownloadFailed(f"cannot write {path}: {error.strerror}") from error
        raise
