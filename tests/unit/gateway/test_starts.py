"""What of a server's /readyz is believed: it may be any program, for a user may bring a server of his own."""

from __future__ import annotations

import json

import pytest

from pilotboat_gateway import starts


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (json.dumps({"phase": "serving", "startup_seconds": {"loading": 3.5, "warming": 0.25}}), 0.25),
        (json.dumps({"startup_seconds": {"loading": 3.5}}), None),
        (json.dumps({"startup_seconds": None}), None),
        (json.dumps({"startup_seconds": {"warming": -1}}), None),
        (json.dumps({"startup_seconds": {"warming": "soon"}}), None),
        ('{"startup_seconds": {"warming": Infinity}}', None),
        ('{"startup_seconds": {"warming": NaN}}', None),
        ('{"startup_seconds": {"warming": 1%s}}' % ("0" * 400), None),
        ("[" * 4000, None),
        ("ok", None),
        ("", None),
    ],
)
def test_only_seconds_are_taken(body: str, seconds: float | None) -> None:
    assert starts.read(body.encode()) == seconds


def test_what_is_no_text_is_nothing() -> None:
    assert starts.read(bytes(range(128, 256))) is None
