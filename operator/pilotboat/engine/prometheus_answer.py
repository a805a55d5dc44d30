"""What a Prometheus answered to an instant query: values and their time, or why there are none.

Owns: the shape of such an answer (https://prometheus.io/docs/prometheus/latest/querying/api/). Must not know: who asked
it, nor what a value means. Nothing that it says is trusted: it is whatever a user's address answers.
"""

from __future__ import annotations

import json
from typing import Any

from .errors import QueryFailure

Values = tuple[tuple[float, ...], float | None]
"""One value for each series, and the Unix time of the oldest."""

_LONGEST = 200
"""Characters of a server's own words that are passed on."""


def read(status: int, body: bytes, *, secret: bool) -> Values:
    """The values. Raises QueryFailure, without the server's words where it was sent a `secret`: they might have it."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if status != 200 or not isinstance(answer, dict) or answer.get("status") != "success":
        raise QueryFailure(_refusal(status, answer, secret))
    try:
        return _values(answer["data"])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        raise QueryFailure("the answer is not one that gives numbers") from None


def _values(data: dict[str, Any]) -> Values:
    if data["resultType"] not in ("vector", "scalar"):
        raise ValueError(data["resultType"])
    points = [data["result"]] if data["resultType"] == "scalar" else [series["value"] for series in data["result"]]
    return tuple(float(value) for _, value in points), min((float(at) for at, _ in points), default=None)


def _refusal(status: int, answer: Any, secret: bool) -> str:
    if 300 <= status < 400:
        return f"HTTP {status}: it sends elsewhere, which is not followed"
    if not isinstance(answer, dict) or answer.get("status") != "error":
        return f"HTTP {status}" if status != 200 else "the answer is not that of a Prometheus"
    words = "" if secret else " ".join(str(answer.get("error", "")).split())[:_LONGEST]
    return f"HTTP {status}: {words}" if words else f"HTTP {status}"
