"""How long callers of a shared host name are sent to a region that is gone, at a real name server.

Owns: the measurements and their goals. Must not know: how name server and writers are run (tests/integration), nor how
two labs become two regions (tests/e2e).

    python3 -m tools.bench regions                what `make bench-regions` runs: two writers, all on loopback
    python3 -m tools.bench regions --rounds 1     a short look
    python3 -m tools.bench regions --labs         two labs, of which one is killed whole, or cut off; needs the images
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.figures import NEVER, Figure, tell
from lab import faults
from tests.integration.nameserver import STATIC, primary
from tests.integration.writers import EAST, lost
from tools.host import need
from tools.steps import StepFailed, step

KINDS = ("killed", "cut", "sick")
"""The operator ends; it cannot reach the name server; it says that nothing serves."""
PROMISED = 25.0
TTL = 5.0


Times = dict[str, list[tuple[float, float]]]


async def measure(folder: Path, rounds: int) -> tuple[Times, float]:
    """Of each kind: seconds until the name server, and a caller with a memory of the TTL, has another answer. And what
    it was for a name that nobody keeps."""
    found: Times = {kind: [] for kind in KINDS}
    async with primary(folder) as server:
        for number in range(rounds):
            with step(f"round {number + 1} of {rounds}"):
                each = await asyncio.gather(*(lost(server, kind, f"-{number}") for kind in KINDS))
            for kind, times in zip(KINDS, each, strict=True):
                found[kind].append(times)
        return found, NEVER if await server.ask(STATIC) == [EAST] else 0.0


def figures(found: Times, static: float) -> list[Figure]:
    """The longest of each; beside a record that was written once, which is what a name has where nobody keeps it."""
    told = []
    for kind, times in found.items():
        source, seen = (max(column) for column in zip(*times, strict=True))
        told.append(Figure(f"region-{kind}-answer-changed", source, "s", "budget", PROMISED, 1.0))
        told.append(Figure(f"region-{kind}-caller-moved", seen, "s", "budget", PROMISED + TTL, 1.0))
        told.append(Figure(f"region-{kind}-answer-changed-beside", source, "s", "static-record", static, 1.0))
    return told


def on_labs(folder: Path, rounds: int) -> list[Figure]:
    """The longest of so many rounds of each fault, with two labs, operators and callers."""
    from tests.e2e import twolabs  # which needs the images' builder, and the other measurements do not

    longest: dict[tuple[str, str], float] = {}
    with twolabs.side_by_side(folder) as two:
        faulty = {"killed": lambda: faults.black_out(two.east.lab), "cut": lambda: two.outside.cut(two.east.lab)}
        for number in range(rounds):
            for kind, fault in faulty.items():
                with step(f"round {number + 1} of {rounds}: {kind}"):
                    for what, seconds in twolabs.lost(two, fault).items():
                        longest[kind, what] = max(longest.get((kind, what), 0.0), seconds)
                        print(f"{kind}, {what}: {seconds:.1f} s", flush=True)
    most = {"answer-changed": PROMISED, "caller-moved": PROMISED + TTL}
    return [
        Figure(f"region-lab-{kind}-{what}", seconds, "s", "budget", most[what], 1.0)
        for (kind, what), seconds in longest.items()
    ]


def main(argv: Sequence[str]) -> int:
    """Non-zero only where it could not measure."""
    parser = argparse.ArgumentParser(prog="bench.regions", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--labs", action="store_true", help="two labs rather than two writers")
    args = parser.parse_args(argv)
    try:
        need("knotd", "knot")
        with tempfile.TemporaryDirectory() as folder:
            if args.labs:
                found = on_labs(Path(folder), args.rounds)
            else:
                found = figures(*asyncio.run(measure(Path(folder), args.rounds)))
    except (StepFailed, AssertionError, TimeoutError, OSError) as failure:
        print(f"could not measure: {failure}", file=sys.stderr)
        return 1
    tell(*found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
