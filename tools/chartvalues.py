"""The reference of the chart's values, from values.yaml (defaults, `# --` comments) and values.schema.json (types).

Owns: the text of docs/chart-values.md. Must not know: where it is written to (tools/gen.py does).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pilotboat.api import reference

CHART = Path(__file__).resolve().parent.parent / "charts" / "pilotboat"
SAYS = "# --"
"""Begins the comment above a value that says what it is for, as helm-docs has it."""

_HEAD = f"""<!-- Generated from charts/pilotboat by `make gen`; change its values and their schema, not this page. -->

# Reference of the chart's values

Anything else is refused by helm. Comments that begin with `{SAYS}` in values.yaml are the meanings below.

| value | type | default | meaning |
| --- | --- | --- | --- |
"""


class Unmatched(Exception):
    """A value that values.yaml or the schema does not have, or of which nothing is said."""


@dataclass(frozen=True)
class Value:
    """One value that can be set."""

    path: str
    schema: dict[str, Any]
    default: Any
    meaning: str

    @property
    def row(self) -> str:
        """Its row of the table."""
        default = json.dumps(self.default) if self.default not in ("", None) else ""
        shown = f"`{reference.cell(default)}`" if default else ""
        return f"| `{self.path}` | {reference.type_of(self.schema)} | {shown} | {reference.cell(self.meaning)} |"


def page(chart: Path = CHART) -> str:
    """The whole page. Raises Unmatched."""
    return _HEAD + "".join(f"{value.row}\n" for value in values(chart))


def values(chart: Path = CHART) -> Iterator[Value]:
    """Every value of the chart, in the order of values.yaml. Raises Unmatched."""
    text = (chart / "values.yaml").read_text()
    schema = json.loads((chart / "values.schema.json").read_text())
    schema["properties"].pop("global", None)  # helm's own
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    yield from _Reader(text.splitlines(), schema.get("$defs", {})).of(root, schema, "")


@dataclass(frozen=True)
class _Reader:
    lines: list[str]
    defs: dict[str, Any]

    def of(self, mapping: yaml.MappingNode, schema: dict[str, Any], path: str) -> Iterator[Value]:
        """The values below one."""
        known = schema["properties"]
        given = {key.value: (key, node) for key, node in mapping.value}
        if odd := known.keys() ^ given.keys():
            raise Unmatched(f"in one of values.yaml and values.schema.json only: {', '.join(sorted(odd))}")
        for name, (key, node) in given.items():
            below = self._resolved(known[name])
            if "properties" in below:
                yield from self.of(node, below, f"{path}{name}.")
            else:
                yield Value(path + name, below, yaml.SafeLoader("").construct_document(node), self._said(key, path))

    def _said(self, key: yaml.ScalarNode, path: str) -> str:
        lines = map(str.strip, reversed(self.lines[: key.start_mark.line]))
        above = itertools.takewhile(lambda line: line.startswith("#"), lines)
        _before, said, words = " ".join(reversed(list(above))).rpartition(SAYS)
        if not said:
            raise Unmatched(
                f"values.yaml does not say what {path}{key.value} is: begin the comment above it with {SAYS}"
            )
        return words.replace(" # ", " ").strip()

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        return self.defs[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
