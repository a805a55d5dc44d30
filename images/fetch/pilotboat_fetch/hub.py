"""A repository of a Hugging Face hub, or of a mirror that speaks its API, as a source.

Owns: which commit and which files of it are wanted. The library that asks is imported where somebody is to be asked.
Must not know: how the API is spoken, the layout of the destination.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotboat.api.sources import HuggingFace

from .download import Downloader
from .files import Listing, Source, Wanted
from .manifest import COMMIT
from .retry import Backoff
from .safety import choose

if TYPE_CHECKING:
    from .hubapi import HubApi


class HubSource(Source):
    """One repository at one revision, which is resolved to a commit once."""

    def __init__(
        self,
        spec: HuggingFace,
        repo_type: str,
        endpoint: str | None,
        token: str | None,
        downloader: Downloader,
        backoff: Backoff,
    ) -> None:
        self._spec, self._type, self._token = spec, repo_type, token
        self._endpoint = spec.endpoint or endpoint
        self._downloader, self._backoff = downloader, backoff

    def describe(self) -> dict[str, Any]:
        """Repository, revision and globs: the endpoint is only a way to it."""
        return {
            "huggingFace": self._spec.repo,
            "type": self._type,
            "revision": self._spec.revision,
            "files": self._spec.files,
        }

    def resolve(self, revision: str | None) -> Listing:
        """The commit, and its files as far as they are wanted."""
        named = self._spec.revision if COMMIT.fullmatch(self._spec.revision) else None
        commit = revision or named or self._api.commit()
        found = self._api.files(commit)
        paths = choose(sorted(found), self._spec.files, self._type, f"{self._spec.repo}@{self._spec.revision}")
        return Listing(tuple(self._api.wanted(found[path], commit) for path in paths), commit)

    def obtain(self, file: Wanted, target: Path) -> str:
        """Fetch one file of the commit."""
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        return self._downloader.fetch(file, [file.origin], target, headers)

    @cached_property
    def _api(self) -> HubApi:
        from .hubapi import HubApi  # the library takes longer to load than a small model to verify

        return HubApi(self._spec, self._type, self._endpoint, self._token, self._backoff)
