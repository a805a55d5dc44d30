"""The way of requests: what a ModelDeployment has for it, when traffic moves, and what is said of that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.api.routing import MAX_LANES, PORTS, WHOLE, Route
from pilotboat.plan import PLANNERS, build, routes
from pilotboat.plan.types import GatewayState, Plan, Ref
from unit.plan.world import NOW, SETTINGS, UP, Pod, Raw, condition, deployment_spec, observed, parent, types

DOWN = GatewayState()
AT_GATEWAY = {labels.INSTANCE: labels.GATEWAY, labels.COMPONENT: "gateway", labels.SERVING: "true"}
AT_PODS = {labels.INSTANCE: "chat", labels.COMPONENT: "server"}


def plan(
    *pods: Pod,
    children: list[Raw] | None = None,
    gateway: GatewayState = UP,
    status: Raw | None = None,
    later: int = 0,
    **spec: Any,
) -> Plan:
    """A pass over `chat`; `later`: seconds after the objects were made."""
    found = observed(
        parent("ModelDeployment", "chat", deployment_spec(**spec), status=status), list(pods), children, gateway=gateway
    )
    return PLANNERS["modeldeployments"].plan(found, SETTINGS, NOW + timedelta(seconds=later))


def live(found: Plan) -> list[Raw]:
    """What a plan made, as the API server has it."""
    stamp = {"creationTimestamp": build.timestamp(NOW), "generation": 1}
    return [{**raw, "metadata": {**raw["metadata"], "uid": raw["metadata"]["name"], **stamp}} for raw in found.apply]


def named(raws: Any, kind: str, name: str) -> Raw:
    found: Raw = next(raw for raw in raws if (raw["kind"], raw["metadata"]["name"]) == (kind, name))
    return found


def service(found: Plan) -> Raw:
    spec: Raw = named(found.apply, "Service", "chat")["spec"]
    return spec


def route(found: Plan) -> Route:
    return Route.load(named(found.apply, "ConfigMap", "chat-route")["data"]["route.json"])


def revision(found: Plan) -> str:
    assert found.status
    return str(found.status["updateRevision"])


def says(found: Plan, kind: str) -> tuple[str, str]:
    told = condition(found.status, kind)
    return told["status"], told["reason"]


def serving(found: Plan, count: int = 2, prefix: str = "p") -> list[Pod]:
    mine = revision(found)
    return [Pod(f"{prefix}-{mine}-{n}", revision=mine).serving() for n in range(count)]


def test_a_new_one_behind_a_gateway_that_is_up_goes_there_at_once() -> None:
    found = plan()
    assert service(found)["selector"] == AT_GATEWAY
    (port,) = service(found)["ports"]
    assert port["targetPort"] == route(found).port
    assert port["targetPort"] in PORTS
    assert (route(found).server_limit, route(found).max_queued) == (68, 64)


def test_until_the_gateway_is_up_requests_go_to_the_replicas() -> None:
    found = plan(gateway=DOWN)
    assert service(found)["selector"] == AT_PODS
    assert service(found)["ports"][0]["targetPort"] == "http"
    assert says(found, "GatewayReady") == ("False", "GatewayStarting")
    trouble = GatewayState(trouble=("ImagePullError", "no such image"))
    told = plan(*serving(found), gateway=trouble)
    assert says(told, "GatewayReady") == says(told, "Ready") == ("False", "ImagePullError")
    assert types(told.status)["Available"] == "True"


def test_served_traffic_moves_when_the_gateway_has_surely_seen_the_route() -> None:
    first = plan(gateway=DOWN)
    children = live(first)
    young = plan(*serving(first), children=children, later=2)
    assert service(young)["selector"] == AT_PODS
    assert young.requeue_after == timedelta(seconds=3)
    assert says(young, "GatewayReady") == ("False", "GatewayStarting")
    assert service(plan(*serving(first), children=children, later=5))["selector"] == AT_GATEWAY


def test_once_there_it_stays_though_the_gateway_goes() -> None:
    first = plan()
    found = plan(*serving(first), children=live(first), gateway=DOWN)
    assert service(found)["selector"] == AT_GATEWAY
    for kind in ("GatewayReady", "Available", "Ready"):
        assert says(found, kind) == ("False", "GatewayUnavailable")


@pytest.mark.parametrize("held", [{}, {1: "chat"}])
def test_the_port_is_settled_by_the_service_that_exists(held: dict[int, str]) -> None:
    children = live(plan())
    mark = named(children, "Service", "chat")["metadata"]["labels"]
    mark[labels.GATEWAY_PORT] = "20007"
    taken = GatewayState(True, ports={20007: "chat", **held})
    assert route(plan(children=children, gateway=taken)).port == 20007
    lost = GatewayState(True, ports={20007: "older", **held})
    assert route(plan(children=children, gateway=lost)).port not in (20007, None)


def test_a_gateway_without_a_port_left_is_done_without() -> None:
    full = GatewayState(True, ports=dict.fromkeys(PORTS, "another"))
    found = plan(gateway=full)
    assert service(found)["selector"] == AT_PODS
    assert says(found, "GatewayReady") == ("False", "NoGatewayPort")
    assert [raw["kind"] for raw in found.apply].count("Service") == 1


def test_direct_has_nothing_of_a_gateway() -> None:
    found = plan(traffic="Direct")
    assert [raw["kind"] for raw in found.apply] == ["ConfigMap", "Deployment", "Service", "PodDisruptionBudget"]
    assert service(found)["selector"] == AT_PODS
    assert labels.GATEWAY_PORT not in named(found.apply, "Service", "chat")["metadata"]["labels"]
    assert "GatewayReady" not in types(found.status)


def test_who_leaves_the_gateway_is_served_at_once_and_the_route_goes_a_minute_later() -> None:
    first = plan()
    children, pods = live(first), serving(first)
    leaving = plan(*pods, children=children, traffic="Direct")
    assert service(leaving)["selector"] == AT_PODS
    assert leaving.delete == ()
    assert says(leaving, "GatewayReady") == ("False", "LeavingGateway")
    assert types(leaving.status)["Available"] == "True"
    children = [*live(leaving), *(raw for raw in children if Ref.of(raw) not in refs(leaving))]
    still = plan(*pods, children=children, status=leaving.status, later=20, traffic="Direct")
    assert (still.delete, still.requeue_after) == ((), timedelta(seconds=40))
    gone = plan(*pods, children=children, status=still.status, later=60, traffic="Direct")
    mine = revision(first)
    assert sorted((ref.kind, ref.name) for ref in gone.delete) == [
        ("ConfigMap", "chat-route"),
        ("Service", f"chat-{mine}"),
    ]
    deleted = [raw for raw in children if Ref.of(raw) not in gone.delete]
    over = plan(*pods, children=deleted, status=gone.status, later=61, traffic="Direct")
    assert "GatewayReady" not in types(over.status)


def refs(found: Plan) -> set[Ref]:
    return {Ref.of(raw) for raw in found.apply}


def test_shares_follow_ready_replicas_newest_first_and_a_lane_stays_while_it_has_pods() -> None:
    old = plan()
    made = live(old)
    found = plan(*serving(old), children=made, engine={"image": "new"})
    assert [(lane.revision, lane.share) for lane in route(found).lanes] == [
        (revision(found), 0),
        (revision(old), WHOLE),
    ]
    both = plan(*serving(old, 1), *serving(found, 1), children=made, engine={"image": "new"})
    assert [lane.share for lane in route(both).lanes] == [500, 500]
    ending = [pod.leaving() for pod in serving(old, 1)]
    children = [raw for raw in [*made, *live(found)] if raw["metadata"]["name"] != f"chat-{revision(old)}"]
    children.append(named(made, "Service", f"chat-{revision(old)}"))
    last = plan(*ending, *serving(found), children=children, engine={"image": "new"})
    assert [(lane.revision, lane.share) for lane in route(last).lanes] == [(revision(found), WHOLE), (revision(old), 0)]
    assert last.delete == ()
    done = plan(*serving(found), children=children, engine={"image": "new"})
    assert [lane.revision for lane in route(done).lanes] == [revision(found)]
    assert [(ref.kind, ref.name) for ref in done.delete] == [("Service", f"chat-{revision(old)}")]


def test_there_are_never_more_lanes_than_a_gateway_takes() -> None:
    pods = [Pod(f"p{n}", revision=f"old{n}").serving() for n in range(MAX_LANES + 2)]
    lanes = route(plan(*pods)).lanes
    assert len(lanes) == MAX_LANES
    assert sum(lane.share for lane in lanes) == WHOLE
    assert lanes[0].revision == revision(plan())


def test_routing_alone_makes_no_new_revision() -> None:
    sticky = plan(routing={"sticky": {"cookie": "user"}})
    assert revision(sticky) == revision(plan()) == revision(plan(traffic="Direct"))
    assert routes.SEEN_BY < routes.LEFT_BY
