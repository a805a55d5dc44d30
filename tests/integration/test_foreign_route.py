"""An HTTPRoute of others on a real API server: weights move in rules that name us, all else stays, all goes back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pilotboat.api import labels
from pilotboat.engine.kinds import EVENT, HTTP_ROUTE, MODEL_DEPLOYMENT, SERVICE
from pilotboat.plan import foreign_route, routes
from tests.integration import gateway_api
from tests.integration.cluster import Cluster
from tests.integration.proxy import Call, Proxy
from tests.integration.running import Running, operator
from tests.integration.test_gateway import kubelet, named, says
from tests.integration.test_http_route import V1, weights
from tests.integration.test_reconcile import model_deployment

Raw = dict[str, Any]
LEGACY: Raw = {"name": "legacy", "port": 80, "weight": 200}
MARKED: Raw = {"add": [{"name": "x-by", "value": "edge"}]}
OURS: Raw = {
    "matches": [{"path": {"type": "PathPrefix", "value": "/chat"}}],
    "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": MARKED}],
    "backendRefs": [{"name": "chat", "port": 8080, "weight": 800}, LEGACY],
}
THEIRS: Raw = {
    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
    "backendRefs": [{"name": "shop", "port": 80}],
    "timeouts": {"request": "5s"},
}


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tells us of what others do with an HTTPRoute: it is looked at often."""
    monkeypatch.setattr(routes, "HEARD_BY", timedelta(seconds=0.2))


@pytest.fixture(scope="module", autouse=True)
def crds(plane: Path) -> Iterator[None]:
    with gateway_api.installed(plane):
        yield


def behind(**spec: Any) -> Raw:
    given = {"traffic": "HTTPRoute", "routing": {"httpRoute": {"name": "edge"}}, "replicas": 1}
    steps = {"steps": [{"weight": 25, "hold": "1h"}], "surge": "Always"}
    return model_deployment(**{**given, "rollout": steps, **spec})


async def a_route(cluster: Cluster) -> Raw:
    """Of the platform team's, and taken by its Gateway."""
    spec = {"hostnames": ["shop.example"], "parentRefs": [{"name": "edge"}], "rules": [OURS, THEIRS]}
    meta = {"name": "edge", "labels": {"team": "platform"}, "annotations": {"owner": "platform"}}
    made = await cluster.apply({"apiVersion": V1, "kind": "HTTPRoute", "metadata": meta, "spec": spec}, "git")
    stamp = {"lastTransitionTime": made["metadata"]["creationTimestamp"], "observedGeneration": 1, "message": ""}
    taken = [{"type": kind, "status": "True", "reason": kind} | stamp for kind in ("Accepted", "ResolvedRefs")]
    said = {"parents": [{"parentRef": {"name": "edge"}, "controllerName": "example/edge", "conditions": taken}]}
    status = {"apiVersion": V1, "kind": "HTTPRoute", "metadata": {"name": "edge"}, "status": said}
    return await cluster.apply(status, "a-controller", subresource="status")


async def lent_and_given_back(cluster: Cluster) -> None:
    """Weights are put into it, and given back before the deployment goes."""
    before = await a_route(cluster)
    parent = await cluster.apply(behind())
    await taken_up(cluster)
    assert rules(await cluster.list(HTTP_ROUTE)) != before["spec"]["rules"]
    await cluster.delete(parent)
    await cluster.until(MODEL_DEPLOYMENT, lambda found: not found)
    assert rules(await cluster.list(HTTP_ROUTE)) == before["spec"]["rules"]


def rules(found: list[Raw]) -> list[Raw]:
    return list((named(found, "edge") or {"spec": {"rules": []}})["spec"]["rules"])


def parts(found: list[Raw]) -> list[tuple[str, int]]:
    """Of the rule that is shared: what each has, the revisions without their names."""
    return [("of ours" if "-" in name else name, weight) for name, weight in weights(rules(found)[0]).items()]


def around(route: Raw) -> tuple[Any, ...]:
    """All of it but rules, and what the API server itself counts."""
    spec = {key: value for key, value in route["spec"].items() if key != "rules"}
    meta = route["metadata"]
    return spec, meta["labels"], meta["annotations"], meta.get("ownerReferences"), meta.get("finalizers")


async def taken_up(cluster: Cluster) -> None:
    await kubelet(cluster, "server", True, count=1)
    for kind in ("GatewayReady", "Ready"):
        await cluster.until(MODEL_DEPLOYMENT, lambda found, k=kind: says(found, k, "True"))


