"""The folder that outlives pods: whole files by their digest, and what leads to them.

    blobs/SHA256      a file, whole and flushed before it got this name; nobody writes to it
    git/BLOB          the SHA-256 of a small file, of which a hub knows git's blob id only
    index/KEY         the manifest of a source at a commit: who names that commit asks nobody
    partial/          what is on its way: KEY.SIZE.RANDOM, and KEY.SIZE.room where only its server knew the size
    locks/            who fetches a file, who makes room; empty as long as nobody does
    free/SHA256       since when nobody uses a file (its mtime): see `eviction`

Owns: this layout, and that nobody ever sees half of anything in it. Must not know: sources, when something is removed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from pilotboat.api.runtime import FetchCache

from . import locks
from .errors import DiskFull, DownloadFailed, UnsafeFile
from .files import Wanted, sync
from .manifest import Manifest
from .safety import ALLOWED, allowed, inside

GROUP = 65532
"""Of all our images: the volume's files belong to it (fsGroup)."""
FOLDER_MODE = 0o2775
FILE_MODE = 0o444
_ARRIVING = re.compile(r"(?P<key>[0-9a-z]+)\.(?P<size>\d+)\.[0-9a-z]+")
FOLDERS = ("blobs", "git", "index", "partial", "locks", "free")


class Cache:
    """One cache as one process uses it: what it holds stays there until `close`."""

    def __init__(self, config: FetchCache) -> None:
        self.config, self.root = config, Path(config.path).absolute()
        self.blobs, self.git, self.index, self.partial, self.locks, self.free = (self.root / name for name in FOLDERS)
        self.room = self.locks / "room"
        self._held: dict[str, int] = {}

    def open(self) -> None:
        """Make what is not there yet."""
        for name in FOLDERS:
            folder = self.root / name
            if not folder.is_dir():
                folder.mkdir(exist_ok=True)
                folder.chmod(FOLDER_MODE)  # whatever the umask: pods of other users write here, too

    def close(self) -> None:
        """Let go of everything."""
        while self._held:
            os.close(self._held.popitem()[1])

    def hold(self, sha256: str) -> Path | None:
        """The blob, which nobody removes from now on; None where there is none. It need not be good."""
        path = self.blobs / sha256
        handle = locks.shared(path)
        if handle is None:
            return None
        self._let_go(sha256)  # of an older file of that name
        self._held[sha256] = handle
        (self.free / sha256).unlink(missing_ok=True)
        return path

    def digest(self, file: Wanted) -> str | None:
        """SHA-256 of a file, where that is known."""
        if file.sha256 or not file.git_blob:
            return file.sha256
        return _text(self.git / file.git_blob)

    @contextmanager
    def fetching(self, file: Wanted) -> Iterator[Path]:
        """A path of its own for a file on its way; what is left there at the end is removed."""
        path = self.partial / f"{key(file)}.{file.size or 0}.{uuid4().hex}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)
            self._release(key(file))

    def reserve(self, part: Path, whole: int) -> None:
        """Let other pods count a file whole whose size nobody knew beforehand."""
        name, size, _ = part.name.split(".")
        if whole > int(size):
            self._release(name)
            (self.partial / f"{name}.{whole}.room").touch()

    def arriving(self) -> Iterator[tuple[Path, str, int]]:
        """What is on its way, with its key and size. NFS may have files there, of what was removed while open."""
        for path in self.partial.iterdir():
            if known := _ARRIVING.fullmatch(path.name):
                yield path, known["key"], int(known["size"])

    def coming(self, file: Wanted) -> bool:
        """Whether another pod has room for the file, and fetches it."""
        return any(self.partial.glob(f"{key(file)}.*"))

    def lock(self, file: Wanted) -> Path:
        """Where two pods that want a file meet."""
        return self.locks / key(file)

    def add(self, part: Path, sha256: str, git_blob: str | None) -> None:
        """Take in a finished file, and hold it."""
        _publish(part, self.blobs / sha256)
        if git_blob:
            self._write(self.git / git_blob, sha256)
        self.hold(sha256)

    def remove(self, sha256: str) -> None:
        """Remove a blob, with its mark."""
        self._let_go(sha256)
        (self.blobs / sha256).unlink(missing_ok=True)
        (self.free / sha256).unlink(missing_ok=True)

    def recall(self, source: dict[str, Any], revision: str) -> Manifest | None:
        """The manifest of a source at a commit, where all its files are there."""
        manifest = Manifest.parse(_text(self._entry(source, revision)) or "")
        if manifest is None or manifest.source != _at(source, revision) or manifest.revision != revision:
            return None
        whole = all(_harmless(file.path) and (self.blobs / file.sha256).is_file() for file in manifest.files)
        return manifest if whole else None

    def remember(self, manifest: Manifest, revision: str) -> None:
        """Keep the manifest of a source at a commit, which never changes."""
        if self.recall(manifest.source, revision) is None:
            text = Manifest(_at(manifest.source, revision), revision, manifest.files).to_json()
            self._write(self._entry(manifest.source, revision), text)

    def leftovers(self) -> Iterator[tuple[Path, Path]]:
        """Files on their way, or left by somebody who died, each with its lock."""
        for path, name, _ in self.arriving():
            yield path, self.locks / name

    def _entry(self, source: dict[str, Any], revision: str) -> Path:
        # With the types: of a version of fetch that takes others, a source consists of other files.
        text = json.dumps([_at(source, revision), ALLOWED], sort_keys=True, separators=(",", ":"))
        return self.index / hashlib.sha256(text.encode()).hexdigest()

    def _write(self, path: Path, text: str) -> None:
        temporary = self.partial / f"{path.name}.0.{uuid4().hex}"
        with locks.alone(self.room):  # or a sweep might take it for something that a dead writer left
            temporary.write_text(text, "utf-8")
            _publish(temporary, path)

    def _release(self, name: str) -> None:
        for path in self.partial.glob(f"{name}.*.room"):
            path.unlink(missing_ok=True)

    def _let_go(self, sha256: str) -> None:
        if sha256 in self._held:
            os.close(self._held.pop(sha256))


def key(file: Wanted) -> str:
    """What a file is known by before it is there: two pods that want it take one lock."""
    return file.sha256 or file.git_blob or hashlib.sha256(file.origin.encode()).hexdigest()


def links(folder: Path, root: Path) -> Iterator[tuple[Path, str]]:
    """Every link of a folder that leads to a blob of the cache, and the blob's digest; the blob may be gone."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and (target := path.readlink()).parent == root / "blobs":
            yield path, target.name


@contextmanager
def told_clearly(root: Path) -> Iterator[None]:
    """What the volume refuses, as one reason with the way out."""
    try:
        yield
    except OSError as error:
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
        if Path(where) != root and root not in Path(where).parents:
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room left in the cache {root} while writing {Path(where).name}") from error
        raise DownloadFailed(
            f"cannot use the cache {root}: {error.strerror} ({where}). Its folder must be there, and the group {GROUP} "
            "must own it and be able to read and write it"
        ) from error


def _at(source: dict[str, Any], revision: str) -> dict[str, Any]:
    """The same for a branch and for the commit that it was at."""
    return {**source, "revision": revision}


def _harmless(path: str) -> bool:
    """Whoever may write to the volume could name any file."""
    try:
        return allowed(inside(path))
    except UnsafeFile:
        return False


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _publish(part: Path, target: Path) -> None:
    part.chmod(FILE_MODE)
    sync(part)
    os.replace(part, target)
    sync(target.parent)
