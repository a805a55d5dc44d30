"""What DESIGN §3 promises of the operator, measured: how fast, how many writes, how much memory and processor time.

Owns: the measurements and their goals. Must not know: how a control plane or an operator is started (world, process).

    python3 -m tools.bench scale               part of what `make bench` runs
    python3 -m tools.bench scale --sizes 25,50 --rounds 1 --rest 15    a short look; only its counts mean anything
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from bench import objects
from bench.audit import Request, tally, writes
from bench.figures import Figure, tell
from bench.latency import Latency, latency
from bench.load import Load, Refused, available, ready, timed
from bench.process import Operator, operator
from bench.world import OPERATOR, World, world
from tools.steps import StepFailed, step

CHILDREN = 5
"""Deployment, with a ConfigMap and a Service of its own; Service and route. With the second replica comes a sixth."""
AT_REST = frozenset({"leases"})
QUIET = 3.0
"""Seconds without a request but of the Lease, after which the operator counts as at rest."""


@dataclass(frozen=True)
class Run:
    """One size, measured once."""

    size: int
    direct: float
    """Seconds the plain client took."""
    ours: float
    cpu: float
    """The operator's processor seconds from before the first creation until it was at rest."""
    memory: float
    """MiB more than before."""
    requests: list[Request]
    restart: float
    """Seconds from the start of a new process until it has looked at everything."""
    restart_cpu: float
    restart_writes: int
    restart_memory: float
    """MiB of a new process that has looked at everything."""
    rest: list[Request]
    """Asked while nothing happened."""
    latency: Latency | None


@dataclass(frozen=True)
class Idle:
    """An operator with nothing to do: what is subtracted."""

    cpu: float
    memory: float


def direct(size: int) -> float:
    """Seconds a plain client takes for the same children."""

    async def run(there: World) -> float:
        async with Load.connect(there.client) as load:
            return await timed(load, [objects.children(n) for n in range(size)], "Deployment", available)

    with world() as there, step(f"{size} times the children by a plain client"):
        return asyncio.run(run(there))


