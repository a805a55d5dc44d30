"""One file over HTTP: streamed, hashed on the way, resumed where it broke off, from the first mirror that delivers.

Owns: requests for bytes. Must not know: the hub's API, the layout of the destination.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from .errors import (
    BadInput,
    ChecksumMismatch,
    DiskFull,
    DownloadFailed,
    DownloadStalled,
    FetchError,
    HubAuthFailed,
    HubRateLimited,
    HubUnreachable,
    SourceNotFound,
)
from .files import Wanted, sync, writing
from .hashing import Hasher
from .pace import FLOOR, WINDOW, Pace
from .progress import Progress, mib
from .retry import RETRY_STATUSES, Again, Backoff, retry_after

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
SPARE = 16 << 20
"""Bytes left free beyond a file: for the manifest, the journal of the file system and whoever else writes."""


@dataclass
class _Part:
    """A file on its way: what is on disk, its digest so far, and the address and ETag that it belongs to."""

    path: Path
    hasher: Hasher
    url: str = ""
    etag: str | None = None
    resumed: bool = False
    doubted: bool = False
    """Whether all of it was wrong once: it was put together from several answers."""
    best: int = 0
    """The most that this address has delivered. What comes a second time is no progress."""
    pace: Pace = field(default_factory=Pace)

    def restart(self, size: int | None) -> None:
        """Forget what arrived."""
        self.path.unlink(missing_ok=True)
        self.hasher, self.etag, self.resumed = Hasher(size), None, False

    def is_whole(self, file: Wanted) -> bool:
        """Whether all of it is there, though the end of the answer was lost."""
        if self.hasher.length == 0:
            return False
        if file.sha256:
            return self.hasher.sha256 == file.sha256
        return file.git_blob is not None and self.hasher.git_blob == file.git_blob


class Downloader:
    """Fetches files through one HTTP client, which follows redirects and drops credentials that leave the host."""

    def __init__(
        self,
        client: httpx.Client,
        backoff: Backoff,
        progress: Progress,
        room: Callable[[Path, int], None] | None = None,
    ) -> None:
        """`room` raises DiskFull where a file cannot take so many bytes more."""
        self._client, self._backoff, self._progress = client, backoff, progress
        self._room = room or (lambda path, size: require_room(path.parent, size))

    def fetch(self, file: Wanted, urls: Sequence[str], target: Path, headers: Mapping[str, str] | None = None) -> str:
        """Bring the file to `target` from the first of `urls` that delivers it right. Returns its SHA-256."""
        part, left = _Part(target, Hasher(file.size)), list(urls)
        try:
            return self._backoff.patiently(lambda: self._round(left, file, part, headers or {}), lambda: part.best)
        except FetchError:
            target.unlink(missing_ok=True)
            raise

    def _round(self, urls: list[str], file: Wanted, part: _Part, headers: Mapping[str, str]) -> str:
        """Each mirror in turn. One that can never deliver is asked in no further round."""
        failures: list[Again | FetchError] = []
        turns = tuple(urls)
        for url in turns:
            if url != part.url:
                self._restart(part, file)
                part.url, part.doubted, part.best, part.pace = url, False, 0, Pace()
            try:
                return self._backoff.briefly(partial(self._attempt, file, part, headers), lambda: part.best)
            except DiskFull:
                raise
            except (Again, FetchError) as failure:
                failures.append(failure)
                if isinstance(failure, BadInput):
                    urls.remove(url)
                if url != turns[-1]:
                    self._progress.say(f"{failure}; trying the next mirror")
        raise _worst(failures)

    def _attempt(self, file: Wanted, part: _Part, headers: Mapping[str, str]) -> str:
        if not part.is_whole(file):
            self._ask(file, part, headers)
        try:
            return self._verified(file, part)
        except ChecksumMismatch as error:
            if not part.resumed or part.doubted:
                raise
            self._restart(part, file)
            part.doubted = True
            raise Again(error) from error  # two halves of two different files, perhaps: once more, whole

    def _ask(self, file: Wanted, part: _Part, headers: Mapping[str, str]) -> None:
        url, asked = part.url, {"accept-encoding": "identity", **headers}
        if part.hasher.length and part.etag:
            asked |= {"range": f"bytes={part.hasher.length}-", "if-range": part.etag}
        if part.pace.slow >= self._backoff.attempts:  # whatever dripped in meanwhile
            raise _stalled(part)
        part.pace.begin(self._backoff.clock())
        try:
            with self._client.stream("GET", url, headers=asked) as response:
                self._check_status(response, file, part)
                self._continue_or_restart(response, file, part)
                try:
                    self._write(response, file, part, self._check_room(response, part))
                finally:
                    part.pace.add(self._backoff.clock())  # an answer that ends in waiting has taken that long, too
        except httpx.InvalidURL as error:
            raise SourceNotFound(f"{bare(url)} is no address: {error}") from error
        except httpx.TimeoutException as error:
            raise Again(HubUnreachable(f"{bare(url)} did not answer in time")) from error
        except httpx.HTTPError as error:
            kind = DownloadFailed if part.hasher.length else HubUnreachable
            raise Again(kind(f"{bare(url)}: {error or type(error).__name__}")) from error

    def _check_status(self, response: httpx.Response, file: Wanted, part: _Part) -> None:
        status, where = response.status_code, bare(part.url)
        if status in (200, 206):
            return
        wait = retry_after(response.headers)
        if status == 429:
            asked = f", which asks to wait {wait:.0f} s" if wait is not None else ""
            raise Again(HubRateLimited(f"429 Too Many Requests from {where}{asked}"), wait)
        if status == 416:
            self._restart(part, file)  # the file has become shorter: what is here is of an older one
        if status in RETRY_STATUSES or status == 416:
            raise Again(DownloadFailed(f"{status} from {where}"), wait)
        if response.history:  # a link that was signed for a while, perhaps: who gave it is asked for another
            raise Again(_refused(status, f"{bare(str(response.url))}, where {where} leads"))
        raise _refused(status, where)

    def _continue_or_restart(self, response: httpx.Response, file: Wanted, part: _Part) -> None:
        """A 206 that starts where we are goes on; anything else is the whole file again."""
        if response.status_code == 206 and _start(response) == part.hasher.length:
            part.resumed = True
            return
        self._restart(part, file)
        if response.status_code == 206:
            raise Again(DownloadFailed("a range that was not asked for"))
        etag = response.headers.get("etag")
        part.etag = etag if etag and not etag.startswith("W/") else None

    def _restart(self, part: _Part, file: Wanted) -> None:
        self._progress.kept(-part.hasher.length)
        part.restart(file.size)

    def _check_room(self, response: httpx.Response, part: _Part) -> int:
        """Up to what length of the file there is room."""
        coming = int(response.headers.get("content-length", "0") or 0)
        self._room(part.path, coming)
        if self._progress.total is None and coming:
            self._progress.total = self._progress.done + coming
        return part.hasher.length + coming

    def _write(self, response: httpx.Response, file: Wanted, part: _Part, room: int) -> None:
        with writing(part.path), part.path.open("ab") as out:
            for block in response.iter_raw():
                reached = part.hasher.length + len(block)
                if file.size is not None and reached > file.size:
                    self._restart(part, file)
                    raise Again(DownloadFailed(f"{bare(part.url)} sends more than the {file.size} bytes of the file"))
                if reached > room:  # of an answer that does not say how long it is, perhaps without an end
                    self._room(part.path, SPARE)
                    room = reached + SPARE
                out.write(block)
                part.hasher.update(block)
                self._progress.add(len(block))
                part.best = max(part.best, part.hasher.length)
                if part.pace.add(self._backoff.clock(), len(block)):
                    raise Again(_stalled(part))

    def _verified(self, file: Wanted, part: _Part) -> str:
        if not part.path.exists():
            part.path.touch()  # an empty file has no blocks
        check(file, part.hasher)
        sync(part.path)
        return part.hasher.sha256


def check(file: Wanted, hasher: Hasher) -> None:
    """Raise where the bytes are not the file that was named."""
    if file.sha256 and hasher.sha256 != file.sha256:
        raise ChecksumMismatch(file.path, file.sha256, hasher.sha256)
    if file.git_blob and not file.sha256 and hasher.git_blob != file.git_blob:
        raise ChecksumMismatch(file.path, file.git_blob, str(hasher.git_blob), "git blob SHA-1")


def require_room(folder: Path, size: int) -> None:
    """Raise DiskFull before writing rather than in the middle."""
    free = shutil.disk_usage(folder).free
    if size and size + SPARE > free:
        raise DiskFull(f"{mib(size)} to fetch and {mib(free)} free on the volume of {folder.parent}")


def bare(url: str) -> str:
    """An address fit for a log: without query and user, where signatures and passwords are."""
    # Not urlsplit: this is for addresses that cannot be parsed, too.
    return re.sub(r"^(\w+://)[^/]*@", r"\1", re.split(r"[?#]", url, maxsplit=1)[0])


def _start(response: httpx.Response) -> int:
    value = response.headers.get("content-range", "").removeprefix("bytes ").split("-")[0]
    return int(value) if value.isdigit() else -1


def _stalled(part: _Part) -> DownloadStalled:
    return DownloadStalled(
        f"{bare(part.url)} has sent less than {FLOOR} bytes a second for {part.pace.slow * WINDOW:.0f} s"
    )


def _refused(status: int, where: str) -> FetchError:
    if status in (401, 403):
        return HubAuthFailed(f"{status} for {where}: not without another token, or without accepting the licence")
    if status in (404, 410):
        return SourceNotFound(f"{status} for {where}: there is no such file")
    return DownloadFailed(f"{status} from {where}")


def _worst(failures: Sequence[Again | FetchError]) -> Again | FetchError:
    """Of all mirrors' failures the one that counts: what passes soonest, else a file that was wrong, else the first."""
    return min(failures, key=_hopelessness)


def _hopelessness(failure: Again | FetchError) -> tuple[int, float]:
    if isinstance(failure, Again):
        return int(isinstance(failure.error, BadInput)), failure.wait or 0.0
    if not isinstance(failure, BadInput):
        return 2, 0.0
    return (3 if isinstance(failure, ChecksumMismatch) else 4), 0.0
