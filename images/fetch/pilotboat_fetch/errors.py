"""Every way a fetch can fail: each has its reason for the report and its exit code.

    FetchError
    ├── BadInput                    exit 64: a retry cannot help
    │   ├── InvalidConfig           InvalidSpec
    │   ├── SourceNotFound          SourceNotFound
    │   ├── NothingUsable           InvalidModel or InvalidDataset
    │   ├── UnsafeFile              UnsafeFile
    │   ├── ChecksumMismatch        ChecksumMismatch
    │   └── HubAuthFailed           HubAuthFailed
    └── Passing                     exit 1: a retry may help
        ├── HubRateLimited          HubRateLimited
        ├── HubUnreachable          HubUnreachable
        ├── DownloadFailed          DownloadFailed
        ├── DownloadStalled         DownloadStalled
        └── DiskFull                DiskFull
    Interrupted                     DownloadFailed, exit 143; no failure of any one attempt, so no FetchError

Owns: the tree. Must not know: how a failure is detected.
"""

from __future__ import annotations

from pilotboat.api.reasons import Reason
from pilotboat.api.runtime import EXIT_BAD_INPUT, EXIT_TERMINATED


class FetchError(Exception):
    """A fetch that ended early; the text is what the user reads."""

    reason = Reason.DOWNLOAD_FAILED
    exit_code = 1


class BadInput(FetchError):
    """What was asked for cannot be had: trying again changes nothing."""

    exit_code = EXIT_BAD_INPUT


class InvalidConfig(BadInput):
    """fetch.json is not a FetchConfig."""

    reason = Reason.INVALID_SPEC


class SourceNotFound(BadInput):
    """The repository, revision, file or path does not exist."""

    reason = Reason.SOURCE_NOT_FOUND


class NothingUsable(BadInput):
    """The source exists and has no file of a kind that is fetched."""

    def __init__(self, message: str, repo_type: str) -> None:
        super().__init__(message)
        self.reason = Reason.INVALID_DATASET if repo_type == "dataset" else Reason.INVALID_MODEL


class UnsafeFile(BadInput):
    """What is there is of types that are not fetched, or lies where it must not."""

    reason = Reason.UNSAFE_FILE


class ChecksumMismatch(BadInput):
    """A file is not the file that was named."""

    reason = Reason.CHECKSUM_MISMATCH

    def __init__(self, path: str, expected: str, actual: str, algorithm: str = "SHA-256") -> None:
        super().__init__(f"{path}: expected {algorithm} {expected}, got {actual}; the file was not kept")


class HubAuthFailed(BadInput):
    """The hub refuses the token, or wants one."""

    reason = Reason.HUB_AUTH_FAILED


class Passing(FetchError):
    """The world was not ready: trying again may help."""


class HubRateLimited(Passing):
    """429 after all retries."""

    reason = Reason.HUB_RATE_LIMITED


class HubUnreachable(Passing):
    """No answer after all retries."""

    reason = Reason.HUB_UNREACHABLE


class DownloadFailed(Passing):
    """An answer, and not the file."""


class DownloadStalled(Passing):
    """An answer that goes on, and leads nowhere."""

    reason = Reason.DOWNLOAD_STALLED


class DiskFull(Passing):
    """The volume has no room."""

    reason = Reason.DISK_FULL


class Interrupted(BaseException):
    """SIGTERM while fetching. As KeyboardInterrupt, it must pass whatever makes the best of a failure."""

    reason = Reason.DOWNLOAD_FAILED
    exit_code = EXIT_TERMINATED
