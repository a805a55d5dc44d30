"""Every error of the server, in one tree. Must not know: HTTP frameworks, engines.

ServerError
├── ApiError               answered to the caller in OpenAI's shape; may cross the socket between processes
│   ├── BadRequest         400, names the parameter
│   ├── Unauthorized       401
│   ├── NotFound           404
│   ├── TooLarge           413
│   ├── QueueFull          429, with Retry-After
│   ├── EngineFailed       500
│   ├── Unavailable        503, with Retry-After: loading or draining
│   └── DeadlineExceeded   504
├── CannotListen           ends the process; another start may succeed
└── StartupError           ends the process with exit code 64 and a TerminationReport of its reason
    ├── InvalidConfig
    ├── InvalidModel
    └── UnsupportedSetting
"""

from __future__ import annotations

from typing import Any, ClassVar

from pilotboat.api.reasons import Reason


class ServerError(Exception):
    """Anything this server says is wrong."""


class ApiError(ServerError):
    """An answer to the caller. `param` is the request's field, `code` OpenAI's machine-readable code."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None
    retry_after: ClassVar[int | None] = None
    """Seconds for the header Retry-After."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}

    def headers(self) -> dict[str, str]:
        """Headers that belong to this answer."""
        return {"retry-after": str(self.retry_after)} if self.retry_after is not None else {}

    def to_wire(self) -> list[Any]:
        """For the socket between processes."""
        return [self.status, self.message, self.param, self.code]

    @staticmethod
    def from_wire(data: list[Any]) -> ApiError:
        """The error that `to_wire` described."""
        status, message, param, code = data
        return _BY_STATUS.get(status, EngineFailed)(message, param, code)


class BadRequest(ApiError):
    """The request is wrong; `param` says where."""

    status, kind = 400, "invalid_request_error"


class Unauthorized(ApiError):
    """No API key, or one that is not accepted."""

    status, kind, default_code = 401, "authentication_error", "invalid_api_key"


class NotFound(ApiError):
    """No such route or model."""

    status, kind = 404, "invalid_request_error"


class TooLarge(ApiError):
    """The body is larger than any request may be."""

    status, kind = 413, "invalid_request_error"


class QueueFull(ApiError):
    """Every slot is busy and the queue is full."""

    status, kind, default_code, retry_after = 429, "rate_limit_error", "queue_full", 1


NOT_FINITE = "model_not_finite"
"""Code of an EngineFailed that is the model's own fault: what it computes is no number."""


class EngineFailed(ApiError):
    """The engine broke while it worked on this request."""


class Unavailable(ApiError):
    """Loading, or on the way out: another replica, or a later try, will do."""

    status, kind, default_code, retry_after = 503, "service_unavailable", "not_serving", 1

    def headers(self) -> dict[str, str]:
        """The connection ends with the answer: the caller's next request should go elsewhere too."""
        return {**super().headers(), "connection": "close"}


class DeadlineExceeded(ApiError):
    """service.requestTimeout passed."""

    status, kind, default_code = 504, "timeout_error", "deadline_exceeded"


_BY_STATUS: dict[int, type[ApiError]] = {
    error.status: error
    for error in (BadRequest, Unauthorized, NotFound, TooLarge, QueueFull, EngineFailed, Unavailable, DeadlineExceeded)
}


class CannotListen(ServerError):
    """An address that is taken, or is none of this machine's; the message names the fields."""


class StartupError(ServerError):
    """The server cannot start and a restart would not help."""

    reason: ClassVar[Reason] = Reason.INVALID_SPEC


class InvalidConfig(StartupError):
    """The config file does not validate; the message names each field."""


class InvalidModel(StartupError):
    """The files are no model that the engine can load; the message says what was found."""

    reason = Reason.INVALID_MODEL


class UnsupportedSetting(StartupError):
    """A setting that this engine or machine cannot honour; the message names the field."""

    reason = Reason.UNSUPPORTED
