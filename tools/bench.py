"""`make bench`: what is promised in numbers, measured on this machine; one line a figure at the end.

Owns: that all is there before a benchmark starts. Must not know: what is measured. Standard library only.

    python3 -m tools.bench                   all of them
    python3 -m tools.bench canary [...]      one, with options of its own
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from tools import place, venv
from tools.endings import spoken
from tools.host import ROOT
from tools.steps import StepFailed

sys.path.insert(0, str(ROOT / "tests"))

from lab import build

BENCHMARKS = ("demo", "scale", "canary", "gateway", "abort", "recovery", "regions")
ON_A_CONTROL_PLANE = frozenset({"scale", "gateway", "abort", "recovery"})
"""Those that need Kubernetes' programs, and so a build of them."""
LAB = "bench-lab"
"""The name of the lab that some of them take: a demo in the default one goes on, and none is left that misses nodes
sooner than Kubernetes does."""
PATHS = ("tests", "operator", "images/server", "images/gateway", ".")


def main(argv: Sequence[str]) -> int:
    """Every benchmark in turn, or the one named; 1 where one could not measure, which hides none of the others."""
    if argv[:1] in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    names, options = (argv[:1], argv[1:]) if argv else (BENCHMARKS, ())
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"{unknown[0]} is none of the benchmarks: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 1
    return spoken(lambda: run_all(names, options))


def run_all(names: Sequence[str], options: Sequence[str]) -> int:
    """What could not measure is told at the end."""
    venv.update()
    with place.own_lab(LAB):
        failed = measured(names, options)
    if failed:
        print(f"\nCould not measure: {', '.join(failed)}. Why is told above, where each of them ran.", file=sys.stderr)
    return 1 if failed else 0


def measured(names: Sequence[str], options: Sequence[str]) -> list[str]:
    """Runs them one after another; those that could not measure."""
    lacking = without_programs() if ON_A_CONTROL_PLANE.intersection(names) else frozenset()
    return [name for name in names if name in lacking or run(name, options)]


def without_programs() -> frozenset[str]:
    """Builds Kubernetes' programs; those that can do nothing without, where they cannot be built."""
    try:
        build.ensure()
    except StepFailed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return ON_A_CONTROL_PLANE
    return frozenset()


def run(name: str, options: Sequence[str]) -> int:
    """One benchmark's status; its output as it comes."""
    print(f"\n=== {name}\n", flush=True)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / path) for path in PATHS)}
    command = [str(venv.VENV / "bin" / "python"), "-m", f"bench.{name}", *options]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
