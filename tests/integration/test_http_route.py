"""An HTTPRoute on a real API server: without the Gateway API, with it, and with what others put into the route."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.engine.kinds import DEPLOYMENT, HTTP_ROUTE, MODEL_DEPLOYMENT, SERVICE
from pilotboat.plan import routes
from tests.integration import gateway_api
from tests.integration.cluster import Cluster
from tests.integration.proxy import Call, Proxy
from tests.integration.running import Running, operator
from tests.integration.test_gateway import kubelet, named, says
from tests.integration.test_reconcile import DISOWNED, model_deployment, repaired

Raw = dict[str, Any]
V1 = "gateway.networking.k8s.io/v1"
THEIRS: Raw = {
    "matches": [{"path": {"type": "PathPrefix", "value": "/theirs"}}],
    "backendRefs": [{"name": "theirs", "port": 80, "weight": 3}],
}

INNER: Raw = {"name": "inner", "namespace": "elsewhere"}


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tells us of a Gateway's status: it is asked for often."""
    monkeypatch.setattr(routes, "HEARD_BY", timedelta(seconds=0.2))


@pytest.fixture(scope="module")
def crds(plane: Path) -> Iterator[None]:
    with gateway_api.installed(plane):
        yield


def by_route(name: str = "chat", **spec: Any) -> Raw:
    asked = {"gateway": {"name": "edge"}, "hostnames": ["chat.example"]}
    return model_deployment(name, traffic="HTTPRoute", **{"routing": asked, **spec})


async def a_gateway(cluster: Cluster) -> Raw:
    listeners = [{"name": "http", "port": 80, "protocol": "HTTP"}]
    spec = {"gatewayClassName": "by-hand", "listeners": listeners}
    return await cluster.apply({"apiVersion": V1, "kind": "Gateway", "metadata": {"name": "edge"}, "spec": spec})


async def the_controller_says(cluster: Cluster, accepted: bool, reason: str, message: str = "") -> None:
    """What a Gateway's controller writes about the HTTPRoute."""
    live = await cluster.get(HTTP_ROUTE, "chat")
    told = [
        {"type": kind, "status": status, "reason": reason, "message": message}
        | {"lastTransitionTime": live["metadata"]["creationTimestamp"], "observedGeneration": 1}
        for kind, status in (("Accepted", str(accepted)), ("ResolvedRefs", "True"))
    ]
    parent = {"group": V1.partition("/")[0], "kind": "Gateway", "name": "edge"}
    said = {"parents": [{"parentRef": parent, "controllerName": "example/controller", "conditions": told}]}
    body = {"apiVersion": V1, "kind": "HTTPRoute", "metadata": {"name": "chat"}, "status": said}
    await cluster.apply(body, "a-controller", subresource="status")


def rules(found: list[Raw]) -> list[Raw]:
    route = named(found, "chat")
    return list(route["spec"]["rules"]) if route else []


def reach(found: list[Raw]) -> tuple[list[str], list[str]]:
    """Names of the parents, and the hostnames."""
    spec = (named(found, "chat") or {"spec": {}})["spec"]
    return [each["name"] for each in spec.get("parentRefs", ())], spec.get("hostnames", [])


def weights(rule: Raw) -> dict[str, int]:
    return {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}


async def test_without_the_gateway_api_it_is_said_and_the_service_serves(
    cluster: Cluster, request: pytest.FixtureRequest
) -> None:
    async with operator(cluster.configuration, cluster.namespace) as running:
        await cluster.apply(by_route())
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "GatewayReady", "False", "GatewayApiMissing"))
        await kubelet(cluster, "server", True)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "Available", "True"))
        assert running.value("reconciles_total", result="error") == 0
        request.getfixturevalue("crds")
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "GatewayReady", "False", "GatewayNotFound"))