async def test_a_canary_moves_in_the_rule_that_names_us_and_all_goes_back_with_the_deployment(cluster: Cluster) -> None:
    before = await a_route(cluster)
    async with operator(cluster.configuration, cluster.namespace) as running:
        parent = await cluster.apply(behind())
        await taken_up(cluster)
        assert parts(await cluster.list(HTTP_ROUTE)) == [("of ours", 800), ("legacy", 200)]
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"inference": {"batchSize": 2}}})
        await kubelet(cluster, "server", True, count=2)
        moved = [("of ours", 200), ("of ours", 600), ("legacy", 200)]
        shared = await cluster.until(HTTP_ROUTE, lambda found: parts(found) == moved)
        first, second = rules(shared)
        assert (first["matches"], first["filters"]) == (OURS["matches"], OURS["filters"])
        assert second == before_rule(before, 1)
        assert around(shared[0]) == around(before)
        assert labels.ROUTE_FINALIZER in (await cluster.get(MODEL_DEPLOYMENT, "chat"))["metadata"]["finalizers"]

        theirs = [first, {**second, "timeouts": {"request": "9s"}}]  # somebody's edit in the middle of it
        await cluster.merge(HTTP_ROUTE, "edge", {"spec": {"hostnames": ["a.example", "b.example"], "rules": theirs}})
        abort = {"rollout": {"action": {"verb": "Abort", "id": "1"}}}
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": abort})
        given_up = [("of ours", 800), ("legacy", 200)]
        stable = await cluster.until(HTTP_ROUTE, lambda found: [each for each in parts(found) if each[1]] == given_up)
        assert rules(stable)[1]["timeouts"] == {"request": "9s"}
        assert stable[0]["spec"]["hostnames"] == ["a.example", "b.example"]

        await cluster.delete(parent)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: not found)
        (left,) = await cluster.list(HTTP_ROUTE)
        assert rules([left]) == [before_rule(before, 0), {**second, "timeouts": {"request": "9s"}}]
        assert left["metadata"]["uid"] == before["metadata"]["uid"]
        assert running.value("reconciles_total", result="error") == 0


def before_rule(route: Raw, place: int) -> Raw:
    """As the API server has it, with its defaults."""
    found: Raw = route["spec"]["rules"][place]
    return found


async def at_rest(cluster: Cluster, running: Running) -> None:
    """Another look writes nothing."""
    await running.idle()
    live = await cluster.get(HTTP_ROUTE, "edge")
    running.engine.resync._wake(running.engine.store.parents())
    await running.idle()
    assert (await cluster.get(HTTP_ROUTE, "edge"))["metadata"]["resourceVersion"] == (
        live["metadata"]["resourceVersion"]
    )


async def test_what_is_missing_is_told_and_who_goes_elsewhere_gives_back(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace) as running:
        await cluster.apply(behind())
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "GatewayReady", "False", "RouteNotFound"))
        before = await a_route(cluster)
        await cluster.merge(HTTP_ROUTE, "edge", {"spec": {"rules": [THEIRS]}})
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "GatewayReady", "False", "RouteWithoutBackend"))
        await cluster.merge(HTTP_ROUTE, "edge", {"spec": {"rules": [OURS, THEIRS]}})
        await taken_up(cluster)
        await at_rest(cluster, running)
        away = {"traffic": "Direct", "routing": None, "rollout": None}
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": away})
        await cluster.until(HTTP_ROUTE, lambda found: rules(found) == before["spec"]["rules"])
        await cluster.until(SERVICE, lambda found: [each["metadata"]["name"] for each in found] == ["chat"])
        await cluster.until(MODEL_DEPLOYMENT, lambda found: "finalizers" not in found[0]["metadata"])
        assert running.value("reconciles_total", result="error") == 0


async def test_what_others_write_between_our_read_and_our_write_is_kept(cluster: Cluster, proxy: Proxy) -> None:
    meddled = False

    async def meddle(call: Call) -> None:
        nonlocal meddled
        if call.write and not meddled and call.path.endswith("/httproutes/edge"):
            meddled = True
            await cluster.merge(HTTP_ROUTE, "edge", {"spec": {"rules": [THEIRS, OURS]}})

    await a_route(cluster)
    proxy.faults.before = meddle
    async with operator(proxy.configuration, cluster.namespace):
        await cluster.apply(behind())
        after = await cluster.until(HTTP_ROUTE, lambda found: "chat-" in str(rules(found)))
        assert rules(after)[0]["matches"] == THEIRS["matches"]
        assert sum(weights(rules(after)[1]).values()) == 1000
    written = [call.code for call in proxy.writes if call.path.endswith("/httproutes/edge")]
    assert written[0] == 409, "and it is read anew; the answer to the next write may come as the operator ends"


async def test_a_route_that_nobody_may_write_holds_no_deployment_for_good(
    cluster: Cluster, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(call: Call) -> web.Response | None:
        told = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "a policy"}
        ours = call.write and call.path.endswith("/httproutes/edge")
        return web.json_response(told, status=403) if ours else None

    monkeypatch.setattr(foreign_route, "LEAVES_WITHIN", timedelta(seconds=2))
    await a_route(cluster)
    async with operator(proxy.configuration, cluster.namespace):
        parent = await cluster.apply(behind())
        await taken_up(cluster)
        proxy.faults.before = refuse
        await cluster.delete(parent)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: not found)
        await cluster.until(EVENT, lambda found: any(each["reason"] == "BackendsLeft" for each in found))
