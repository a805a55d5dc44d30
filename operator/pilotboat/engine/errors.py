"""What can go wrong between us and the API server, a name server, or a Prometheus.

EngineError
├── ApiError                 an answer that is no success; has status, reason, message
│   ├── NotFound             404
│   │   └── NoSuchKind       404 of a whole kind: its CRD is not installed
│   ├── Conflict             409: it exists, or has another uid or version
│   ├── Refused              no retry of the same request helps
│   │   ├── Forbidden        403: quota, policy, admission, RBAC; or a webhook that could not be asked
│   │   └── Invalid          400, 422, 413, ...: the API server's validation
│   ├── Throttled            429; has retry_after
│   └── Unavailable          5xx, a time-out, no connection; may have retry_after
├── DnsFailure               a name server did not do what was asked
│   ├── DnsUnreachable       no answer, or none that can be used now
│   ├── DnsRefused           it will not: the key, the zone, its policy
│   ├── DnsNotPermitted      the API server does not let us do what comes before it
│   └── DnsOutpaced          somebody else changed what we had read
├── QueryFailure             a user's Prometheus gave nothing that can be held against a bound
│   └── QueryNotPermitted    the API server does not let us read the token for it
├── NameTaken                an object of the name we need is somebody else's
└── ParentGone               the custom resource is gone, or was made anew under the same name

Owns: the tree, and which HTTP status is which. Must not know: what is done about any of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class EngineError(Exception):
    """Anything below."""


class ApiError(EngineError):
    """The API server did not do what was asked."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class NotFound(ApiError):
    """404."""


class NoSuchKind(NotFound):
    """404, and not by an object's name: the API server does not serve the kind."""


class Conflict(ApiError):
    """409."""


class Refused(ApiError):
    """The request itself is not acceptable."""


class Forbidden(Refused):
    """403, or an admission webhook that must agree and does not answer."""


class Invalid(Refused):
    """400, 422 and other 4xx."""


class Throttled(ApiError):
    """429."""


class Unavailable(ApiError):
    """5xx, or no answer at all."""


class DnsFailure(EngineError):
    """A name server did not do what was asked; the message says what and why, and never a key."""


class DnsUnreachable(DnsFailure):
    """No answer, or none that can be used now."""


class DnsRefused(DnsFailure):
    """It will not do that: the key is wrong, the zone is not its own, or its policy forbids it."""


class DnsNotPermitted(DnsFailure):
    """The API server does not let us read the key, or set the finalizer."""


class DnsOutpaced(DnsFailure):
    """What was read is not so any more."""


class QueryFailure(EngineError):
    """A user's Prometheus gave nothing that can be held against a bound; the message says what and why, no token."""


class QueryNotPermitted(QueryFailure):
    """The API server does not let us read the token."""


class NameTaken(EngineError):
    """An object of that name exists and our parent does not control it."""


class ParentGone(EngineError):
    """A custom resource we act for no longer exists under that uid: `gone`, as it was known."""

    def __init__(self, message: str, gone: Mapping[str, Any] | None) -> None:
        super().__init__(message)
        self.gone = gone


_UNDECLARED = "failed to create typed patch object"
"""Start of the 500 that server-side apply answers to a field that its schema does not have: the input's fault."""

_WEBHOOK = "Internal error occurred: failed calling webhook"
"""Start of the 500 for a webhook that is down or slow. It is told as a refusal: silence would look like a hang."""

_BY_STATUS: dict[int, type[ApiError]] = {403: Forbidden, 404: NotFound, 409: Conflict, 429: Throttled}


def from_response(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The typed error for an HTTP answer; its words are taken from metav1.Status where there is one."""
    kind = _BY_STATUS.get(status, Unavailable if status >= 500 or status == 401 else Invalid)
    try:
        answer = json.loads(body)
        reason, message = str(answer.get("reason") or status), str(answer.get("message") or "")
    except (ValueError, AttributeError):  # a proxy's page, or nothing
        reason, message = str(status), body[:200].decode(errors="replace")
        kind = NoSuchKind if kind is NotFound else kind  # of an object that is missing there is a Status
    if message.startswith(_UNDECLARED):
        kind = Invalid
    if message.startswith(_WEBHOOK):
        kind = Forbidden
    return kind(status, reason, message, _seconds(headers.get("Retry-After")))


def _seconds(header: str | None) -> float | None:
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:  # the date form, which Kubernetes does not send
        return None
