"""What the gateway costs, measured against the same requests straight to the pod, on this machine's loopback device.

Owns: the measurements and their goals. Must not know: how a gateway or a server is started (gatewayproc does).

    python3 -m tools.bench gateway                                   what `make bench-gateway` runs
    python3 -m tools.bench gateway --streams 1,4 --requests 40 --changes 3  three minutes, to look
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.figures import Figure, quantile, tell
from lab import plane
from pilotboat.engine.api import load_configuration
from tests.integration.cluster import namespace_of
from tests.integration.gatewayproc import PORT, Gateway, addresses, gateway, replicas, serving
from tools.steps import StepFailed, step

STREAMS = (1, 4, 16, 64, 256)
STABLE, CANARY = "aaaa1111", "bbbb2222"
ADDED_MS = 1.0
THROUGHPUT = 0.95
TOKENS = 8
RATE = 100.0
"""Requests begun in a second where latency is measured: a third of what two cores can do with client, gateway and pod
on them. At full load it would be the queue for a core that is measured."""
SHORTEST = 0.1
"""Seconds that an answer then takes at least."""
SECONDS = 10.0
"""How long such a round lasts."""
LIMIT = 300.0


@dataclass(frozen=True)
class Load:
    """Requests at one number of streams."""

    header: list[float]
    """Milliseconds until each answer's header, that is its first token."""
    seconds: float
    """Until all of them were whole."""


async def load(url: str, streams: int, requests: int, lasting: float = 0) -> Load:
    """So many streamed answers, so many at once, each connection kept; each takes `lasting` seconds, and then they
    begin one after the other."""
    header: list[float] = []
    left = iter(range(requests))
    prompt = f"fake:tokens={TOKENS}" + (f" fake:delay={lasting / TOKENS:.4f}" if lasting else "")
    body = {"model": "chat", "messages": [{"role": "user", "content": prompt}], "stream": True}
    connector = aiohttp.TCPConnector(limit=streams)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=LIMIT)) as session:

        async def work(number: int) -> None:
            await asyncio.sleep(lasting * number / streams)
            for _ in left:
                began = time.perf_counter()
                async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                    header.append((time.perf_counter() - began) * 1000)
                    text = await response.read()
                    if response.status != 200 or not text.endswith(b"data: [DONE]\n\n"):
                        raise StepFailed(f"{url} answered {response.status}: {text[-200:]!r}")

        began = time.perf_counter()
        await asyncio.gather(*(work(number) for number in range(streams)))
        return Load(header, time.perf_counter() - began)


async def cost(made: Gateway, pod: str, streams: int, requests: int, rounds: int) -> list[Figure]:
    """Latency of answers that take their time, as a model's do, and how fast they come; then where they take none."""
    lasting = max(SHORTEST, streams / RATE)
    paced = round(SECONDS * streams / lasting)
    direct, through = await both(made, pod, streams, paced, rounds, lasting)
    full_direct, full_through = await both(made, pod, streams, requests, rounds)
    return [
        *(
            Figure(f"gateway-added-{label}-{streams}-streams", max(0.0, added), "ms", "budget", budget, 1)
            for label, share, budget in (("p50", 0.5, ADDED_MS), ("p99", 0.99, 5 * ADDED_MS))
            for added in (_latency(through, share) - _latency(direct, share),)
        ),
        *(
            Figure(
                f"gateway-seconds-a-thousand-{of}{streams}-streams",
                _seconds(slow, count),
                "s",
                "pod",
                _seconds(fast, count),
                1 / THROUGHPUT,
            )
            for of, fast, slow, count in (
                ("", full_direct, full_through, requests),
                ("lasting-answers-", direct, through, paced),
            )
        ),
    ]


async def both(
    made: Gateway, pod: str, streams: int, requests: int, rounds: int, lasting: float = 0
) -> tuple[list[Load], list[Load]]:
    """Straight and through the gateway, in turns, so that what else the machine does falls on both."""
    straight, through = [], []
    for _ in range(rounds):
        straight.append(await load(pod, streams, requests, lasting))
        through.append(await load(f"http://127.0.0.1:{made.port}", streams, requests, lasting))
    return straight, through


def _latency(loads: list[Load], share: float) -> float:
    return quantile([each for load in loads for each in load.header], share)


def _seconds(loads: list[Load], requests: int) -> float:
    return 1000 * sum(load.seconds for load in loads) / (requests * len(loads))


