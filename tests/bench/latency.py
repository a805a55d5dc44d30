"""How long until a change of a custom resource has reached its Deployment: one at a time, nothing else going on.

Owns: that measurement. Must not know: how many resources there are and how they came about.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from bench import objects
from bench.audit import writes
from bench.figures import Figure, quantile
from bench.load import Load, Raw, ready
from bench.process import Operator, Samples
from bench.world import OPERATOR, World

HISTOGRAM = "wake_to_done_seconds"
CHILDREN = 6
"""Deployment, with a ConfigMap and a Service of its own; Service, route and PodDisruptionBudget."""
PLAIN = "plain"
LIMIT = 60.0
"""Seconds after which a change counts as lost."""


@dataclass(frozen=True)
class Latency:
    """Seconds from a patch until the Deployment is seen changed."""

    ours: list[float]
    plain: list[float]
    """The Deployment itself patched, by the same client with the same watch."""
    wake_p50: float
    """From the first wake-up of a parent to the end of its pass, by the operator's own histogram."""
    wake_p99: float
    writes: float
    """The operator's, for each resource scaled from one replica to two."""

    def figures(self) -> list[Figure]:
        """Three hops instead of one: the patch, the operator's watch, its own patch."""
        made = [
            Figure(
                f"change-to-child-{label}",
                quantile(self.ours, share) * 1000,
                "ms",
                "own-patch",
                quantile(self.plain, share) * 1000,
                4,
            )
            for label, share in (("p50", 0.5), ("p99", 0.99))
        ]
        return [
            *made,
            Figure("wake-to-done-p50", self.wake_p50 * 1000, "ms", "budget", 100, 1),
            Figure("wake-to-done-p99", self.wake_p99 * 1000, "ms", "budget", 1000, 1),
            # Two transitions: scaled (children and status), and ready (status).
            Figure("writes-scaled-to-ready", self.writes, "", "budget", CHILDREN + 2, 1),
        ]


class _Seen:
    """The replicas every Deployment asks for, as a watch tells."""

    def __init__(self) -> None:
        self._asked: dict[str, int] = {}
        self._changed = asyncio.Condition()

    async def follow(self, changes: AsyncIterator[Raw]) -> None:
        async for raw in changes:
            async with self._changed:
                self._asked[raw["metadata"]["name"]] = raw["spec"]["replicas"]
                self._changed.notify_all()

    async def until(self, prefix: str, replicas: int) -> None:
        """Until the one Deployment whose name begins so asks for so many."""
        async with asyncio.timeout(LIMIT), self._changed:
            await self._changed.wait_for(
                lambda: any(count == replicas and name.startswith(prefix) for name, count in self._asked.items())
            )


async def latency(there: World, running: Operator, count: int) -> Latency:
    """Scale so many resources from one replica to two, each followed by the same to a plain Deployment."""
    before = running.samples()
    there.requests.mark()
    async with Load.connect(there.client) as load:
        seen = _Seen()
        following = asyncio.create_task(seen.follow(load.changes("Deployment", objects.NAMESPACE)))
        await load.create([_plain_deployment()])
        await seen.until(PLAIN, 0)
        ours, plain = [], []
        for number in range(count):
            name = objects.name(number)
            ours.append(await _until_seen(load, seen, "ModelDeployment", name, f"{name}-", 2))
            plain.append(await _until_seen(load, seen, "Deployment", PLAIN, PLAIN, (number + 1) % 2))
        names = {objects.name(number) for number in range(count)}
        await load.until_all(
            "ModelDeployment", objects.NAMESPACE, count, lambda raw: raw["metadata"]["name"] in names and ready(raw)
        )
        following.cancel()
    await asyncio.sleep(2)  # the pass after the last one finds nothing to do
    wrote = writes(there.requests.since(OPERATOR)) / count
    after = running.samples()
    return Latency(ours, plain, histogram(before, after, 0.5), histogram(before, after, 0.99), wrote)


async def _until_seen(load: Load, seen: _Seen, kind: str, name: str, prefix: str, replicas: int) -> float:
    began = time.monotonic()
    await load.merge(kind, objects.NAMESPACE, name, {"spec": {"replicas": replicas}})
    await seen.until(prefix, replicas)
    return time.monotonic() - began


def _plain_deployment() -> Raw:
    """A Deployment of the same shape that nobody but the client writes to."""
    deployment = next(raw for raw in objects.children(0) if raw["kind"] == "Deployment")
    labels = {"app": PLAIN}
    template = {**deployment["spec"]["template"], "metadata": {"labels": labels}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {**deployment, "metadata": {"name": PLAIN, "namespace": objects.NAMESPACE}, "spec": spec}


def histogram(before: Samples, after: Samples, share: float) -> float:
    """A quantile of what was observed between two looks, interpolated within its bucket as Prometheus does."""
    bounds = sorted({float(value) for name, has in after for key, value in has if _bucket(name) and key == "le"})
    counts = [_count(after, bound) - _count(before, bound) for bound in bounds]
    wanted, low, below = share * counts[-1], 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=True):
        if count >= wanted:
            inside = (wanted - below) / (count - below) if count > below else 0.0
            return low if bound == float("inf") else low + (bound - low) * inside
        low, below = bound, count
    return low


def _bucket(name: str) -> bool:
    return name == f"pilotboat_{HISTOGRAM}_bucket"


def _count(samples: Samples, bound: float) -> float:
    return sum(
        value
        for (name, has), value in samples.items()
        if _bucket(name) and any(key == "le" and float(text) == bound for key, text in has)
    )
