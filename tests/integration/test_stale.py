"""One pass over a parent of which our knowledge is old: nothing is made for what is gone."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pilotboat.engine.apply import FRESH, Applier
from pilotboat.engine.engine import utc
from pilotboat.engine.evidence import EvidencePoller
from pilotboat.engine.floods import Floods
from pilotboat.engine.gateways import key_of
from pilotboat.engine.kinds import CHILDREN, MODEL_DEPLOYMENT, Key
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
