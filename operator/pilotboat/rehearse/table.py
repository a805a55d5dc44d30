"""What is printed of a rehearsal, and written as JSON.

Owns: rows and their form. Must not know: how they came about. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .measure import Seen
from .promises import Line
from .watch import Restored

BROKEN = 1
"""Exit status where a promise was broken: that is certain, whatever else could not be measured."""

COLUMNS = ("fault", "what was hit", "", "promised", "measured", "control", "")


@dataclass(frozen=True)
class Side:
    """One fault against one deployment."""

    hit: str
    lines: tuple[Line, ...] = ()
    seen: Seen | None = None
    restored: Restored | None = None
    load_seconds: float = 0.0
    trouble: str | None = None
    """Why there are no figures, or none that say anything."""
    unfinished: str | None = None
    """Why the figures are not the last word: what is broken is, what is kept so far may be broken yet."""


@dataclass(frozen=True)
class Row:
    """One fault, against ours and perhaps the control."""

    name: str
    kind: str
    ours: Side
    control: Side | None = None

    @property
    def broken(self) -> bool:
        """Whether a promise was broken, by figures that count."""
        return self.ours.trouble is None and any(line.kept is False for line in self.ours.lines)


def status(rows: Sequence[Row], asked: int) -> int:
    """The exit status: 0 every promise kept, 1 one broken, 2 something was not measured."""
    if any(row.broken for row in rows):
        return BROKEN
    return 0 if len(rows) == asked and not any(row.ours.trouble or row.ours.unfinished for row in rows) else 2


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The lines of the table; without a control the column is left out."""
    cells = [COLUMNS, *(line for row in rows for line in _lines(row))]
    if not any(row.control for row in rows):
        cells = [(*line[:5], line[6]) for line in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _lines(row: Row) -> Iterator[tuple[str, ...]]:
    others = {line.what.split(" after ")[0]: line for line in row.control.lines} if row.control else {}
    fault, hit = row.name, row.ours.hit
    for line in row.ours.lines:
        other = others.get(line.what.split(" after ")[0])
        verdict = _verdict(line, row.ours)
        yield fault, hit, line.what, line.promised, line.measured, other.measured if other else "", verdict
        fault = hit = ""
    for told, side in (("not measured", row.ours), ("control not measured", row.control)):
        for why in filter(None, (side.trouble, side.unfinished) if side else ()):
            yield fault, hit, f"{told}: {why}", "", "", "", ""
            fault = hit = ""


def _verdict(line: Line, side: Side) -> str:
    if line.kept is None or side.trouble or (line.kept and side.unfinished):
        return ""
    return "kept" if line.kept else "BROKEN"


def record(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """As JSON."""
    return [{**asdict(row), "broken": row.broken} for row in rows]
