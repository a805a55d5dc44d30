"""Creations that are done and not answered: the operator that asked for them lives on, and makes nothing twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from aiohttp import web

from pilotboat.engine.kinds import CHILDREN, MODEL_DEPLOYMENT, POD
from tests.integration.cluster import Cluster
from tests.integration.proxy import Call, Proxy, status
from tests.integration.running import Running, operator
from tests.integration.test_gateway import rest, through_gateway
from tests.integration.test_reconcile import model_deployment

Raw = dict[str, Any]
MADE = {kind.kind for kind in CHILDREN}
CASES = {"Direct": (model_deployment(), 4, 2), "Gateway": (through_gateway(), 11, 4)}
"""Parents, how many children they have, the gateway's among them, and how many pods."""


class Lost:
    """The answer to the first creation of each object, in place of which 504 is heard."""

    def __init__(self) -> None:
        self.paths: set[str] = set()

    async def __call__(self, call: Call) -> web.Response | None:
        if not call.write or call.code != 201 or call.path in self.paths:
            return None
        self.paths.add(call.path)
        return status(504, "the server was unable to return a response in the time allotted")


async def settled(cluster: Cluster, running: Running, manifest: Raw, pods: int) -> Raw:
    """The end state."""
    await cluster.apply(manifest)
    await rest(cluster, running, pods)
    return await cluster.shape()


async def clean(cluster: Cluster, manifest: Raw, pods: int) -> Raw:
    """The end state of a run in which every answer comes."""
    async with operator(cluster.configuration, cluster.namespace) as running:
        end = await settled(cluster, running, manifest, pods)
        for parent in await cluster.list(MODEL_DEPLOYMENT):
            await cluster.delete(parent)
        for kind in (*CHILDREN, POD):
            await cluster.until(
                kind, lambda found: not [raw for raw in found if raw["metadata"].get("ownerReferences")]
            )
    return end


def watched(proxy: Proxy) -> bool:
    """Whether all kinds of children have been listed, and what is new is told by watches."""
    open_ = {call.path.rpartition("/")[2] for call in proxy.calls if call.watch}
    return {kind.plural for kind in CHILDREN} <= open_


@pytest.mark.parametrize("heard", [True, False], ids=["a watch tells of it", "nobody tells of it"])
@pytest.mark.parametrize("case", CASES)
async def test_a_creation_that_timed_out_and_succeeded_is_not_made_again(
    cluster: Cluster, proxy: Proxy, case: str, heard: bool
) -> None:
    manifest, children, pods = CASES[case]
    expected = await clean(cluster, manifest, pods)
    proxy.faults.after = lost = Lost()
    if not heard:
        proxy.faults.passes = lambda kind, event: kind not in MADE or event["type"] != "ADDED"
    async with operator(proxy.configuration, cluster.namespace) as running:
        await running.until(lambda: watched(proxy))
        assert await settled(cluster, running, manifest, pods) == expected
        assert running.value("reconciles_total", result="error") == 0
        assert running.value("reconciles_total", result="refused") == 0
        assert running.value("reconciles_total", result="retried") == children
    created = Counter(call.path for call in proxy.writes if call.code == 201)
    assert created == dict.fromkeys(lost.paths, 1)
    assert len(created) == children
    met = {call.path for call in proxy.writes if call.code == 409}
    assert heard or {path for path in created if "/configmaps/" in path} <= met, "as one that is there already"
