"""Every way a probe can fail to measure: each has its reason for the report and its exit code.

    ProbeError
    ├── BadInput                    exit 64: a retry cannot help
    │   ├── InvalidConfig           InvalidSpec
    │   ├── KeyRefused              ApiKeyRefused
    │   ├── WrongAnswer             InvalidAnswer
    │   └── Refused                 ProbeFailed: every request was answered 4xx
    └── Passing                     exit 1: a retry may help
        ├── Unreachable             RevisionUnreachable
        ├── CouldNotMeasure         ProbeFailed
        └── Interrupted             ProbeInterrupted, exit 143

Unanswered is no failure of the probe: one request had no whole answer, and is counted.

Owns: the tree. Must not know: how a failure is detected.
"""

from __future__ import annotations

from pilotboat.api.reasons import Reason
from pilotboat.api.runtime import EXIT_BAD_INPUT, EXIT_TERMINATED


class ProbeError(Exception):
    """A probe that ended without a result; the text is what the user reads."""

    reason = Reason.PROBE_FAILED
    exit_code = 1


class BadInput(ProbeError):
    """What was asked for cannot be measured: trying again changes nothing."""

    exit_code = EXIT_BAD_INPUT


class InvalidConfig(BadInput):
    """probe.json is not a ProbeConfig, or the API key is none."""

    reason = Reason.INVALID_SPEC


class KeyRefused(BadInput):
    """A version answers 401 or 403."""

    reason = Reason.API_KEY_REFUSED


class WrongAnswer(BadInput):
    """A version answers 200 with something that OpenAI's API does not have."""

    reason = Reason.INVALID_ANSWER


class Refused(BadInput):
    """A version calls every request wrong."""


class Passing(ProbeError):
    """The world was not ready: trying again may help."""


class Unreachable(Passing):
    """A version's Service did not answer in the time it was given."""

    reason = Reason.REVISION_UNREACHABLE


class CouldNotMeasure(Passing):
    """There is nothing to compare with, or the probe itself broke."""


class Interrupted(Passing):
    """Told to stop before the end."""

    reason = Reason.PROBE_INTERRUPTED
    exit_code = EXIT_TERMINATED


class Unanswered(Exception):
    """One request without a whole answer: `kind` is the HTTP status, or a word that LoadResult.errors explains."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
