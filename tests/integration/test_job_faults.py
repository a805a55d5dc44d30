"""An operator killed at any write of a FineTuneJob's life: made, suspended, resumed, complete. Always the same end.

API server and Job controller are real; the kubelet is ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from pilotboat.engine.api import load_configuration
from pilotboat.engine.kinds import FINE_TUNE_JOB, JOB, POD
from pilotboat.plan.build import dig
from tests.integration.cluster import PATIENCE, Cluster, namespace_of
from tests.integration.faults import changes, done, killed_after
from tests.integration.proxy import Call, Faults, Proxy
from tests.integration.running import operator
from tests.integration.test_lost_node import job, says
from tests.unit.plan.test_finetune import GOOD
from tests.unit.plan.world import ended

Raw = dict[str, Any]
End = tuple[Raw, list[str]]
CHAPTERS = {"made": 5, "suspended": 2, "resumed": 2, "complete": 1}
"""Of a job's life, in order, and how many writes each takes at least: children, Job and status."""


async def live(cluster: Cluster) -> AsyncIterator[None]:
    """What user, Job controller and kubelet make of a job; each chapter ends once the operator has told of it."""
    await cluster.apply(job("qa"))
    await told(cluster, 1)
    yield
    await cluster.merge(FINE_TUNE_JOB, "qa", {"spec": {"suspend": True}})
    await cluster.until(FINE_TUNE_JOB, says("Suspended", "Suspended"))
    await cluster.until(POD, lambda found: not found)
    await told(cluster, 1, reason="PodDeleted")
    yield
    await cluster.merge(FINE_TUNE_JOB, "qa", {"spec": {"suspend": False}})
    pod = await told(cluster, 2)
    yield
    await trained(cluster, pod)
    await cluster.until(FINE_TUNE_JOB, says("Complete", "Trained"))


async def end(life: AsyncIterator[None], cluster: Cluster) -> Raw:
    """What there is at the end of a life."""
    async for _ in life:
        pass
    return await cluster.shape()


async def told(cluster: Cluster, number: int, reason: str | None = None) -> str:
    """The name of the newest pod, once status tells of so many, and of the newest why it ended."""

    def newest(found: list[Raw]) -> Raw:
        attempts = dig(found[0], "status", "attempts") or [] if found else []
        return attempts[-1] if len(attempts) == number else {"reason": "not told"}

    found = await cluster.until(FINE_TUNE_JOB, lambda found: newest(found).get("reason") == reason)
    return str(newest(found)["pod"])


async def trained(cluster: Cluster, pod: str) -> None:
    """What kubelet says of a pod whose trainer ended well."""
    state = {"ready": False, "restartCount": 0, "image": "i", "imageID": ""}
    over = {"terminated": ended(0, "Completed", GOOD)}
    status = {"phase": "Succeeded", "containerStatuses": [{"name": "trainer", **state, "state": over}]}
    raw = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "status": status}
    await cluster.apply(raw, "kubelet", subresource="status")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def undisturbed(plane: Path) -> End:
    """The end of a life without faults, and what was created and deleted in it."""
    configuration = await load_configuration(str(plane))
    async with (
        namespace_of(configuration, "undisturbed") as cluster,
        Proxy(configuration) as proxy,
        operator(proxy.configuration, cluster.namespace),
    ):
        return await end(live(cluster), cluster), changes(proxy)


@pytest.mark.parametrize(
    ("chapter", "last"), [(name, last + 1) for name, writes in CHAPTERS.items() for last in range(writes)]
)
async def test_killed_after_any_write_the_next_one_ends_where_an_undisturbed_run_does(
    cluster: Cluster, proxy: Proxy, undisturbed: End, chapter: str, last: int
) -> None:
    life = live(cluster)
    async with operator(proxy.configuration, cluster.namespace) as before:
        for _ in range(list(CHAPTERS).index(chapter)):
            await anext(life)
        await before.idle()
    rest = asyncio.create_task(end(life, cluster))
    await killed_after(proxy, cluster.namespace, done(proxy) + last, answered=False)
    async with operator(proxy.configuration, cluster.namespace) as second:
        assert (await rest, changes(proxy)) == undisturbed
        assert second.value("reconciles_total", result="error") == 0


async def test_that_a_job_is_complete_is_never_told_of_one_made_anew_under_its_name(
    cluster: Cluster, proxy: Proxy
) -> None:
    """The old one's last status is on its way while somebody deletes it and makes it again."""
    under_way, replaced = asyncio.Event(), asyncio.Event()

    async def hold(call: Call) -> web.Response | None:
        if call.path.endswith("/finetunejobs/qa/status") and dig(await cluster.get(JOB, "qa"), "status", "conditions"):
            under_way.set()
            await replaced.wait()
        return None

    async with operator(proxy.configuration, cluster.namespace) as running:
        old = await cluster.apply(job("qa"))
        pod = await told(cluster, 1)
        await running.idle()
        proxy.faults.before = hold
        await trained(cluster, pod)
        async with asyncio.timeout(PATIENCE):
            await under_way.wait()
        await cluster.delete(old)
        await cluster.until(FINE_TUNE_JOB, lambda found: not found)
        await cluster.apply(job("qa"))
        proxy.faults = Faults()
        replaced.set()
        found = await cluster.until(FINE_TUNE_JOB, lambda found: bool(dig(found[0], "status", "conditions")))
        assert not says("Complete", "Trained")(found)
