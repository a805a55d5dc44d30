"""One item from its source into its folder: the order of things, in one screen.

Owns: the steps. Must not know: how any source works, how the folder is laid out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pilotboat.api.runtime import FetchedItem, FetchItem, files_digest

from .download import require_room
from .errors import ChecksumMismatch, SourceNotFound
from .files import Listing, Source, Wanted
from .folder import Folder
from .manifest import Entry, Manifest
from .progress import Progress, mib


def fetch_item(item: FetchItem, source: Source, progress: Progress) -> FetchedItem:
    """Make the destination hold what the item names, doing only what is still to do."""
    folder = Folder(Path(item.destination), progress)
    manifest = folder.ready()
    if manifest and not _same(manifest, source):
        manifest = None
    if manifest and not _wrong(item, manifest, folder, progress):
        progress.say(f"already there, {len(manifest.files)} files verified, nothing fetched")
        return _result(manifest, source.remember(manifest))
    listing = _pinned(item, source.resolve(manifest.revision if manifest else None), manifest)
    folder.open()
    try:
        entries = tuple(_all(listing, source, folder, progress))
        _together(item, entries)
        done = Manifest(source.describe(), listing.revision, entries)
        folder.close(done, listing)
    except BaseException:  # SIGTERM too: no partial file may stay
        folder.abandon()
        raise
    cached = source.remember(done)
    of_these = "" if cached is None else f", {len(cached)} of them from the cache"
    size = mib(sum(file.size for file in entries))
    progress.say(f"ready: {len(entries)} files, {size}, {listing.revision or 'local'}{of_these}")
    return _result(done, cached)


def _same(manifest: Manifest, source: Source) -> bool:
    """Whether a folder is of this source. The operator names the commit for a branch, once a first pod has found it."""
    return source.describe() in (manifest.source, {**manifest.source, "revision": manifest.revision})


def _wrong(item: FetchItem, manifest: Manifest, folder: Folder, progress: Progress) -> list[str]:
    """Files of a ready folder that must be fetched again: not as recorded, or not as pinned."""
    recorded = {file.path: file.sha256 for file in manifest.files}
    wrong = folder.bad(manifest) + [path for path, digest in item.digests.items() if recorded.get(path) != digest]
    if not wrong and item.files_sha256 not in (None, files_digest(recorded)):
        wrong = list(recorded)
    if wrong:
        progress.say(f"not as recorded: {', '.join(wrong)}")
    return wrong


def _together(item: FetchItem, entries: tuple[Entry, ...]) -> None:
    """Where all files have one digest. Raises ChecksumMismatch."""
    found = files_digest({entry.path: entry.sha256 for entry in entries})
    if item.files_sha256 and item.files_sha256 != found:
        raise ChecksumMismatch(f"the {len(entries)} files of {item.name} together", item.files_sha256, found)


def _pinned(item: FetchItem, listing: Listing, manifest: Manifest | None) -> Listing:
    """The listing with every digest that is known: the user's pins first, then what an earlier run recorded."""
    names = {file.path for file in listing.files}
    for path in sorted(set(item.digests) - names):
        raise SourceNotFound(f"digests names {path}, and the source has only {', '.join(sorted(names)[:8])}")
    recorded = {file.path: file.sha256 for file in manifest.files} if manifest else {}
    files = (_pin(file, item.digests.get(file.path), recorded.get(file.path)) for file in listing.files)
    return replace(listing, files=tuple(files))


def _pin(file: Wanted, pinned: str | None, recorded: str | None) -> Wanted:
    if pinned and file.sha256 and pinned != file.sha256:
        raise ChecksumMismatch(file.path, pinned, file.sha256)  # known before a byte is fetched
    # A local source may rightly have changed since; at a hub's commit a file never does.
    known = pinned or file.sha256 or (recorded if file.git_blob else None)
    return replace(file, sha256=known)


def _all(listing: Listing, source: Source, folder: Folder, progress: Progress) -> list[Entry]:
    """Every file: those that an earlier run left whole are kept, the others fetched."""
    kept = {file.path: entry for file in listing.files if (entry := folder.kept(file))}
    missing = [file for file in listing.files if file.path not in kept]
    sizes = [file.size for file in listing.files]
    progress.total = None if None in sizes else sum(size or 0 for size in sizes)
    progress.kept(sum(entry.size for entry in kept.values()))
    if not listing.in_place:
        require_room(folder.path, sum(file.size or 0 for file in missing))
    progress.say(f"{len(missing)} of {len(listing.files)} files to fetch at {listing.revision or 'the local source'}")
    fetched = {file.path: folder.place(file, source.obtain(file, folder.staging(file))) for file in missing}
    return [(kept | fetched)[file.path] for file in listing.files]


def _result(manifest: Manifest, cached: tuple[Entry, ...] | None) -> FetchedItem:
    return FetchedItem(
        revision=manifest.revision,
        digests={file.path: file.sha256 for file in manifest.files},
        manifest_sha256=manifest.sha256,
        bytes=sum(file.size for file in manifest.files),
        cached=None if cached is None else sum(file.size for file in cached),
    )
