"""A namespace's gateway on a real API server: it comes with the first user, takes traffic when it can, goes."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.engine.gateways import OWNERS
from pilotboat.engine.kinds import (
    CHILDREN,
    CONFIG_MAP,
    DEPLOYMENT,
    GATEWAY_PARTS,
    MODEL_DEPLOYMENT,
    PDB,
    POD,
    ROLE,
    ROLE_BINDING,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from pilotboat.plan import ports, routes
from tests.integration.cluster import Cluster, ours
from tests.integration.faults import changes, killed_after
from tests.integration.proxy import Proxy
from tests.integration.running import Running, operator
from tests.integration.test_reconcile import DISOWNED, model_deployment, repaired, reported

Raw = dict[str, Any]
AT_GATEWAY = {labels.INSTANCE: labels.GATEWAY, labels.COMPONENT: "gateway", labels.SERVING: "true"}


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What gives gateways and nodes time to hear of a change: there are none here."""
    monkeypatch.setattr(routes, "SEEN_BY", timedelta(0))
    monkeypatch.setattr(routes, "LEFT_BY", timedelta(seconds=1))


def through_gateway(name: str = "chat", **spec: Any) -> Raw:
    return model_deployment(name, traffic="Gateway", **spec)


def named(found: list[Raw], name: str) -> Raw | None:
    return next((raw for raw in found if raw["metadata"]["name"] == name), None)


def gateway(found: list[Raw]) -> Raw | None:
    return named(found, labels.GATEWAY)


def pointed(found: list[Raw], name: str = "chat") -> bool:
    """Whether the Service sends its requests to its port of the gateway."""
    service = named(found, name)
    if not service or service["spec"]["selector"] != AT_GATEWAY:
        return False
    return str(service["spec"]["ports"][0]["targetPort"]) == service["metadata"]["labels"][labels.GATEWAY_PORT]


def direct(found: list[Raw], name: str = "chat") -> bool:
    service = named(found, name)
    return bool(service and service["spec"]["selector"] == routes.selector(name))


def says(found: list[Raw], condition: str, status: str, reason: str = "", name: str = "chat") -> bool:
    parent = named(found, name) or {}
    told = {c["type"]: c for c in (parent.get("status") or {}).get("conditions") or ()}
    return condition in told and told[condition]["status"] == status and reason in ("", told[condition]["reason"])


async def kubelet(
    cluster: Cluster, component: str, ready: bool, count: int = 2, address: str = "127.0.0.1", first: int | None = None
) -> None:
    """Says of the pods of a component, or of the first so many, that they serve, or do not any more."""

    def mine(found: list[Raw]) -> list[Raw]:
        return [raw for raw in found if raw["metadata"]["labels"][labels.COMPONENT] == component]

    for pod in mine(await cluster.until(POD, lambda found: len(mine(found)) == count))[:first]:
        told = {"type": "Ready", "status": str(ready), "lastTransitionTime": pod["metadata"]["creationTimestamp"]}
        status = {"phase": "Running", "conditions": [told], "podIP": address, "podIPs": [{"ip": address}]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod["metadata"]["name"]}, "status": status}
        await cluster.apply(body, "kubelet", subresource="status")


async def rest(cluster: Cluster, running: Running, pods: int) -> None:
    """Whole and told, and nothing more to do."""
    found = await cluster.until(POD, lambda found: len(found) == pods)
    await cluster.until(MODEL_DEPLOYMENT, reported)
    await running.until(lambda: running.engine.store.count(POD) == len(found))
    await running.idle()


