import json

import pytest

from pilotboat.engine import errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid),
        (401, errors.Unavailable),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (413, errors.Invalid),
        (422, errors.Invalid),
        (429, errors.Throttled),
        (500, errors.Unavailable),
        (503, errors.Unavailable),
    ],
)
def test_every_status_has_its_error(status: int, kind: type[errors.ApiError]) -> None:
    body = json.dumps({"kind": "Status", "reason": "Why", "message": "in words"}).encode()
    error = errors.from_response(status, {}, body)
    assert type(error) is kind
    assert (error.status, error.reason, error.message) == (status, "Why", "in words")


@pytest.mark.parametrize("body", [b"", b"<html>gateway</html>", b"[]", b"null", b"\xff"])
def test_a_page_that_is_no_status_is_understood_by_its_number(body: bytes) -> None:
    assert type(errors.from_response(503, {}, body)) is errors.Unavailable


def test_a_kind_that_is_not_served_is_told_from_an_object_that_is_missing() -> None:
    assert type(errors.from_response(404, {}, b"404 page not found\n")) is errors.NoSuchKind


def test_a_field_no_schema_has_is_the_inputs_fault_though_the_api_server_says_500() -> None:
    message = (
        "failed to create typed patch object (ns/a; apps/v1, Kind=Deployment): .spec.x: field not declared in schema"
    )
    error = errors.from_response(500, {}, json.dumps({"message": message}).encode())
    assert type(error) is errors.Invalid


@pytest.mark.parametrize(("header", "seconds"), [("3", 3), ("0.5", 0.5), ("-1", 0), ("Wed, 21 Oct", None)])
def test_retry_after(header: str, seconds: float | None) -> None:
    assert errors.from_response(429, {"Retry-After": header}, b"").retry_after == seconds


def test_a_webhook_that_cannot_be_asked_has_refused() -> None:
    message = 'Internal error occurred: failed calling webhook "a.b": failed to call webhook: context deadline exceeded'
    error = errors.from_response(500, {}, json.dumps({"reason": "InternalError", "message": message}).encode())
    assert (type(error), error.message) == (errors.Forbidden, message)
