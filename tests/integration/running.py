"""The operator's leader inside the test's own process: engine and watches, without Lease and ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from kubernetes.aio import client

from pilotboat import wiring
from pilotboat.engine.api import Api
from pilotboat.engine.engine import Engine
from pilotboat.engine.metrics import Metrics
from pilotboat.plan import PLANNERS
from pilotboat.plan.types import Planner, PlanSettings
from tests.integration.cluster import PATIENCE

SETTINGS = PlanSettings(
    server_image="server:test",
    trainer_image="trainer:test",
    fetch_image="fetch:test",
    gateway_image="gateway:test",
    image_pull_policy="IfNotPresent",
    image_pull_secrets=(),
    hub_endpoint=None,
    progress_url="https://localhost:8443",
    progress_ca="-----BEGIN CERTIFICATE-----\n",
)


class Running:
    """A leader at work."""

    killed = 0
    """How many have been. With each of them kopf ends what belongs to any kopf of this loop that began before."""

    def __init__(self, engine: Engine, metrics: Metrics, tasks: list[asyncio.Task[None]]) -> None:
        self.engine = engine
        self.metrics = metrics
        self._tasks = tasks

    async def kill(self) -> None:
        """End at once: no request is finished, nothing is tidied up."""
        Running.killed += 1
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def idle(self) -> None:
        """Until no parent waits or is worked on."""
        queue = self.engine.queue
        await self.until(lambda: not len(queue) and not queue.busy)

    async def until(self, true: Callable[[], bool]) -> None:
        """Until something is true in this process."""
        async with asyncio.timeout(PATIENCE):
            while not true():  # noqa: ASYNC110 -- there is no event for it
                await asyncio.sleep(0.01)

    def value(self, name: str, **labels: str) -> float:
        """A metric, summed over the labels not given."""
        return sum(
            sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"pilotboat_{name}" and labels.items() <= sample.labels.items()
        )


@asynccontextmanager
async def operator(
    configuration: client.Configuration,
    *namespaces: str,
    planners: Mapping[str, Planner] = PLANNERS,
    resync: float = 300,
    silence: float = 70,
) -> AsyncIterator[Running]:
    """Runs while the block does."""
    metrics = Metrics()
    async with Api(configuration, observe=metrics.observe_request) as api:
        engine = Engine(api, planners, SETTINGS, metrics, namespaces=namespaces, resync=resync)
        tasks = [
            asyncio.create_task(engine.run()),
            asyncio.create_task(wiring.watch(engine, api, namespaces, silence)),
        ]
        running, before = Running(engine, metrics, tasks), Running.killed
        try:
            yield running
        finally:
            beside = Running.killed > before
            await running.kill()
            for task in tasks:
                error = None if task.cancelled() else task.exception()
                if error and not (beside and isinstance(error, RuntimeError)):
                    raise error