async def test_traffic_moves_to_the_gateway_once_it_is_up_and_stays(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(through_gateway())
        await cluster.until(SERVICE, direct)
        await kubelet(cluster, "server", True)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "Available", "True"))
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "Ready", "False", "GatewayStarting"))
        await kubelet(cluster, "gateway", True)
        await cluster.until(SERVICE, pointed)
        for condition, reason in (("GatewayReady", "Routed"), ("Ready", "RolledOut")):
            await cluster.until(MODEL_DEPLOYMENT, lambda found, c=condition, r=reason: says(found, c, "True", r))
        await kubelet(cluster, "gateway", False)
        for condition in ("GatewayReady", "Available", "Ready"):
            await cluster.until(
                MODEL_DEPLOYMENT, lambda found, c=condition: says(found, c, "False", "GatewayUnavailable")
            )
        assert pointed(await cluster.list(SERVICE))


async def test_the_route_names_a_service_whose_endpoints_are_the_revisions(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(through_gateway(routing={"sticky": {"header": "X-User"}}))
        found = await cluster.until(CONFIG_MAP, lambda found: named(found, "chat-route"))
        route = named(found, "chat-route")
        assert route
        assert route["metadata"]["labels"][labels.COMPONENT] == "gateway"
        (owner,) = route["metadata"]["ownerReferences"]
        assert (owner["name"], owner["controller"]) == ("chat", True)
        told = json.loads(route["data"]["route.json"])
        assert (told["deployment"], told["sticky"]) == ("chat", {"header": "X-User"})
        (lane,) = told["lanes"]
        services = await cluster.until(SERVICE, lambda found: named(found, lane["service"]))
        headless = named(services, lane["service"])
        assert headless
        assert headless["spec"]["clusterIP"] == "None"
        assert headless["spec"]["selector"][labels.REVISION] == lane["revision"]


async def test_it_comes_with_the_first_and_goes_with_the_last(cluster: Cluster) -> None:
    names = ("one", "two", "three")

    async def owned_by(expected: set[str]) -> None:
        for kind in GATEWAY_PARTS:
            await cluster.until(kind, lambda found: owners(gateway(found)) == expected)

    async with operator(cluster.configuration, cluster.namespace) as running:
        made = [await cluster.apply(through_gateway(name, replicas=0)) for name in names]
        await owned_by(set(names))
        await cluster.delete(made[0])
        await owned_by({"two", "three"})
        for last in made[1:]:
            await cluster.delete(last)
        for kind in GATEWAY_PARTS:
            await cluster.until(kind, lambda found: gateway(found) is None)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: not found)
        await running.until(lambda: not list(running.engine.store.gateways.keys()))
        await running.idle()
        assert gateway(await cluster.list(DEPLOYMENT)) is None
        assert running.value("reconciles_total", result="error") == 0


def owners(raw: Raw | None) -> set[str]:
    found = (raw or {}).get("metadata", {}).get("ownerReferences") or ()
    assert not any(owner.get("controller") for owner in found)
    return {owner["name"] for owner in found}


async def test_without_an_operator_the_garbage_collector_ends_it(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace) as running:
        parent = await cluster.apply(through_gateway(replicas=0))
        for kind in GATEWAY_PARTS:
            await cluster.until(kind, lambda found: gateway(found))
        await running.idle()
    await cluster.delete(parent)
    for kind in GATEWAY_PARTS:
        await cluster.until(kind, lambda found: gateway(found) is None)
    async with operator(cluster.configuration, cluster.namespace) as running:
        await running.until(lambda: running.engine.health.working)
        await running.idle()
        assert gateway(await cluster.list(DEPLOYMENT)) is None


async def test_who_turns_to_direct_is_served_at_once_and_the_gateway_goes_after_it(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(through_gateway())
        await kubelet(cluster, "gateway", True)
        await cluster.until(SERVICE, pointed)
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"traffic": "Direct"}})
        await cluster.until(SERVICE, direct)
        await cluster.until(CONFIG_MAP, lambda found: named(found, "chat-route") is None)
        for kind in GATEWAY_PARTS:
            await cluster.until(kind, lambda found: gateway(found) is None)
        services = await cluster.until(SERVICE, lambda found: len(found) == 1)
        assert labels.GATEWAY_PORT not in services[0]["metadata"]["labels"]
        await cluster.until(
            MODEL_DEPLOYMENT, lambda found: "GatewayReady" not in str(found[0]["status"]) and reported(found)
        )


