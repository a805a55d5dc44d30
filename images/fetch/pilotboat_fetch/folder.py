"""The destination: files under temporary names first, then in place, MANIFEST.json, and READY as the very last thing.

Owns: the layout and order of writes, so that whoever sees READY sees all of it. Must not know: where files come from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from pilotboat.api.runtime import MANIFEST, READY_MARKER

from .files import Listing, Wanted, sync, writing
from .hashing import hash_file
from .manifest import Entry, Manifest
from .progress import Progress

PARTIAL = ".partial"


class Folder:
    """One destination, which belongs to one item."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path, self._progress = path, progress
        self._partial = path / PARTIAL

    def ready(self) -> Manifest | None:
        """The manifest of a finished folder."""
        if not (self.path / READY_MARKER).is_file():
            return None
        return Manifest.parse((self.path / MANIFEST).read_text("utf-8")) if (self.path / MANIFEST).is_file() else None

    def bad(self, manifest: Manifest) -> list[str]:
        """Files that are not what the manifest says; read whole, no network."""
        return [file.path for file in manifest.files if not self._is(file)]

    def open(self) -> None:
        """Begin to write: from now on the folder is not ready."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / READY_MARKER).unlink(missing_ok=True)
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir()

    def kept(self, file: Wanted) -> Entry | None:
        """The file, if an earlier run left it whole; without a digest to compare with, it is not trusted."""
        path = self.path / file.path
        if not (file.sha256 or file.git_blob) or not path.is_file():
            return None
        size = path.stat().st_size
        if file.size not in (None, size):
            return None
        hasher = hash_file(path, size)
        same = hasher.sha256 == file.sha256 if file.sha256 else hasher.git_blob == file.git_blob
        return Entry(file.path, size, hasher.sha256) if same else None

    def staging(self, file: Wanted) -> Path:
        """Where a file is written first: on the same volume, so that it can be renamed into place."""
        return self._partial / hashlib.sha256(file.path.encode()).hexdigest()[:16]

    def place(self, file: Wanted, sha256: str) -> Entry:
        """Move a finished file to its name."""
        target = self.path / file.path
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.staging(file), target)
            sync(target.parent)
        return Entry(file.path, target.stat().st_size, sha256)

    def close(self, manifest: Manifest, listing: Listing) -> None:
        """Remove what does not belong, write the manifest, then READY."""
        self._remove_others({file.path for file in listing.files})
        self._write(MANIFEST, manifest.to_json())
        shutil.rmtree(self._partial, ignore_errors=True)
        self._write(READY_MARKER, manifest.sha256 + "\n")

    def abandon(self) -> None:
        """After a failure: no partial file stays behind; whole ones do, for the next run."""
        shutil.rmtree(self._partial, ignore_errors=True)

    def _is(self, file: Entry) -> bool:
        path = self.path / file.path
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        return hash_file(path, seen=self._progress.add).sha256 == file.sha256

    def _remove_others(self, names: set[str]) -> None:
        """An earlier, different model must not mix with this one."""
        for path in sorted(self.path.rglob("*"), reverse=True):
            relative = path.relative_to(self.path).as_posix()
            if relative.split("/")[0] in (PARTIAL, MANIFEST, "lost+found"):
                continue
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif relative not in names:
                path.unlink()

    def _write(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}"
        with writing(temporary):
            temporary.write_text(text, "utf-8")
            sync(temporary)
            os.replace(temporary, self.path / name)
            sync(self.path)
