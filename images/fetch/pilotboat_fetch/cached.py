"""A source whose files are had from the cache, and are brought into it where it lacks them.

Owns: which of the two, one pod at a time. The destination gets links to the cache's files. Must not know: how the
source works, the layout of either folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilotboat.api.runtime import FetchConfig

from . import eviction, locks
from .cache import Cache, links, told_clearly
from .errors import SourceNotFound
from .files import Listing, Source, Wanted, writing
from .hashing import hash_file
from .manifest import COMMIT, Entry, Manifest
from .progress import Progress


@contextmanager
def opened(config: FetchConfig) -> Iterator[Cache | None]:
    """The cache, swept, with what the destinations lead to already in use: a container may have been restarted."""
    if config.cache is None:
        yield None
        return
    cache = Cache(config.cache)
    try:
        with told_clearly(cache.root):
            cache.open()
            for item in config.items:
                for _, sha256 in links(Path(item.destination), cache.root):
                    cache.hold(sha256)
            eviction.sweep(cache)
            yield cache
    finally:
        cache.close()


class CachedSource(Source):
    """One source through the cache; `source` is asked for nothing that the cache has."""

    def __init__(self, source: Source, cache: Cache, progress: Progress) -> None:
        self._source, self._cache, self._progress = source, cache, progress
        self._asked = False
        self._revision: str | None = None
        self._fetched: set[str] = set()

    def describe(self) -> dict[str, Any]:
        """As the source does: the cache is only a way to it."""
        return self._source.describe()

    def resolve(self, revision: str | None) -> Listing:
        """The files there are. What the cache has of them stays, and there is room for what nobody fetches yet."""
        listing = self._recalled(revision or str(self.describe().get("revision"))) or self._ask(revision)
        self._revision = listing.revision
        missing = [file for file in listing.files if not self._held(file) and not self._cache.coming(file)]
        eviction.make_room(self._cache, sum(file.size or 0 for file in missing))
        return replace(listing, in_place=True)

    def obtain(self, file: Wanted, target: Path) -> str:
        """Link to the cache's file."""
        sha256 = self._found(file) or self._brought(file)
        with writing(target):
            target.unlink(missing_ok=True)
            target.symlink_to(self._cache.blobs / sha256)
        return sha256

    def remember(self, manifest: Manifest) -> tuple[Entry, ...]:
        """Keep the manifest of a commit. Returns what was not fetched by this pod."""
        if manifest.revision and COMMIT.fullmatch(manifest.revision):
            self._cache.remember(manifest, manifest.revision)
        return tuple(file for file in manifest.files if file.path not in self._fetched)

    def _recalled(self, revision: str) -> Listing | None:
        manifest = self._cache.recall(self.describe(), revision) if COMMIT.fullmatch(revision) else None
        if manifest is None:
            return None
        return Listing(tuple(Wanted(file.path, file.size, file.sha256) for file in manifest.files), revision)

    def _ask(self, revision: str | None) -> Listing:
        self._asked = True
        return self._source.resolve(revision)

    def _held(self, file: Wanted) -> Path | None:
        sha256 = self._cache.digest(file)
        return self._cache.hold(sha256) if sha256 else None

    def _found(self, file: Wanted, alone: bool = False) -> str | None:
        """The digest of the file where the cache has it, read whole. A bad one is removed where nobody else can."""
        path = self._held(file)
        if path is None:
            return None
        hasher = hash_file(path, path.stat().st_size, self._progress.add)
        same = hasher.sha256 == path.name
        if same and (file.sha256 or hasher.git_blob == file.git_blob):
            return hasher.sha256
        self._progress.kept(-hasher.length)
        if alone and not same:
            self._progress.say(f"{file.path} is not as it was in the cache, and is fetched again")
            self._cache.remove(path.name)
        return None

    def _brought(self, file: Wanted) -> str:
        """Fetch it into the cache, or wait for the pod that does."""

        def waits() -> None:
            self._progress.say(f"another pod fetches {file.path} into the cache")

        with locks.alone(self._cache.lock(file), waits):
            return self._found(file, alone=True) or self._fetch(file)

    def _fetch(self, file: Wanted) -> str:
        known = self._known(file)
        with self._cache.fetching(file) as part:
            eviction.make_room(self._cache, known.size or 0, part)
            sha256 = self._source.obtain(known, part)
            self._cache.add(part, sha256, known.git_blob)
        self._fetched.add(file.path)
        return sha256

    def _known(self, file: Wanted) -> Wanted:
        """The file with what its source says of it, which only now has to be asked where the cache had its manifest."""
        if self._asked:
            return file
        for there in self._ask(self._revision).files:
            if there.path == file.path:
                return replace(there, sha256=file.sha256)
        raise SourceNotFound(f"{file.path} was in the cache, and its source does not have it at {self._revision}")
