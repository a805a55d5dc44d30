"""One line a figure, and the same as JSON where $BENCH_OUT says.

Owns: the format. Must not know: what is measured.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

NEVER = 1e6
"""What did not happen for as long as it was watched."""


@dataclass(frozen=True)
class Figure:
    """A measured value beside what it is held against."""

    figure: str
    ours: float
    unit: str
    against: str
    """Whose value the other is: a peer measured in the same run, or `budget`."""
    other: float
    most: float
    """The largest ratio that meets the goal; where the other value is 0, the largest value of ours."""

    @property
    def ratio(self) -> float:
        """Ours to the other's; against nothing, ours itself."""
        return self.ours / self.other if self.other else self.ours

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.ratio <= self.most

    @property
    def line(self) -> str:
        """What is printed."""
        return (
            f"figure={self.figure} ours={_short(self.ours)}{self.unit} "
            f"against={self.against}:{_short(self.other)}{self.unit} ratio={self.ratio:.2f} "
            f"goal=ratio<={_short(self.most)} {'met' if self.met else 'missed'}"
        )

    @property
    def record(self) -> dict[str, object]:
        """What is appended to $BENCH_OUT."""
        return asdict(self) | {"ratio": round(self.ratio, 4), "goal": f"ratio<={self.most:g}", "met": self.met}


def tell(*figures: Figure) -> None:
    """Print the lines, and append the records where asked."""
    for figure in figures:
        print(figure.line, flush=True)
    if path := os.environ.get("BENCH_OUT"):
        with Path(path).open("a") as out:
            out.writelines(json.dumps(figure.record) + "\n" for figure in figures)


def _short(value: float) -> str:
    """Three digits that count; whole numbers whole."""
    return f"{value:.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def quantile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
