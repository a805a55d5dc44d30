"""Files that kubelet mounted: a PersistentVolumeClaim or a ConfigMap, copied or linked into the destination.

Owns: reading the mount. Must not know: which volume it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pilotboat.api.runtime import Local

from .download import check
from .errors import DownloadFailed, SourceNotFound, UnsafeFile
from .files import Listing, Source, Wanted, sync, writing
from .hashing import BLOCK, Hasher, hash_file
from .progress import Progress
from .safety import choose, inside


class LocalSource(Source):
    """A file, or a folder of files, at an absolute path; links may lead anywhere on the same volume."""

    def __init__(self, spec: Local, repo_type: str, copy: bool, progress: Progress) -> None:
        self._path, self._type, self._copy, self._progress = Path(spec.path), repo_type, copy, progress
        self._root = Path(spec.root) if spec.root else None

    def describe(self) -> dict[str, Any]:
        """The path, and whether its files are copied."""
        return {"local": str(self._path), "copied": self._copy}

    def resolve(self, revision: str | None) -> Listing:
        """The file, or the folder's files of allowed types."""
        try:
            return Listing(tuple(self._files()), in_place=not self._copy)
        except PermissionError as error:
            raise DownloadFailed(f"cannot read {error.filename}: {error.strerror}") from error

    def obtain(self, file: Wanted, target: Path) -> str:
        """Copy or link one file."""
        origin = Path(file.origin)
        try:
            return self._copied(file, origin, target) if self._copy else self._linked(file, origin, target)
        except FileNotFoundError as error:
            raise SourceNotFound(f"{origin} vanished") from error

    def _files(self) -> list[Wanted]:
        if self._path.is_file():
            names = choose([self._path.name], None, self._type, str(self._path))
            return [self._wanted(name, self._path, self._root or self._path.parent) for name in names]
        if not self._path.is_dir():
            raise SourceNotFound(f"{self._path} does not exist on the volume")
        names = choose(sorted(self._walk()), None, self._type, str(self._path))
        return [self._wanted(name, self._path / name, self._root or self._path) for name in names]

    def _walk(self) -> list[str]:
        """Relative names; without hidden ones, under which kubelet keeps a ConfigMap's versions."""

        def unread(error: OSError) -> None:
            raise error  # half of a model is none

        found = []
        for folder, folders, files in os.walk(self._path, onerror=unread):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "lost+found")
            found += [Path(folder, name).relative_to(self._path).as_posix() for name in files if name[0] != "."]
        return found

    def _wanted(self, name: str, path: Path, root: Path) -> Wanted:
        inside(name)
        real = Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for a link to itself
        if not real.is_relative_to(root.resolve()):
            raise UnsafeFile(f"{path} is a link that leaves the volume")
        if not real.is_file():
            raise SourceNotFound(f"{path} is no file")
        return Wanted(name, size=real.stat().st_size, origin=str(path))

    def _copied(self, file: Wanted, origin: Path, target: Path) -> str:
        hasher = Hasher(file.size)
        with origin.open("rb") as source, writing(target), target.open("wb") as out:
            while block := source.read(BLOCK):
                out.write(block)
                hasher.update(block)
                self._progress.add(len(block))
        check(file, hasher)
        sync(target)
        return hasher.sha256

    def _linked(self, file: Wanted, origin: Path, target: Path) -> str:
        hasher = hash_file(origin, file.size, self._progress.add)
        check(file, hasher)
        target.unlink(missing_ok=True)
        target.symlink_to(origin)
        return hasher.sha256