async def looked_at_again(cluster: Cluster, running: Running) -> dict[str, Any]:
    """The HTTPRoute, of which another look changes nothing."""
    await running.idle()
    live = await cluster.get(HTTP_ROUTE, "chat")
    running.engine.resync._wake(running.engine.store.parents())
    await running.idle()
    again = await cluster.get(HTTP_ROUTE, "chat")
    assert again["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
    return again


@pytest.mark.usefixtures("crds")
async def test_the_route_is_written_and_its_gateways_words_are_told(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace):
        parent = await cluster.apply(by_route())
        await cluster.until(HTTP_ROUTE, rules)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "GatewayReady", "False", "GatewayNotFound"))
        await a_gateway(cluster)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "GatewayReady", "False", "GatewayStarting"))
        await the_controller_says(cluster, False, "NotAllowedByListeners", "no")
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "GatewayReady", "False", "RouteNotAccepted"))
        await the_controller_says(cluster, True, "Accepted")
        await kubelet(cluster, "server", True)
        for kind, reason in (("GatewayReady", "Routed"), ("Ready", "RolledOut")):
            await cluster.until(MODEL_DEPLOYMENT, lambda found, k=kind, r=reason: says(found, k, "True", r))
        live = await cluster.get(HTTP_ROUTE, "chat")
        (owner,) = live["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (parent["metadata"]["uid"], True)
        assert live["spec"]["hostnames"] == ["chat.example"]
        (rule,) = live["spec"]["rules"]
        ((name, weight),) = weights(rule).items()
        assert (weight, rule["timeouts"]["request"]) == (1000, "0h10m0s")
        assert (await cluster.get(SERVICE, name))["spec"]["clusterIP"] != "None"
        assert named(await cluster.list(DEPLOYMENT), labels.GATEWAY) is None


@pytest.mark.usefixtures("crds")
async def test_an_owner_that_was_taken_off_the_route_is_given_back(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace, resync=2):
        await cluster.apply(by_route())
        await cluster.until(HTTP_ROUTE, rules)
        await repaired(cluster, HTTP_ROUTE, "chat", DISOWNED)


@pytest.mark.usefixtures("crds")
async def test_what_others_put_into_the_route_stays_when_weights_change_and_nothing_is_written_at_rest(
    cluster: Cluster,
) -> None:
    async with operator(cluster.configuration, cluster.namespace) as running:
        await cluster.apply(by_route())
        await a_gateway(cluster)
        (rule,) = rules(await cluster.until(HTTP_ROUTE, rules))
        await the_controller_says(cluster, True, "Accepted")
        await kubelet(cluster, "server", True)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "Ready", "True"))
        shared = {**rule, "backendRefs": [{"name": "legacy", "port": 80, "weight": 250}, *rule["backendRefs"]]}
        await cluster.merge(HTTP_ROUTE, "chat", {"spec": {"rules": [THEIRS, shared]}})
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"inference": {"batchSize": 2}}})
        after = await cluster.until(HTTP_ROUTE, lambda found: len(weights(rules(found)[-1])) == 3)
        theirs, ours = rules(after)
        assert theirs["backendRefs"][0] | THEIRS["backendRefs"][0] == theirs["backendRefs"][0]
        assert theirs["matches"] == THEIRS["matches"]
        assert next(iter(weights(ours).items())) == ("legacy", 250)
        assert sum(weights(ours).values()) == 1250
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"inference": None}})
        await cluster.until(HTTP_ROUTE, lambda found: len(weights(rules(found)[-1])) == 2)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "Ready", "True"))
        await looked_at_again(cluster, running)
        assert running.value("reconciles_total", result="error") == 0


