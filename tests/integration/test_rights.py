"""The chart grants what the operator uses and no more: what it asked for, by the audit log of an API server of its own.

It does here what has it ask in every way; of what it makes of the answers other tests speak.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from bench.audit import Log, Request
from lab import bench, crds
from lab import plane as planes
from lab.layout import Lab
from pilotboat.api import labels
from pilotboat.engine import apply, tls
from pilotboat.engine.api import Api, load_configuration
from pilotboat.engine.engine import utc
from pilotboat.engine.kinds import (
    CHILDREN,
    CONFIG_MAP,
    DAEMON_SET,
    DNS_ENDPOINT,
    FINE_TUNE_JOB,
    GATEWAY_PARTS,
    HTTP_ROUTE,
    JOB,
    MODEL_DEPLOYMENT,
    PARENTS,
    POD,
    SERVICE,
)
from pilotboat.engine.leader import Elector
from pilotboat.plan import external_dns, routes
from pilotboat.plan.types import Event
from tests.integration import gateway_api
from tests.integration.cluster import Cluster, namespace_of
from tests.integration.nameserver import primary
from tests.integration.running import Running, operator
from tests.integration.test_budgets import running_pod
from tests.integration.test_chart import ROOT, as_account, installed, rights
from tests.integration.test_foreign_route import lent_and_given_back
from tests.integration.test_gateway import gateway, kubelet, named, says, through_gateway
from tests.integration.test_http_route import by_route, rules
from tests.integration.test_lost_node import bound, job, trains
from tests.integration.test_progress import receiving
from tests.integration.test_reconcile import model_deployment
from tests.integration.test_region_operator import CRD, by_external_dns, key, shared

pytestmark = pytest.mark.plane
Raw = dict[str, Any]
LAB = f"rights-{os.getpid()}"
HOME = "rights"
USER = f"system:serviceaccount:{HOME}:pilotboat"
ALL = ("--set=dns.enabled=true", "--set=prometheus.tokens=true")
READ = ("get", "list", "watch")


class Right(NamedTuple):
    """What may be done; the namespace is empty where it may be done in all that are served."""

    namespace: str
    verb: str
    group: str
    resource: str


NEVER_SEEN = {
    # Nobody can grant what he may not do: the Role of a gateway's agent has these, and it is the agent that uses them.
    *(Right("", verb, "discovery.k8s.io", "endpointslices") for verb in READ),
    # Of an admission plugin that not every cluster has: it asks for them where an owner reference is written.
    *(Right("", "update", "pilotboat.dev", f"{kind.plural}/finalizers") for kind in PARENTS),
    # One of two gateways must be silent, and no gateway runs here: tests/unit/engine/test_gateway_watch.py.
    Right("", "patch", "", "pods"),
    # Of a node with a replica that no gateway reaches: test_chart.py has it asked for.
    Right("kube-node-lease", "get", "coordination.k8s.io", "leases"),
}
"""Granted, needed, and not used below."""


def granted() -> set[Right]:
    """By all rules of the chart."""
    found = [raw for raw in yaml.safe_load_all(rights(HOME, *ALL)) if raw and raw.get("rules")]
    return {
        Right(raw["metadata"].get("namespace", ""), verb, group, resource)
        for raw in found
        for rule in raw["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def used(requests: list[Request]) -> set[Right]:
    """An apply that makes its object is one request, and needs two rights. What is no resource anybody may look at."""
    found = set()
    for request in requests:
        namespace = request.namespace if request.namespace in (HOME, "kube-node-lease") else ""
        verbs = (request.verb, "create") if (request.verb, request.code) == ("patch", 201) else (request.verb,)
        found |= {Right(namespace, verb, request.group, request.resource) for verb in verbs if request.resource}
    return found


@pytest.fixture(scope="module")
def audited() -> Iterator[Path]:
    """A control plane that keeps a log of what the operator's account asks."""
    planes.stop(LAB)
    control = planes.on_loopback(Lab(LAB))
    planes.make_pki(control)
    try:
        bench.launch_api(control, [USER])
        planes.launch_all(control, ["kube-controller-manager"])
        kubeconfig = control.conf("admin")
        crds.apply(kubeconfig, [*sorted((ROOT / "crds").glob("*.yaml")), *gateway_api.definitions()])
        crds.apply(kubeconfig, text=yaml.safe_dump(CRD))
        yield kubeconfig
    finally:
        planes.stop(LAB)


