"""What a restarted agent reads of the one before; of a file that says nothing it begins as from none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilotboat_gateway.driver import Saved
from tests.unit.gateway.test_config import made, seats

NOTHING = Saved({}, {})


def saved(table: str) -> str:
    return json.dumps({"routes": {}, "table": table})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        json.dumps({"routes": [], "table": "{}"}),
        json.dumps({"routes": {"chat": []}, "table": "{}"}),
        json.dumps({"routes": {}, "table": []}),
        saved("[]"),
        saved("[" * 100_000),
        saved('{"chat": {"slots": [{"revision": null}], "epoch": 0}}'),
        saved('{"chat": {"slots": [], "epoch": "many"}}'),
        saved('{"chat": {"slots": [{"revision": null, "seats": [3]}], "epoch": 0}}'),
    ],
    ids=range(12),
)
def test_a_file_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    assert Saved.load(path) == NOTHING


def test_what_was_written_is_read(tmp_path: Path) -> None:
    routes = made()
    path = tmp_path / "table.json"
    path.write_text(Saved(routes, seats(routes, a=[1, 2], b=[3])).dump())
    assert Saved.load(path) == Saved(routes, seats(routes, a=[1, 2], b=[3]))
    assert Saved.load(tmp_path / "none") == NOTHING
