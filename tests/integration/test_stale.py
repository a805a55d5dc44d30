"""One pass over a parent of which our knowledge is old: nothing is made for what is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.engine.apply import FRESH, Applier
from pilotboat.engine.engine import utc
from pilotboat.engine.errors import Conflict
from pilotboat.engine.evidence import EvidencePoller
from pilotboat.engine.floods import Floods
from pilotboat.engine.gateways import key_of
from pilotboat.engine.kinds import CHILDREN, DEPLOYMENT, MODEL_DEPLOYMENT, POD, Key
from pilotboat.engine.lookup import Lookup
from pilotboat.engine.metrics import Metrics
from pilotboat.engine.newcomers import Newcomers
from pilotboat.engine.prometheus import Prometheus
from pilotboat.engine.reconcile import Reconciler
from pilotboat.engine.regions import Regions
from pilotboat.engine.store import Store
from pilotboat.plan import PLANNERS
from tests.integration.cluster import Cluster
from tests.integration.running import SETTINGS
from tests.integration.test_reconcile import model_deployment


@dataclass
class Parts:
    """A reconciler whose clock the test sets."""

    store: Store
    reconciler: Reconciler
    now: float = 0.0


@pytest.fixture
async def parts(cluster: Cluster) -> Parts:
    return made(cluster)


def made(cluster: Cluster) -> Parts:
    """One that knows nothing yet."""

    def clock() -> float:
        return parts.now

    store = Store(clock)

    def take(kind: object, raw: object) -> None:
        store.put(kind, raw)  # type: ignore[arg-type]

    evidence = EvidencePoller(store, lambda keys: None, Metrics().evidence_polls, utc)
    metrics = Metrics()
    prometheus = Prometheus(cluster.api, lambda keys: None, metrics.prometheus_queries, utc)
    regions = Regions(store, cluster.api, lambda keys: None, lambda parent, events: None, metrics.regions, utc)
    reconciler = Reconciler(
        store,
        Lookup(
            cluster.api,
            store,
            evidence,
            prometheus,
            regions,
            Newcomers(lambda keys: None, clock),
            Floods(lambda keys: None),
            clock,
        ),
        Applier(cluster.api, store, take, clock),
        PLANNERS,
        SETTINGS,
        lambda parent, events: None,
        lambda keys: None,
        utc,
    )
    parts = Parts(store, reconciler)
    return parts


async def owned(cluster: Cluster) -> list[str]:
    return [
        raw["metadata"]["name"]
        for kind in CHILDREN
        for raw in await cluster.list(kind)
        if raw["metadata"].get("ownerReferences")
    ]


async def states(cluster: Cluster) -> dict[str, tuple[Any, ...]]:
    """Of each child who it is and what it holds."""
    return {
        f"{raw['kind']} {raw['metadata']['name']}": (raw["metadata"]["uid"], raw.get("spec"), raw.get("data"))
        for kind in CHILDREN
        for raw in await cluster.list(kind)
        if raw["metadata"].get("ownerReferences")
    }


async def test_children_that_are_there_and_unknown_stay_as_they_are(cluster: Cluster, parts: Parts) -> None:
    """A list that is too old for them: no other Deployment is made, nor a pod more."""
    parent = await cluster.apply(model_deployment())
    key = Key("modeldeployments", cluster.namespace, "chat")
    parts.store.put(MODEL_DEPLOYMENT, parent)
    await parts.reconciler.reconcile(key)
    pods = await cluster.until(POD, lambda found: len(found) == 2)
    before = await states(cluster)
    other = made(cluster)
    other.store.put(MODEL_DEPLOYMENT, parent)
    await other.reconciler.reconcile(key)
    assert await states(cluster) == before
    assert len(other.store.children(parent)) == len(before) == 4, "and they are known from now on"
    assert [raw["metadata"]["uid"] for raw in await cluster.list(POD)] == [raw["metadata"]["uid"] for raw in pods]


async def test_one_that_is_there_unknown_and_otherwise_than_planned_is_planned_for_anew(
    cluster: Cluster, parts: Parts
) -> None:
    """What was planned was for a new one. It lacks our label, too, without which no watch tells of it."""
    parent = await cluster.apply(model_deployment())
    key = Key("modeldeployments", cluster.namespace, "chat")
    parts.store.put(MODEL_DEPLOYMENT, parent)
    await parts.reconciler.reconcile(key)
    (deployment,) = await cluster.list(DEPLOYMENT)
    name = deployment["metadata"]["name"]
    drift = {"metadata": {"labels": {labels.MANAGED_BY: None}}, "spec": {"replicas": 3}}
    uid = (await cluster.merge(DEPLOYMENT, name, drift))["metadata"]["uid"]
    other = made(cluster)
    other.store.put(MODEL_DEPLOYMENT, parent)
    with pytest.raises(Conflict):
        await other.reconciler.reconcile(key)
    met = await cluster.get(DEPLOYMENT, name)
    assert (met["spec"]["replicas"], met["metadata"]["labels"][labels.MANAGED_BY]) == (3, labels.MANAGER)
    await other.reconciler.reconcile(key)
    (deployment,) = await cluster.list(DEPLOYMENT)
    assert (deployment["metadata"]["uid"], deployment["spec"]["replicas"]) == (uid, 2)


async def test_one_that_is_gone_gets_no_children(cluster: Cluster, parts: Parts) -> None:
    old = await cluster.apply(model_deployment())
    parts.store.put(MODEL_DEPLOYMENT, old)
    await cluster.delete(old)
    parts.now += FRESH + 1
    key = Key("modeldeployments", cluster.namespace, "chat")
    await parts.reconciler.reconcile(key)
    assert await owned(cluster) == []
    assert parts.store.parent(key) is None


async def test_the_former_one_of_a_name_gets_no_children_and_the_new_one_does(cluster: Cluster, parts: Parts) -> None:
    old = await cluster.apply(model_deployment())
    parts.store.put(MODEL_DEPLOYMENT, old)
    await cluster.delete(old)
    new = await cluster.apply(model_deployment())
    parts.now += FRESH + 1
    key = Key("modeldeployments", cluster.namespace, "chat")
    await parts.reconciler.reconcile(key)
    assert await owned(cluster) == []
    parts.store.put(MODEL_DEPLOYMENT, new)
    await parts.reconciler.reconcile(key)
    assert len(await owned(cluster)) == 4


async def test_a_gateway_whose_last_user_is_gone_is_not_made(cluster: Cluster, parts: Parts) -> None:
    old = await cluster.apply({**model_deployment(), "spec": {**model_deployment()["spec"], "traffic": "Gateway"}})
    parts.store.put(MODEL_DEPLOYMENT, old)
    await cluster.delete(old)
    parts.now += FRESH + 1
    await parts.reconciler.reconcile(key_of(cluster.namespace))
    assert await owned(cluster) == []
    assert list(parts.store.gateways.keys()) == []


async def test_one_that_is_being_deleted_gets_nothing(cluster: Cluster, parts: Parts) -> None:
    held = model_deployment()
    held["metadata"]["finalizers"] = ["example.org/hold"]
    raw = await cluster.apply(held)
    await cluster.delete(raw)
    raw = await cluster.get(MODEL_DEPLOYMENT, "chat")
    parts.store.put(MODEL_DEPLOYMENT, raw)
    await parts.reconciler.reconcile(Key("modeldeployments", cluster.namespace, "chat"))
    assert await owned(cluster) == []
    after = await cluster.get(MODEL_DEPLOYMENT, "chat")
    assert "status" not in after
