"""What a Hugging Face hub says of a repository: its commits, its files and their digests.

Owns: huggingface_hub, used for what it does well: revisions, listings, digests. The bytes come through `download`,
because the library resumes in no later process and checks no SHA-256.
Must not know: which files are wanted, how they are had.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

# Set before the import, which reads them once: no telemetry, no token of some home folder, no second transfer protocol.
os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_HUB_DISABLE_XET": "1"}

import httpx2
from huggingface_hub import HfApi, hf_hub_url, set_client_factory
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import hf_raise_for_status

from pilotboat.api.sources import HuggingFace

from .errors import DownloadFailed, FetchError, HubAuthFailed, HubRateLimited, HubUnreachable, SourceNotFound
from .files import Wanted
from .manifest import COMMIT
from .retry import RETRY_STATUSES, Again, Backoff, retry_after
from .safety import inside

T = TypeVar("T")
MOST_PAGES = 2000
"""Of one listing; a hub puts up to a thousand files on each."""
_SHA256, _GIT_BLOB = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


class HubApi:
    """One repository as the hub shows it. Raises SourceNotFound for a hub whose address is none."""

    def __init__(
        self, spec: HuggingFace, repo_type: str, endpoint: str | None, token: str | None, backoff: Backoff
    ) -> None:
        self._spec, self._type, self._token, self._backoff = spec, repo_type, token, backoff
        self._api = HfApi(endpoint=endpoint, token=token or False)
        try:
            home = httpx2.URL(self._where)
        except httpx2.InvalidURL as error:
            raise SourceNotFound(f"{self._where} is no address: {error}") from error
        set_client_factory(partial(_client, home))

    def commit(self) -> str:
        """The commit that the branch or tag is at now."""
        info = self._ask(
            lambda: self._api.repo_info(self._spec.repo, revision=self._spec.revision, repo_type=self._type, timeout=30)
        )
        if not COMMIT.fullmatch(str(info.sha)):
            raise DownloadFailed(f"the hub names no commit for {self._name}")
        return str(info.sha)

    def files(self, commit: str) -> dict[str, RepoFile]:
        """Path to file, of all there are."""
        return self._ask(lambda: self._tree(commit))

    def wanted(self, entry: RepoFile, commit: str) -> Wanted:
        """A file with its address and what the hub knows of it."""
        url = hf_hub_url(
            self._spec.repo, inside(entry.path), repo_type=self._type, revision=commit, endpoint=self._where
        )
        size, sha256 = (entry.lfs.size, entry.lfs.sha256) if entry.lfs else (entry.size, None)
        blob = None if entry.lfs else entry.blob_id
        self._require_plain(entry.path, size, _GIT_BLOB.fullmatch(str(blob)) or _SHA256.fullmatch(str(sha256)))
        return Wanted(entry.path, size=size, sha256=sha256, git_blob=blob, origin=url)

    def _require_plain(self, path: str, size: object, digest: object) -> None:
        """The cache names files by them, and any hub could name others' files."""
        if not digest or not isinstance(size, int) or size < 0:
            raise DownloadFailed(f"{self._where} lists {path} with a size or a digest that is none")

    def _tree(self, commit: str) -> dict[str, RepoFile]:
        entries = self._api.list_repo_tree(self._spec.repo, recursive=True, revision=commit, repo_type=self._type)
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask the hub's API, with retries."""
        return self._backoff.patiently(partial(self._backoff.briefly, partial(self._asked, question)))

    def _asked(self, question: Callable[[], T]) -> T:
        """Ask once; the library's errors become ours."""
        try:
            return question()
        except HFValidationError as error:
            raise SourceNotFound(f"{self._spec.repo} is no repository id: {error}") from error
        except HfHubHTTPError as error:
            problem = self._problem(error)
            if error.response.status_code not in RETRY_STATUSES:
                raise problem from error
            raise Again(problem, retry_after(error.response.headers)) from error
        except httpx2.HTTPError as error:
            raise Again(HubUnreachable(f"{self._where} did not answer: {error or type(error).__name__}")) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:  # a proxy's page, say, with status 200
            raise Again(DownloadFailed(f"what {self._where} answers for {self._name} is no hub's answer")) from error

    @property
    def _name(self) -> str:
        return f"{self._spec.repo}@{self._spec.revision}"

    @property
    def _where(self) -> str:
        return str(self._api.endpoint)

    def _problem(self, error: HfHubHTTPError) -> FetchError:
        status = error.response.status_code
        if isinstance(error, GatedRepoError) or status in (401, 403):
            return HubAuthFailed(self._refusal(error, status))
        if isinstance(error, RevisionNotFoundError):
            return SourceNotFound(f"{self._spec.repo} has no revision {self._spec.revision} at {self._where}")
        if status == 404 or isinstance(error, EntryNotFoundError):
            return SourceNotFound(f"{self._where} has no {self._type} {self._spec.repo}")
        if status == 429:
            wait = retry_after(error.response.headers)
            asked = f"; it asks to wait {wait:.0f} s" if wait is not None else ""
            return HubRateLimited(f"429 Too Many Requests from {self._where}{asked}")
        return DownloadFailed(f"{status} from {self._where} for {self._name}")

    def _refusal(self, error: HfHubHTTPError, status: int) -> str:
        """A hub answers 401 for what does not exist, too, as long as it does not know who asks."""
        if isinstance(error, GatedRepoError):
            todo = "accept its licence with the account of the token" if self._token else "it is gated: give a token"
        elif self._token:
            todo = "the token is not accepted"
        else:
            todo = "it does not exist, or needs a token"
        return f"{status} for {self._name} at {self._where}: {todo}"


class _Client(httpx2.Client):
    """Ends what the library would try again by itself, silently, six times for each of ours or a day later."""

    asked = 0

    def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:
        """As httpx2 does it; what fails is of a kind that the library does not know as passing."""
        self.asked += 1
        if self.asked > MOST_PAGES:
            raise DownloadFailed(f"the listing of {request.url.host} goes on and on")
        try:
            response = super().send(request, **how)
        except httpx2.TransportError as error:
            raise httpx2.HTTPError(str(error) or type(error).__name__) from error
        if response.status_code in RETRY_STATUSES:
            hf_raise_for_status(response)
        return response


def _client(home: httpx2.URL) -> httpx2.Client:
    """The library's client. Its own waits for ever, and sends the token to whatever address a listing goes on at."""

    def keep_token_at_home(request: httpx2.Request) -> None:
        there = request.url
        if (there.host, there.port) != (home.host, home.port) or there.scheme not in (home.scheme, "https"):
            request.headers.pop("authorization", None)

    return _Client(
        follow_redirects=True,
        timeout=httpx2.Timeout(30.0, connect=10.0),
        event_hooks={"request": [keep_token_at_home]},
    )