async def _created(there: World, running: Operator, size: int) -> float:
    groups = [[objects.model_deployment(n)] for n in range(size)]
    async with Load.connect(there.client) as load:
        work = asyncio.create_task(timed(load, groups, "ModelDeployment", ready))
        ended = asyncio.create_task(running.ended())
        await asyncio.wait((work, ended), return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            work.cancel()
            await ended
        ended.cancel()
        return await work


def ours(size: int, plain: float, rest: float) -> tuple[Run, Idle]:
    """The operator's part of a size; `rest` seconds at rest are watched where they are not 0."""
    with world() as there:
        with operator(there.operator, there.log) as running:
            idle = at_rest(there, running)
            there.requests.mark()
            with step(f"{size} ModelDeployments by the operator"):
                seconds = asyncio.run(_created(there, running, size))
            after = at_rest(there, running)
            requests = there.requests.since(OPERATOR)
            still = watched(there, rest)
            lag = asyncio.run(latency(there, running, min(size, 50))) if rest else None
        again, fresh, wrote, memory = restarted(there, size)
    run = Run(
        size=size,
        direct=plain,
        ours=seconds,
        cpu=after.cpu - idle.cpu,
        memory=after.memory - idle.memory,
        requests=requests,
        restart=again,
        restart_cpu=fresh,
        restart_writes=wrote,
        restart_memory=memory - idle.memory,
        rest=still,
        latency=lag,
    )
    return run, idle


def at_rest(there: World, running: Operator) -> Idle:
    """Wait until the operator leads and asks for nothing more."""
    running.await_value("leader", 1)
    known, since = -1, time.monotonic()
    while time.monotonic() - since < QUIET:
        count = sum(r.resource not in AT_REST for r in there.requests.since(OPERATOR))
        if count != known:
            known, since = count, time.monotonic()
        time.sleep(0.5)
    return Idle(running.cpu, running.memory)


def watched(there: World, seconds: float) -> list[Request]:
    """What is asked in so many seconds in which nothing happens."""
    if not seconds:
        return []
    with step(f"{seconds:.0f} s at rest"):
        there.requests.mark()
        time.sleep(seconds)
        return there.requests.since(OPERATOR)


def restarted(there: World, size: int) -> tuple[float, float, int, float]:
    """Seconds and processor seconds of a new process until it has looked at everything; its writes; its memory."""
    there.requests.mark()
    with step(f"Restart with {size} ModelDeployments"), operator(there.operator, there.log, "again") as running:
        running.await_value("reconciles_total", size, kind="modeldeployments")
        seconds, cpu = time.monotonic() - running.started, running.cpu
        rest = at_rest(there, running)
        return seconds, cpu, writes(there.requests.since(OPERATOR)), rest.memory


def figures(small: Run, large: Run, idle: Idle) -> list[Figure]:
    """What is told."""
    apart = large.size - small.size
    made = [
        *(Figure(f"ready-{run.size}", run.ours, "s", "plain-client", run.direct, 1.2) for run in (small, large)),
        *_counts(large),
        Figure("memory-per-1000", _slope(small.memory, large.memory, apart), "MiB", "budget", 30, 1),
        Figure(
            "memory-per-1000-restarted",
            _slope(small.restart_memory, large.restart_memory, apart),
            "MiB",
            "budget",
            30,
            1,
        ),
        _linear("cpu-per-resource", large.cpu / large.size, small.cpu / small.size, small.size, 1.2),
        Figure("restart-seconds", large.restart, "s", f"restart-{small.size}", small.restart, large.size / small.size),
        _linear(
            "restart-cpu-per-resource",
            (large.restart_cpu - idle.cpu) / large.size,
            (small.restart_cpu - idle.cpu) / small.size,
            small.size,
            1.2,
        ),
    ]
    return made + (large.latency.figures() if large.latency else [])


def _counts(run: Run) -> list[Figure]:
    """Those that do not depend on how busy the machine is."""
    made = writes(run.requests) / run.size
    asked = sum(not (r.verb in ("watch", "list") or r.resource in AT_REST) for r in run.rest)
    return [
        # Two transitions: created (children and status), and ready (status).
        Figure("writes-created-to-ready", made, "", "budget", CHILDREN + 2, 1),
        Figure("events-created-to-ready", writes(run.requests, events=True) / run.size, "", "budget", 2, 1),
        Figure("requests-at-rest", asked, "", "budget", 0, 0),
        Figure("writes-at-restart", run.restart_writes, "", "budget", 0, 0),
    ]


def _slope(small: float, large: float, apart: int) -> float:
    """A thousand times what one resource more costs: what the first ones cost is code and buffers."""
    return (large - small) / apart * 1000


def _linear(name: str, large: float, small: float, size: int, most: float) -> Figure:
    return Figure(name, large * 1000, "ms", f"at-{size}", small * 1000, most)


def measure(sizes: Sequence[int], rounds: int, rest: float) -> list[Figure]:
    """Every size, each round the plain client first; only the largest is watched at rest."""
    runs: list[Run] = []
    for size in sizes:
        last = size == sizes[-1]
        made = [ours(size, direct(size), rest if last else 0) for _ in range(1 if last else rounds)]
        for run, _ in made:
            print(f"  {size}: plain client {run.direct:.1f} s, operator {run.ours:.1f} s", flush=True)
        run, idle = made[-1]
        for (verb, resource, code), count in sorted(tally(run.requests).items()):
            print(f"  {size}: {verb} {resource} {code}: {count}", flush=True)
        plain, taken = median(run.direct for run, _ in made), median(run.ours for run, _ in made)
        runs.append(replace(run, direct=plain, ours=taken))
    return figures(runs[0], runs[-1], idle)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.bench", description=__doc__)
    parser.add_argument("--sizes", default="100,1000", help="how many ModelDeployments, the smaller number first")
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often the smaller size is measured; the median counts"
    )
    parser.add_argument("--rest", type=float, default=60, help="seconds watched at rest")
    arguments = parser.parse_args()
    try:
        sizes = [int(size) for size in arguments.sizes.split(",")]
        if len(set(sizes)) < 2:
            sys.exit("--sizes: two different ones are needed, for what one resource more costs")
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
        tell(*measure(sizes, arguments.rounds, arguments.rest))
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    except (StepFailed, Refused, TimeoutError) as failure:
        sys.exit(f"could not measure: {failure or 'it took too long'}")


if __name__ == "__main__":
    main()
