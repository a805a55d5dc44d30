"""What of a replica's own word is believed: it may be any program, for a user may bring a server of his own."""

from __future__ import annotations

import json

import pytest

from pilotboat_gateway import starts
from tests.unit.gateway.test_evidence import OK, answering, told


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


READY = b'{"startup_seconds": {"warming": 0.25}}'
HEADS = b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"


@pytest.mark.parametrize("answer", [OK + b"Content-Length: 100\r\n\r\n" + READY, told(READY + b" " * starts.MOST)])
async def test_an_answer_that_is_cut_or_too_long_is_nothing(answer: bytes) -> None:
    async with answering(answer, told(READY)) as pod:
        assert await starts.warmed([pod]) == {}
        assert await starts.warmed([pod]) == {pod.name: 0.25}


@pytest.mark.parametrize("head", HEADS)
async def test_an_answer_that_leads_nowhere_ends_nothing(head: bytes) -> None:
    async with answering(told(b"{}", head)) as pod:
        assert await starts.warmed([pod]) == {}
