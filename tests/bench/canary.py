"""What DESIGN §6 promises of the canary's judgement, on the code that ships, over a grid of simulated rollouts.

Owns: the grid, its goals and its table. Must not know: how rollouts are drawn (traces) or judged (rollouts).

    python3 -m tools.bench canary                    what `make bench-canary` runs
    python3 -m tools.bench canary --rollouts 200     a look
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product
from math import isfinite
from multiprocessing import Pool

from bench.figures import Figure, tell
from bench.rollouts import ORACLES, RIVALS, Cell, run
from bench.traces import BATCHES, MINUTES_LONG, World
from pilotboat.api.analysis import Verdict

SEED = 20261201
RATES = (1, 6, 30, 120, 1000)
CHUNK = 250
"""Rollouts drawn at once: what fits a processor's memory well."""
WORLDS = (
    World("healthy, 1 % errors"),
    World("healthy, 3 % errors", stable=0.03),
    World("shared incident, 1 %", incident=True),
    World("shared incident, 3 %", stable=0.03, incident=True),
    World("shared bursts, 1 %", bursts=True),
    World("healthy with stalls, 1 %", stalls=BATCHES),
    World("healthy with stalls, 3 %", stable=0.03, stalls=BATCHES),
    World("healthy with long stalls, 1 %", stalls=MINUTES_LONG),
    World("errors 1 → 5 %", canary=0.05),
    World("errors 3 → 7 %", stable=0.03, canary=0.07),
    World("errors 1 → 20 %", canary=0.20),
    World("errors 1 → 20 % in the last step", canary=0.20, late=True),
    World("first token ×1.5", first_token=1.5),
    World("first token ×2", first_token=2),
    World("per token ×1.5", per_token=1.5),
    World("per token ×2", per_token=2),
    World("all three: 1 → 5 %, ×1.5, ×1.5", canary=0.05, first_token=1.5, per_token=1.5),
    World("stalls, first token ×2", first_token=2, stalls=BATCHES),
)
NOT_TO_PROMOTE = frozenset(
    {
        *("errors 1 → 5 %", "errors 3 → 7 %", "errors 1 → 20 %", "errors 1 → 20 % in the last step"),
        *("first token ×2", "per token ×2", "all three: 1 → 5 %, ×1.5, ×1.5", "stalls, first token ×2"),
    }
)
"""Worlds whose canary is worse by the margin or more."""
AGAINST = {
    ("healthy, 1 % errors", 30): [name for name in RIVALS if name != "independent"],
    ("healthy with stalls, 1 %", 1000): ["independent"],
}
"""Where false aborts are told beside those of others."""


def main(argv: Sequence[str]) -> int:
    """Run the grid, show the table, tell the figures."""
    options = argparse.ArgumentParser(prog="bench.canary")
    options.add_argument("--rollouts", type=int, default=2000, help="rollouts a cell")
    options.add_argument("--rates", type=float, nargs="+", default=RATES)
    options.add_argument("--worlds", default="", help="only worlds with this in their name")
    asked = options.parse_args(argv)
    begun = time.monotonic()
    worlds = [world for world in WORLDS if asked.worlds in world.name]
    print(HEAD)
    cells = []
    for cell in grid(worlds, asked.rates, asked.rollouts):
        print(row(cell), flush=True)
        cells.append(cell)
    print(f"{len(cells)} cells of {asked.rollouts} rollouts in {time.monotonic() - begun:.0f} s, seed {SEED}\n")
    tell(*figures(cells))
    return 0


def grid(worlds: Sequence[World], rates: Sequence[float], rollouts: int) -> Iterator[Cell]:
    """Every world at every rate, on all processors; the same for the same seed on any number of them."""
    sizes = [min(CHUNK, rollouts - begun) for begun in range(0, rollouts, CHUNK)]
    tasks = [
        (world, rate, size, SEED + 1000 * WORLDS.index(world) + nth)
        for (world, rate), (nth, size) in product(product(worlds, rates), enumerate(sizes))
    ]
    with Pool(os.cpu_count()) as pool:
        parts = pool.imap(run, tasks)
        for _ in range(len(tasks) // len(sizes)):
            cell = next(parts)
            for part in islice(parts, len(sizes) - 1):
                cell.endings.extend(part.endings)
                cell.rivals.update(part.rivals)
                for name, requests in part.oracles.items():
                    cell.oracles[name] += requests
            yield cell


OTHERS = (*ORACLES, *RIVALS)
HEAD = f"""| truth | requests a minute | aborted | promoted (in time) | held | until abort | {" | ".join(OTHERS)} |
{"| --- " * (6 + len(OTHERS))}|"""


def row(cell: Cell) -> str:
    """Markdown: what we did, in percent, and what the others aborted."""
    aborted, promoted, held = (_percent(cell.share(each)) for each in (Verdict.ABORT, Verdict.PROMOTE, Verdict.HOLD))
    return (
        f"| {cell.world.name} | {cell.rate:g} | {aborted} | {promoted} ({_percent(cell.in_time)}) | {held} "
        f"| {_requests(cell.until_abort)} | {' | '.join(_requests(cell.best(name)) for name in ORACLES)} "
        f"| {' | '.join(_percent(cell.rival(name)) for name in RIVALS)} |"
    )


def _requests(median: float) -> str:
    return f"{median:.0f}" if isfinite(median) else ""


def _percent(share: float) -> str:
    return f"{100 * share:.2f}" if 0 < share < 0.1 else f"{100 * share:.0f}"


def figures(cells: Sequence[Cell]) -> Iterable[Figure]:
    """The promises; those whose cells were left out are not told."""
    good = [cell for cell in cells if cell.world.good]
    bad = [cell for cell in cells if cell.world.name in NOT_TO_PROMOTE]
    if good:
        yield budget("false-abort-worst", max(cell.share(Verdict.ABORT) for cell in good), 0.02)
    if bad:
        yield budget("false-promote-worst", max(cell.share(Verdict.PROMOTE) for cell in bad), 0.05)
    healthy = [cell for cell in good if cell.world.quiet]
    for rate, most in ((30, 0.10), (120, 0.01), (1000, 0.01)):
        if at := [cell for cell in healthy if cell.rate == rate]:
            worst = max(1 - cell.share(Verdict.PROMOTE) for cell in at)
            yield budget(f"healthy-not-promoted-{rate}", worst, most)
            yield budget(f"healthy-not-in-time-{rate}", max(1 - cell.in_time for cell in at), most)
    if at := [cell for cell in healthy if cell.rate == 6]:
        yield budget("decided-at-6-a-minute", max(cell.in_time for cell in at), 0.05)
    for cell in cells:
        if cell.world.name == "errors 1 → 20 %" and cell.rate > 1:
            yield budget(f"late-abort-{cell.rate:g}", cell.late, 0.5)
        for name in AGAINST.get((cell.world.name, cell.rate), ()):
            ours, theirs = 100 * cell.share(Verdict.ABORT), 100 * cell.rival(name)
            yield Figure(f"canary-false-abort-{cell.rate:g}", ours, "%", name, theirs, 1)


def budget(name: str, share: float, most: float) -> Figure:
    """A share held against what is promised."""
    return Figure(f"canary-{name}", 100 * share, "%", "budget", 100 * most, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