@pytest.mark.usefixtures("crds")
async def test_parents_and_hostnames_that_others_add_stay_while_ours_follow_the_spec(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace) as running:
        await cluster.apply(by_route())
        await a_gateway(cluster)
        await cluster.until(HTTP_ROUTE, rules)
        live = await cluster.get(HTTP_ROUTE, "chat")
        around = {"parentRefs": [INNER, *live["spec"]["parentRefs"]], "hostnames": ["z.example", "chat.example"]}
        await cluster.merge(HTTP_ROUTE, "chat", {"spec": around})
        second = {"gateway": {"name": "second"}, "hostnames": ["talk.example"]}
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"routing": second}})
        await cluster.until(
            HTTP_ROUTE, lambda found: reach(found) == (["inner", "second"], ["z.example", "talk.example"])
        )
        back = {"gateway": {"name": "edge"}, "hostnames": None}
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"routing": back}})
        await cluster.until(HTTP_ROUTE, lambda found: reach(found) == (["inner", "edge"], ["z.example"]))
        await the_controller_says(cluster, True, "Accepted")
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "GatewayReady", "True"))
        again = await looked_at_again(cluster, running)
        assert reach([again]) == (["inner", "edge"], ["z.example"])
        many = {"gateway": {"name": "edge"}, "hostnames": [f"host-{n}.example" for n in range(16)]}
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"routing": many}})
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "Ready", "False", "PodRejected"))
        assert reach([await cluster.get(HTTP_ROUTE, "chat")]) == (["inner", "edge"], ["z.example"])
        assert running.value("reconciles_total", result="error") == 0


@pytest.mark.usefixtures("crds")
async def test_a_route_that_is_not_ours_is_left_alone(cluster: Cluster) -> None:
    body = {"apiVersion": V1, "kind": "HTTPRoute", "metadata": {"name": "chat"}, "spec": {"rules": [THEIRS]}}
    before = await cluster.apply(body)
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(by_route())
        await a_gateway(cluster)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "GatewayReady", "False", "NameTaken"))
        assert (await cluster.get(HTTP_ROUTE, "chat"))["metadata"]["resourceVersion"] == (
            before["metadata"]["resourceVersion"]
        )


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize("shared", [False, True])
async def test_who_leaves_the_gateway_takes_only_what_is_ours(cluster: Cluster, shared: bool) -> None:
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(by_route())
        await a_gateway(cluster)
        (rule,) = rules(await cluster.until(HTTP_ROUTE, rules))
        if shared:
            live = await cluster.get(HTTP_ROUTE, "chat")
            theirs = {"parentRefs": [*live["spec"]["parentRefs"], INNER], "rules": [rule, THEIRS]}
            await cluster.merge(HTTP_ROUTE, "chat", {"spec": theirs})
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"traffic": "Direct", "routing": None}})
        if shared:
            left = await cluster.until(HTTP_ROUTE, lambda found: len(rules(found)) == 1)
            assert rules(left)[0]["matches"] == THEIRS["matches"]
            assert reach(left) == (["inner"], ["chat.example"])
            assert labels.REACH not in (named(left, "chat") or {})["metadata"].get("annotations", {})
        else:
            await cluster.until(HTTP_ROUTE, lambda found: not found)
        await cluster.until(SERVICE, lambda found: len(found) == 1)
        await cluster.until(
            MODEL_DEPLOYMENT, lambda found: "httpRoute" not in str(found[0]["status"]).replace("HTTPRoute", "")
        )


@pytest.mark.usefixtures("crds")
async def test_what_others_write_between_our_read_and_our_write_is_kept(cluster: Cluster, proxy: Proxy) -> None:
    meddled = False

    async def meddle(call: Call) -> None:
        nonlocal meddled
        if call.write and not meddled and call.path.endswith("/httproutes/chat"):
            meddled = True
            (rule,) = rules(await cluster.list(HTTP_ROUTE))
            await cluster.merge(HTTP_ROUTE, "chat", {"spec": {"rules": [THEIRS, rule]}})

    await a_gateway(cluster)
    async with operator(proxy.configuration, cluster.namespace):
        await cluster.apply(by_route())
        first = rules(await cluster.until(HTTP_ROUTE, rules))
        proxy.faults.before = meddle
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"inference": {"batchSize": 2}}})
        after = await cluster.until(
            HTTP_ROUTE, lambda found: len(rules(found)) == 2 and weights(rules(found)[1]) != weights(first[0])
        )
        assert rules(after)[0]["matches"] == THEIRS["matches"]
    refused = [call.code for call in proxy.writes if call.path.endswith("/httproutes/chat") and call.code >= 400]
    assert refused == [409]
