"""Whose a child is, where its ownerReference does not say so any more, or names a parent of before."""

from __future__ import annotations

from typing import Any

from pilotboat.engine.engine import utc
from pilotboat.engine.kinds import CONFIG_MAP, DEPLOYMENT, MODEL_DEPLOYMENT, PDB, SERVICE
from pilotboat.plan import build
from tests.integration.cluster import Cluster, ours
from tests.integration.proxy import Proxy
from tests.integration.running import operator
from tests.integration.test_reconcile import DISOWNED, model_deployment, reported, settled

Raw = dict[str, Any]


def owner(raw: Raw) -> str | None:
    """The uid of its one owner, if it has one."""
    found = raw["metadata"].get("ownerReferences") or []
    assert len(found) <= 1
    return str(found[0]["uid"]) if found else None


async def children(cluster: Cluster) -> dict[str, str | None]:
    """What the operator made, by uid, and its owner."""
    found = [raw for kind in (CONFIG_MAP, DEPLOYMENT, PDB, SERVICE) for raw in await cluster.list(kind)]
    return {raw["metadata"]["uid"]: owner(raw) for raw in found if ours(raw)}


async def test_children_that_are_left_on_purpose_are_left_alone(cluster: Cluster, proxy: Proxy) -> None:
    """The garbage collector takes their owner off them, one by one, of which the operator hears first."""

    def told(raw: Raw | None) -> bool:
        return raw is None or "deletionTimestamp" in raw["metadata"]

    async with operator(proxy.configuration, cluster.namespace) as running:
        parent = await cluster.apply(model_deployment())
        await settled(cluster, running)
        before = await children(cluster)
        proxy.faults.passes = lambda kind, event: kind != MODEL_DEPLOYMENT.kind
        await cluster.orphan(parent)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: not found)
        store = running.engine.store
        await running.until(lambda: all(told(store.parent(key)) for key in store.parents()))
        await running.idle()
        assert await children(cluster) == dict.fromkeys(before)
        assert running.value("reconciles_total", result="error") == 0


async def test_what_an_earlier_one_of_the_name_left_is_not_taken(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace) as running:
        parent = await cluster.apply(model_deployment())
        await settled(cluster, running)
    before = await cluster.merge(SERVICE, "chat", DISOWNED)
    await cluster.delete(parent)
    await cluster.until(DEPLOYMENT, lambda found: not found)
    async with operator(cluster.configuration, cluster.namespace) as running:
        made = before["metadata"]["creationTimestamp"]
        await running.until(lambda: build.elapsed(made, utc()) >= 1)  # whole seconds are all that creation times have
        await cluster.apply(model_deployment())
        (parent,) = await cluster.until(
            MODEL_DEPLOYMENT, lambda found: found and "NameTaken" in str(found[0].get("status"))
        )
        assert "Service chat exists and is ours by its marks, but has lost its owner" in str(parent["status"])
        after = await cluster.get(SERVICE, "chat")
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        await cluster.delete(after)
        await cluster.until(SERVICE, lambda found: [owner(raw) for raw in found] == [parent["metadata"]["uid"]])


async def test_a_child_that_names_an_owner_of_before_is_collected_and_made_anew(cluster: Cluster) -> None:
    """As one that was restored from a backup: Kubernetes deletes what has no owner of that uid."""
    async with operator(cluster.configuration, cluster.namespace) as running:
        parent = await cluster.apply(model_deployment())
        await settled(cluster, running)
        child = await cluster.get(SERVICE, "chat")
        (known,) = child["metadata"]["ownerReferences"]
        old = known | {"uid": "0d9a1c46-0000-4000-8000-000000000000"}
        await cluster.merge(SERVICE, "chat", {"metadata": {"ownerReferences": [old]}})
        (made,) = await cluster.until(
            SERVICE, lambda found: [owner(raw) for raw in found] == [parent["metadata"]["uid"]]
        )
        assert made["metadata"]["uid"] != child["metadata"]["uid"]
        await cluster.until(MODEL_DEPLOYMENT, lambda found: reported(found) and "NameTaken" not in str(found))
