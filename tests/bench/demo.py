"""What the last `make demo` on this machine took, step by step, beside its goals: nothing is run.

Owns: the goals. Must not know: what the steps are, but for those that only a first run has.

    python3 -m tools.bench demo
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, tell
from tools.host import cache
from tools.steps import WHOLE, Timing

FIRST = ("Building Kubernetes", "Image torch")
"""How the titles of steps begin that make a run a cold one."""


@dataclass(frozen=True)
class Goal:
    """A kind of run, and the seconds it may take."""

    figure: str
    seconds: float


COLD, WARM = Goal("demo-cold", 1800), Goal("demo-warm", 300)


def read(path: Path) -> list[Timing]:
    """The steps of the last demo that came to its end; none where there was none."""
    return [Timing(**step) for step in json.loads(path.read_text())] if path.exists() else []


def goal(steps: Sequence[Timing]) -> Goal:
    """A demo that built PyTorch's image or Kubernetes is a cold one."""
    return COLD if any(step.title.startswith(FIRST) for step in steps) else WARM


def figures(steps: Sequence[Timing]) -> list[Figure]:
    """The whole run, against its goal."""
    wanted = goal(steps)
    whole = [step.seconds for step in steps if step.title == WHOLE]
    return [Figure(wanted.figure, seconds, "s", "goal", wanted.seconds, 1) for seconds in whole]


def main() -> int:
    """Always 0: a demo that was not run is told, and no failure."""
    path = cache("demo") / "times.json"
    if not (steps := read(path)):
        print(
            "No demo has come to its end on this machine yet: `make demo` runs one, and its step times are told here."
        )
        return 0
    ended = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
    print(
        f"The last demo on this machine, ended {ended}; goals: {COLD.seconds / 60:.0f} min cold, "
        f"{WARM.seconds / 60:.0f} min warm"
    )
    print("\n".join(step.row for step in steps), flush=True)
    tell(*figures(steps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
