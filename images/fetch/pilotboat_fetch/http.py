"""One file over HTTP(S), known by its digest.

Owns: the file's name and its mirrors. Must not know: how bytes are fetched.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from pilotboat.api.sources import Http

from .download import Downloader, bare
from .errors import HubAuthFailed, SourceNotFound
from .files import Listing, Source, Wanted
from .safety import choose, inside


class HttpSource(Source):
    """A file and where it can be had."""

    def __init__(self, spec: Http, repo_type: str, downloader: Downloader) -> None:
        self._spec, self._type, self._downloader = spec, repo_type, downloader

    def describe(self) -> dict[str, Any]:
        """The digest and the name: which mirror delivers it makes no difference."""
        return {"http": self._file, "sha256": self._spec.sha256}

    def resolve(self, revision: str | None) -> Listing:
        """The one file, named by the last part of the first address."""
        inside(self._file)
        choose([self._file], None, self._type, self._file)
        return Listing((Wanted(self._file, sha256=self._spec.sha256),), f"sha256:{self._spec.sha256}")

    def obtain(self, file: Wanted, target: Path) -> str:
        """Fetch it from the first mirror that has it."""
        try:
            return self._downloader.fetch(file, self._spec.urls, target)
        except HubAuthFailed as error:
            raise SourceNotFound(f"{error} (an http source has no credentials)") from error

    @property
    def _file(self) -> str:
        where = bare(self._spec.urls[0])
        name = PurePosixPath(unquote(where.partition("://")[2].partition("/")[2])).name
        if not name:
            raise SourceNotFound(f"the address must end with a file name: {where}")
        return name