def memory(made: Gateway) -> Figure:
    """Of an idle gateway: agent, HAProxy's master and its worker, what they share counted once."""
    parents = {process.pid for process in made.processes.values()}
    kib = sum(_proportional(pid) for pid in parents | _children(parents))
    return Figure("gateway-idle-memory", kib / 1024, "MiB", "budget", 128, 1)


def _children(parents: set[int]) -> set[int]:
    stats = (path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat"))
    pids = (int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat"))
    return {pid for pid, fields in zip(pids, stats, strict=True) if int(fields[1]) in parents}


def _proportional(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


async def weight_changes(made: Gateway, count: int) -> Figure:
    """From the write of a route until a request meets it: the API server, its watch, the agent and HAProxy's map."""
    times = []
    for number in range(count):
        wanted = (STABLE, CANARY)[number % 2]
        began = time.perf_counter()
        await made.route(lanes={STABLE: 1000 * (wanted == STABLE), CANARY: 1000 * (wanted == CANARY)})
        times.append(await _until(lambda wanted=wanted: _answers(made, wanted), began))  # type: ignore[misc]
    return Figure("gateway-weight-change-p50", quantile(times, 0.5), "ms", "budget", 250, 1)


async def endpoint_changes(made: Gateway, net: str, count: int) -> Figure:
    """From the write of a slice that takes a lane's only replica away until requests go to another one."""
    times = []
    await made.route(lanes={STABLE: 1000, CANARY: 0})
    for number in range(count):
        here = f"{net}.{1 + number % 2}"
        began = time.perf_counter()
        await made.endpoints(STABLE, here)
        times.append(await _until(lambda here=here: _placed(made, here), began))  # type: ignore[misc]
    return Figure("gateway-endpoint-change-p50", quantile(times, 0.5), "ms", "budget", 250, 1)


async def _until(true: Callable[[], Awaitable[bool]], began: float) -> float:
    async with asyncio.timeout(LIMIT):
        while not await true():  # noqa: ASYNC110 -- other processes, which tell nobody here
            await asyncio.sleep(0.001)
    return (time.perf_counter() - began) * 1000


async def _answers(made: Gateway, revision: str) -> bool:
    return await made.one() == revision


async def _placed(made: Gateway, address: str) -> bool:
    return address in await made.active()


async def measure(kubeconfig: Path, folder: Path, options: argparse.Namespace) -> list[Figure]:
    """A gateway with two lanes of one replica each."""
    configuration = await load_configuration(str(kubeconfig))
    with addresses() as net, replicas(folder, [f"{net}.1", f"{net}.2"]):
        async with namespace_of(configuration, "bench") as cluster, gateway(cluster, kubeconfig) as made:
            for revision, number in ((STABLE, 1), (CANARY, 2)):
                await serving(f"{net}.{number}")
                await made.endpoints(revision, f"{net}.{number}")
            await made.route(lanes={STABLE: 1000, CANARY: 0}, server_limit=1024, slow_start="1s")
            await made.serves({STABLE: 1000})
            await made.ready()
            figures = [memory(made)]
            for streams in options.streams:
                with step(f"{streams} streams"):
                    pod, requests = f"http://{net}.1:{PORT}", max(options.requests, 2 * streams)
                    figures += await cost(made, pod, streams, requests, options.rounds)
            with step("Changes"):
                figures.append(await weight_changes(made, options.changes))
                figures.append(await endpoint_changes(made, net, options.changes))
            return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Start a control plane, measure, tell."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.bench gateway", description="What the gateway costs.")
    parser.add_argument("--streams", type=lambda text: [int(part) for part in text.split(",")], default=STREAMS)
    parser.add_argument(
        "--requests",
        type=int,
        default=1000,
        help="a round, at each number of streams, where throughput is measured",
    )
    parser.add_argument("--rounds", type=int, default=3, help="each way, in turns")
    parser.add_argument("--changes", type=int, default=50, help="of weights, and of endpoints")
    options = parser.parse_args(argv)
    try:
        kubeconfig = plane.start("bench-gateway", components=plane.API)
        with tempfile.TemporaryDirectory() as folder:
            figures = asyncio.run(measure(kubeconfig, Path(folder), options))
    except (StepFailed, TimeoutError, OSError) as failure:
        print(f"could not measure: {type(failure).__name__} {failure}", file=sys.stderr)
        return 1
    finally:
        plane.stop("bench-gateway")
    tell(*figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