def colliding(namespace: str) -> Iterator[str]:
    """Names whose hash comes to the same port, two by two."""
    seen: dict[int, str] = {}
    for number in count():
        name = f"m{number}"
        port = ports.preferred(namespace, name)
        if port in seen:
            yield from (seen.pop(port), name)
        else:
            seen[port] = name


async def test_two_that_hash_to_one_port_get_two_and_a_forced_collision_is_resolved(cluster: Cluster) -> None:
    names = colliding(cluster.namespace)
    chosen = [next(names) for _ in range(6)]

    def port_of(found: list[Raw]) -> dict[str, str]:
        mains = [raw for raw in found if raw["metadata"]["name"] in chosen]
        return {raw["metadata"]["name"]: raw["metadata"]["labels"].get(labels.GATEWAY_PORT, "") for raw in mains}

    def apart(found: list[Raw]) -> bool:
        return len(set(port_of(found).values())) == len(chosen)

    async with operator(cluster.configuration, cluster.namespace) as running:
        for name in chosen:
            await cluster.apply(through_gateway(name, replicas=0))
        before = port_of(await cluster.until(SERVICE, apart))
        await running.idle()
        first, second = chosen[:2]
        await cluster.merge(SERVICE, second, {"metadata": {"labels": {labels.GATEWAY_PORT: before[first]}}})
        await cluster.until(SERVICE, apart)
        await running.idle()
        after = port_of(await cluster.list(SERVICE))
        assert len(set(after.values())) == len(chosen)
        for name in chosen:
            route = await cluster.get(CONFIG_MAP, f"{name}-route")
            assert str(json.loads(route["data"]["route.json"])["port"]) == after[name]


@pytest.mark.parametrize("marked", [True, False], ids=["with our label", "without"])
async def test_a_foreign_object_of_its_name_is_told_and_left(cluster: Cluster, marked: bool) -> None:
    marks = {labels.MANAGED_BY: labels.MANAGER} if marked else {}
    meta = {"name": labels.GATEWAY, "labels": marks}
    theirs = await cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    async with operator(cluster.configuration, cluster.namespace) as running:
        await cluster.apply(through_gateway())
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "GatewayReady", "False", "NameTaken"))
        await cluster.until(SERVICE, direct)
        found = await cluster.get(SERVICE_ACCOUNT, labels.GATEWAY)
        assert found["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]
        await cluster.delete(theirs)
        await cluster.until(SERVICE_ACCOUNT, lambda found: owners(gateway(found)) == {"chat"})
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "GatewayReady", "False", "GatewayStarting"))
        assert running.value("reconciles_total", result="error") == 0


