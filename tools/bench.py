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

from tools import venv
from tools.host import ROOT
from tools.steps import StepFailed

sys.path.insert(0, str(ROOT / "tests"))

from lab import build

BENCHMARKS = ("demo", "scale", "canary", "gateway", "abort", "recovery", "regions")
ON_A_CONTROL_PLANE = frozenset({"scale", "gateway", "abort", "recovery"})
"""Those that need Kubernetes' programs, and so a build of them."""
PATHS = ("tests", "operator", "images/server", "images/gateway", ".")


def main(argv: Sequence[str]) -> int:
    """Every benchmark in turn, or the one named; the status of the first that could not measure."""
    names, options = (argv[:1], argv[1:]) if argv else (BENCHMARKS, ())
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"{unknown[0]} is none of the benchmarks: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 1
    try:
        venv.update()
        if ON_A_CONTROL_PLANE.intersection(names):
            build.ensure()
    except StepFailed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / path) for path in PATHS)}
    for name in names:
        command = [str(venv.VENV / "bin" / "python"), "-m", f"bench.{name}", *options]
        done = subprocess.run(command, cwd=ROOT, env=env, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
