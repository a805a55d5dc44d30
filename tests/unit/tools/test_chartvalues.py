"""The reference of the chart's values: what it takes from where, and that nothing can be left out of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import chartvalues, gen
from tools.chartvalues import Unmatched

VALUES = """
# Not a word of this.
# -- How many; of two lines,
# the second is this | one.
count: 2
below:
  # -- What it is called.
  name: ""
"""
SCHEMA = {
    "properties": {
        "global": {"type": "object"},
        "count": {"type": "integer", "minimum": 1},
        "below": {"properties": {"name": {"$ref": "#/$defs/mode"}}},
    },
    "$defs": {"mode": {"enum": ["a", "b"]}},
}


def chart(folder: Path, values: str = VALUES) -> Path:
    (folder / "values.yaml").write_text(values)
    (folder / "values.schema.json").write_text(json.dumps(SCHEMA))
    return folder


def test_a_value_has_its_type_its_default_and_the_words_above_it(tmp_path: Path) -> None:
    assert [value.row for value in chartvalues.values(chart(tmp_path))] == [
        r"| `count` | integer 1… | `2` | How many; of two lines, the second is this \| one. |",
        r"| `below.name` | `a` \| `b` |  | What it is called. |",
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (VALUES + "extra: 1\n", "only: extra"),
        (VALUES.replace("count: 2", ""), "only: count"),
        (VALUES.replace("  # -- What it is called.\n", ""), "does not say what below.name is"),
        ("count: 2\n" + VALUES.replace("count: 2", ""), "does not say what count is"),
    ],
    ids=["not in the schema", "not in the values", "no words", "no words at the top"],
)
def test_what_would_be_left_out_is_named(tmp_path: Path, values: str, words: str) -> None:
    with pytest.raises(Unmatched, match=words):
        chartvalues.page(chart(tmp_path, values))


def test_it_is_among_what_is_checked_for_drift() -> None:
    assert gen.generated()[gen.ROOT / "docs" / "chart-values.md"] == chartvalues.page()