async def test_a_hand_edit_is_repaired_and_a_deleted_part_comes_back(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(through_gateway(replicas=0))
        before = gateway(await cluster.until(ROLE, gateway))
        assert before
        await cluster.merge(ROLE, labels.GATEWAY, {"rules": []})
        await cluster.until(ROLE, lambda found: (gateway(found) or {}).get("rules") == before["rules"])
        await cluster.merge(ROLE, labels.GATEWAY, {"metadata": {"ownerReferences": []}})
        await cluster.until(ROLE, lambda found: owners(gateway(found)) == {"chat"})
        for kind in GATEWAY_PARTS:
            await cluster.until(kind, gateway)
            part = await cluster.get(kind, labels.GATEWAY)
            await cluster.delete(part)
            await cluster.until(kind, lambda found, old=part: made_anew(gateway(found), old))


DRIFTS: list[tuple[Kind, str, Raw]] = [
    (CONFIG_MAP, "chat-route", {"data": {"route.json": "{}"}}),
    (CONFIG_MAP, "chat-route", {"metadata": {"labels": {labels.COMPONENT: "server"}}}),
    (SERVICE, "chat", {"spec": {"selector": {labels.INSTANCE: "another"}}}),
    (SERVICE, "chat", {"metadata": {"labels": {labels.MANAGED_BY: None}}}),
    (SERVICE, "chat-????????", {"spec": {"selector": {labels.REVISION: "00000000"}}}),
    (SERVICE, "chat-????????", {"metadata": {"labels": {labels.MANAGED_BY: None}}}),
    (DEPLOYMENT, labels.GATEWAY, {"spec": {"replicas": 0}}),
    (DEPLOYMENT, labels.GATEWAY, {"metadata": {"labels": {labels.MANAGED_BY: None}}}),
    (PDB, labels.GATEWAY, {"spec": {"maxUnavailable": "100%"}}),
    (ROLE_BINDING, labels.GATEWAY, {"subjects": []}),
    (SERVICE_ACCOUNT, labels.GATEWAY, {"metadata": {"labels": {labels.COMPONENT: "server"}}}),
    (CONFIG_MAP, "chat-route", DISOWNED),
    (SERVICE, "chat", DISOWNED),
]


@pytest.mark.parametrize(("kind", "name", "drift"), DRIFTS)
async def test_a_hand_edit_of_what_carries_traffic_is_repaired(
    cluster: Cluster, kind: Kind, name: str, drift: Raw
) -> None:
    async with operator(cluster.configuration, cluster.namespace, resync=2) as running:
        await cluster.apply(through_gateway(replicas=0))
        found = await cluster.until(kind, lambda found: fnmatch.filter(names(found), name))
        await running.idle()
        await repaired(cluster, kind, fnmatch.filter(names(found), name)[0], drift)


def names(found: list[Raw]) -> list[str]:
    return [raw["metadata"]["name"] for raw in found]


def made_anew(found: Raw | None, old: Raw) -> bool:
    return found is not None and bool(found["metadata"]["uid"] != old["metadata"]["uid"])


@pytest.mark.parametrize("last", range(1, 13, 2))
async def test_killed_after_any_write_the_next_one_ends_where_a_clean_run_does(
    cluster: Cluster, proxy: Proxy, last: int
) -> None:
    await cluster.apply(through_gateway())
    await killed_after(proxy, cluster.namespace, last)
    async with operator(proxy.configuration, cluster.namespace) as second:
        await rest(cluster, second, 4)
        interrupted = await cluster.shape(), changes(proxy)
        for parent in await cluster.list(MODEL_DEPLOYMENT):
            await cluster.delete(parent)
        for kind in (*CHILDREN, POD):
            await cluster.until(kind, lambda found: not any(map(ours, found)))
        await second.until(lambda: not [*second.engine.store.parents(), *second.engine.store.gateways.keys()])
        await second.idle()
        proxy.calls.clear()
        await cluster.apply(through_gateway())
        await rest(cluster, second, 4)
        assert (await cluster.shape(), changes(proxy)) == interrupted


async def test_many_share_one_and_only_the_oldest_own_it(cluster: Cluster, proxy: Proxy) -> None:
    many = OWNERS + 8
    async with operator(proxy.configuration, cluster.namespace) as running:
        for number in range(many):
            await cluster.apply(through_gateway(f"m{number:03}", replicas=0))
        await cluster.until(MODEL_DEPLOYMENT, lambda found: len(found) == many and reported(found))
        await running.idle()
        assert len(owners(gateway(await cluster.list(DEPLOYMENT)))) == OWNERS
        proxy.calls.clear()
        await cluster.apply(through_gateway("young", replicas=0))
        await cluster.until(MODEL_DEPLOYMENT, lambda found: len(found) == many + 1 and reported(found))
        await running.idle()
        assert not [call for call in proxy.writes if call.path.endswith(f"/{labels.GATEWAY}")]