@pytest.fixture(scope="module")
def account(audited: Path) -> Iterator[str]:
    yield from installed(audited, *ALL, home=HOME)


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing takes its time, and a parent is asked for before each child is made, however lately it was heard of."""
    monkeypatch.setattr(routes, "SEEN_BY", timedelta(0))
    monkeypatch.setattr(routes, "LEFT_BY", timedelta(0))
    monkeypatch.setattr(external_dns, "WITHDRAW", 0.0)
    monkeypatch.setattr(apply, "FRESH", -1.0)


async def test_what_the_chart_grants_is_what_the_operator_uses(audited: Path, account: str, tmp_path: Path) -> None:
    limited, log = await as_account(audited, account), Log(bench.audit_log(LAB))
    admin = await load_configuration(str(audited))
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(Api(limited))
        places = [await stack.enter_async_context(namespace_of(admin, f"work-{number}")) for number in range(7)]
        canary, cache, route, theirs, record, named_by, training = places
        async with operator(limited, *(place.namespace for place in places)) as running:
            await asyncio.gather(
                *(a_canary(canary), a_cache(cache), a_route(route), lent_and_given_back(theirs), a_record(record)),
                *(a_name(named_by, tmp_path), a_training(training, api), what_is_its_own(api)),
            )
            await says_again(running, canary)
        async with operator(limited, canary.namespace) as running:
            await says_again(running, canary)
    requests = log.since(USER)
    assert [request for request in requests if request.code == 403] == []
    have, need = granted(), used(requests)
    assert need - have == set(), "allowed by something else than the chart"
    assert have - need == NEVER_SEEN, "the chart grants what nothing uses, or something is used after all"


async def a_canary(cluster: Cluster) -> None:
    """By the namespace's gateway, which comes and goes; its children lose their labels and get them back."""
    await cluster.apply(through_gateway(replicas=1, rollout={"steps": [{"weight": 50}]}))
    await kubelet(cluster, "server", True, count=1)
    await kubelet(cluster, "gateway", True)
    await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "Ready", "True"))
    await unlabelled(cluster)
    await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"inference": {"batchSize": 2}}})
    await kubelet(cluster, "server", True, count=2)
    await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"traffic": "Direct", "rollout": None}})
    await cluster.until(CONFIG_MAP, lambda found: named(found, "chat-route") is None)
    await cluster.until(SERVICE, lambda found: len(found) == 1)
    for kind in GATEWAY_PARTS:
        await cluster.until(kind, lambda found: gateway(found) is None)


async def a_cache(cluster: Cluster) -> None:
    """With seeds, once a replica has fetched the model; they go with it."""
    asked = model_deployment(replicas=1)
    asked["spec"]["model"]["cache"] = {"type": "Node", "path": "/models", "seed": True}
    await cluster.apply(asked)
    (pod,) = await cluster.until(POD, lambda found: len(found) == 1)
    await cluster.apply(running_pod(pod), "kubelet", subresource="status")
    await cluster.until(DAEMON_SET, bool)
    await unlabelled(cluster)
    await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"model": {"cache": None}}})
    await cluster.until(DAEMON_SET, lambda found: not found)


async def a_route(cluster: Cluster) -> None:
    """Of a Gateway: made, changed, taken away."""
    await cluster.apply(by_route(replicas=0))
    await cluster.until(HTTP_ROUTE, rules)
    await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"routing": {"hostnames": ["talk.example"]}}})
    await cluster.until(HTTP_ROUTE, lambda found: found[0]["spec"]["hostnames"] == ["talk.example"])
    await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"traffic": "Direct", "routing": None}})
    await cluster.until(HTTP_ROUTE, lambda found: not found)


async def a_record(cluster: Cluster) -> None:
    """By external-dns: made, changed, taken away."""
    await cluster.apply(by_external_dns())
    await kubelet(cluster, "server", True, count=1)
    await cluster.until(DNS_ENDPOINT, bool)
    await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"zones": {"dns": {"targets": ["127.9.9.9"]}}}})
    await cluster.until(DNS_ENDPOINT, lambda found: "127.9.9.9" in str(found))
    await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"zones": None}})
    await cluster.until(DNS_ENDPOINT, lambda found: not found)


async def a_name(cluster: Cluster, folder: Path) -> None:
    """At a name server, with a key and a finalizer."""
    async with primary(folder) as server:
        await key(cluster, server.secret)
        parent = await cluster.apply(shared(server, "east", "127.1.0.1"))
        await kubelet(cluster, "server", True, count=1)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "True"))
        await cluster.delete(parent)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: not found)


async def a_training(cluster: Cluster, api: Api) -> None:
    """That tells how far it is, and loses its node."""
    await cluster.apply(job("qa"))
    (pod,) = await cluster.until(POD, lambda found: len(found) == 1)
    await unlabelled(cluster)
    (old,) = await cluster.list(JOB)
    await bound(cluster, pod, "node-that-is-cut-off")
    await trains(cluster, pod, ready=True)
    await cluster.until(FINE_TUNE_JOB, lambda found: "Training" in str(found))
    async with receiving(cluster, api) as trainer:
        assert (await trainer.post(await trainer.token(pod["metadata"]["name"])))[0] == 200
    await trains(cluster, pod, ready=False)
    await cluster.until(JOB, lambda found: bool(found) and found[0]["metadata"]["uid"] != old["metadata"]["uid"])


async def what_is_its_own(api: Api) -> None:
    """The Lease, and the certificate of the receiver: made, and renewed."""
    for now in (utc(), utc() + timedelta(days=tls.LEAF_DAYS)):
        await tls.ensure(api, HOME, "pilotboat-progress-tls", ("localhost",), now)
    elector = Elector(api, HOME, "pilotboat", "me")
    assert await elector.attempt()
    assert await elector.attempt()
    await elector.release()


async def says_again(running: Running, cluster: Cluster) -> None:
    """What is told again is looked up by an operator that has not told it."""
    (parent,) = await cluster.list(MODEL_DEPLOYMENT)
    running.engine.recorder.emit(parent, (Event("Normal", "Tested", "the same words"),))
    await running.idle()
    await running.engine.recorder.flushed()


async def unlabelled(cluster: Cluster) -> None:
    """No watch sees a child whose label somebody takes, and no other can have its name: it is asked for, and marked."""
    for kind in CHILDREN:
        for raw in await cluster.list(kind):
            name = raw["metadata"]["name"]
            if raw["metadata"].get("labels", {}).get(labels.MANAGED_BY) == labels.MANAGER:
                await cluster.merge(kind, name, {"metadata": {"labels": {labels.MANAGED_BY: None}}})
                await cluster.until(kind, lambda found, name=name: marked(named(found, name)))


def marked(raw: Raw | None) -> bool:
    return labels.MANAGED_BY in (raw or {"metadata": {}})["metadata"].get("labels", {})
