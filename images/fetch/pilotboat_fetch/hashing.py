"""Digests of files: SHA-256, and git's SHA-1 of a blob, which is all a hub knows of a small file.

Owns: reading files to hash them. Must not know: what is done about a difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

BLOCK = 1 << 20


class Hasher:
    """Both digests of one stream, in one pass. git's needs the length beforehand, so it is optional."""

    def __init__(self, size: int | None = None) -> None:
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False) if size is not None else None
        self.length = 0

    def update(self, block: bytes) -> None:
        """Take the next bytes in."""
        self._sha256.update(block)
        if self._git:
            self._git.update(block)
        self.length += len(block)

    @property
    def sha256(self) -> str:
        """SHA-256 of what was taken in."""
        return self._sha256.hexdigest()

    @property
    def git_blob(self) -> str | None:
        """git's blob id, where the length was known."""
        return self._git.hexdigest() if self._git else None


def hash_file(path: Path, size: int | None = None, seen: Callable[[int], None] | None = None) -> Hasher:
    """Digests of a file; `seen` is told of every block read."""
    hasher = Hasher(size)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            hasher.update(block)
            if seen:
                seen(len(block))
    return hasher
