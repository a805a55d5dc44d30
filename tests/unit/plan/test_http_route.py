"""A ModelDeployment whose traffic a named Gateway splits: what is written, what is said, and a canary through it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from pydantic import ValidationError

from pilotboat.api import labels
from pilotboat.api.model_deployment import ModelDeploymentSpec
from pilotboat.plan import PLANNERS
from pilotboat.plan.http_route import API_VERSION
from pilotboat.plan.types import Observed, Plan, Ref, Refusal, Rejection, Unread
from unit.plan.test_course import Canary
from unit.plan.world import NAMESPACE, Raw, condition, deployment_spec, parent, types

ROUTE = Ref(API_VERSION, "HTTPRoute", NAMESPACE, "chat")
LOAD = {"qps": 5, "duration": "30s", "maxFirstTokenMilliseconds": 500}
EDGE: Raw = {"name": "edge", "namespace": "net", "sectionName": "https"}
INNER: Raw = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "inner"}
THEIRS: Raw = {
    "matches": [{"path": {"type": "PathPrefix", "value": "/theirs"}}],
    "backendRefs": [{"name": "theirs", "port": 80, "weight": 3}],
}
GATEWAY = Ref(API_VERSION, "Gateway", "net", "edge")


def asked(**routing: Any) -> Raw:
    return {"traffic": "HTTPRoute", "routing": {"gateway": EDGE} | routing}


class Named(Canary):
    """The miniature with a Gateway of somebody else's, whose controller says what the test wants."""

    def __init__(self, **routing: Any) -> None:
        self.exists, self.unread = True, dict[Ref, Unread]()
        self.told: Raw | None = {"type": "Accepted", "status": "True", "reason": "Accepted"}
        self.others: list[Raw] = []
        """What is said about other parents of the route."""
        self.routing = routing
        super().__init__(replicas=4)

    def edit(self, **changes: Any) -> None:
        super().edit(**(asked(**self.routing) | changes))

    @property
    def observed(self) -> Observed:
        found = super().observed
        live = copy.deepcopy(self.objects.get(ROUTE))
        if live and self.told:
            mine = {"parentRef": EDGE, "controllerName": "c", "conditions": [self.told]}
            live["status"] = {"parents": [*self.others, mine]}
        known: dict[Ref, Raw | None] = {ROUTE: live, GATEWAY: {"metadata": {"name": "edge"}} if self.exists else None}
        wanted = PLANNERS["modeldeployments"].references(found.parent)
        references = {ref: raw for ref, raw in known.items() if ref in wanted and ref not in self.unread}
        children = tuple(raw for raw in found.children if raw["kind"] != "HTTPRoute")
        return dataclasses.replace(found, children=children, references=references, unread=self.unread)

    @property
    def spec(self) -> Raw:
        found: Raw = self.objects[ROUTE]["spec"]
        return found

    @property
    def shares(self) -> dict[str, int]:
        refs = self.spec["rules"][0]["backendRefs"]
        return {ref["name"].split("-")[1]: ref["weight"] for ref in refs if ref["weight"]}

    @property
    def selector(self) -> Raw:
        service = next(raw for ref, raw in self.objects.items() if (ref.kind, ref.name) == ("Service", "chat"))
        found: Raw = service["spec"]["selector"]
        return found

    def put(self, parents: list[Raw], hostnames: list[str], *rules: Raw) -> None:
        """Somebody else's edit: around what stands there."""
        self.spec["parentRefs"] = [*parents, *self.spec["parentRefs"]]
        self.spec["hostnames"] = [*hostnames, *self.spec["hostnames"]]
        self.spec["rules"] = [*rules, *self.spec["rules"]]

    def services(self) -> set[str]:
        return {ref.name for ref in self.objects if ref.kind == "Service"}


def test_what_is_written() -> None:
    cluster = Named(hostnames=["chat.example"])
    (points,) = cluster.spec["parentRefs"]
    assert points == {"group": "gateway.networking.k8s.io", "kind": "Gateway", **EDGE}
    assert cluster.spec["hostnames"] == ["chat.example"]
    assert cluster.services() == {"chat", f"chat-{cluster.first}-backend"}
    assert not [ref for ref in cluster.objects if ref.name == "chat-route"]
    assert (types(cluster.status)["GatewayReady"], types(cluster.status)["Ready"]) == ("True", "True")
    assert cluster.status["httpRoute"] == "chat"


def test_a_canary_goes_its_way_and_callers_of_the_service_stay_with_stable() -> None:
    cluster = Named()
    new = cluster.push(7)
    cluster.settle()
    assert cluster.shares == {new: 100, cluster.first: 900}
    assert cluster.selector[labels.REVISION] == cluster.first
    for _ in range(30):
        cluster.minute()
        if "rollout" not in cluster.status:
            break
    assert cluster.shares == {new: 1000}
    assert cluster.replicas == {new: 4}
    assert labels.REVISION not in cluster.selector
    assert cluster.services() == {"chat", f"chat-{new}-backend"}


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"exists": False}, "GatewayNotFound"),
        ({"unread": {ROUTE: Unread.NO_SUCH_KIND, GATEWAY: Unread.NO_SUCH_KIND}}, "GatewayApiMissing"),
        ({"unread": {ROUTE: Unread.FORBIDDEN}}, "GatewayApiMissing"),
        ({"told": None}, "GatewayStarting"),
        ({"told": {"type": "Accepted", "status": "False", "reason": "NoMatchingParent"}}, "RouteNotAccepted"),
        ({"told": {"type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound"}}, "RouteNotAccepted"),
    ],
)
def test_while_the_gateway_does_not_split_the_canary_waits_and_stable_serves(trouble: Raw, reason: str) -> None:
    cluster = Named()
    vars(cluster).update(trouble)
    new = cluster.push(7)
    cluster.settle()
    told = condition(cluster.status, "GatewayReady")
    assert (told["status"], told["reason"]) == ("False", reason)
    assert condition(cluster.status, "Ready")["reason"] == reason
    assert types(cluster.status)["Available"] == "True"
    assert cluster.shares == {cluster.first: 1000}
    assert cluster.replicas == {cluster.first: 4}
    assert cluster.plan().requeue_after is not None
    fresh = Named()
    vars(cluster).update({"exists": True, "unread": {}, "told": fresh.told})
    cluster.settle()
    assert cluster.shares == {new: 100, cluster.first: 900}


def test_a_gateway_that_may_not_be_read_is_known_by_what_it_says_of_the_route() -> None:
    cluster = Named()
    cluster.unread = {GATEWAY: Unread.FORBIDDEN}
    cluster.settle()
    assert types(cluster.status)["GatewayReady"] == "True"


def ask(cluster: Canary, verb: str, **rollout: Any) -> None:
    action = {"verb": verb, "id": f"{verb}-{cluster.serial}"}
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], **rollout, "action": action})


def lose(cluster: Canary, revision: str) -> None:
    """Its pods die, and those in their place never become ready."""
    cluster.broken.add(revision)
    for name in [name for name in cluster.pods if name.startswith(f"chat-{revision}-")]:
        cluster.kill(name)
    cluster.settle()


def at_half() -> tuple[Named, str]:
    cluster = Named()
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "steps": [{"weight": 50, "hold": "1h"}]})
    new = cluster.push(7)
    cluster.settle()
    assert cluster.shares == {new: 500, cluster.first: 500}
    return cluster, new


def test_a_share_of_which_nothing_is_ready_is_served_by_the_others_and_it_is_said_why() -> None:
    cluster, new = at_half()
    lose(cluster, new)
    assert cluster.shares == {cluster.first: 1000}
    assert cluster.status["rollout"]["weight"] == 50
    told = condition(cluster.status, "Ready")
    assert told["reason"] == "Loading"
    assert f"canary {new} has 50 % of the traffic and no ready replica" in told["message"]
    cluster.broken.clear()
    cluster.settle()
    assert cluster.shares == {new: 500, cluster.first: 500}


def test_nor_is_the_service_left_with_a_stable_of_which_nothing_is_ready() -> None:
    cluster, new = at_half()
    lose(cluster, cluster.first)
    assert cluster.shares == {new: 1000}
    assert labels.REVISION not in cluster.selector
    cluster.broken.clear()
    cluster.settle()
    assert cluster.selector[labels.REVISION] == cluster.first


def test_through_our_own_gateway_too_it_is_said_why_a_canary_has_nothing_ready() -> None:
    cluster = Canary(replicas=1, steps=[{"weight": 25, "hold": "1h"}])
    new = cluster.push(7)
    cluster.settle()
    cluster.room = 1
    for name in [name for name in cluster.pods if name.startswith(f"chat-{new}-")]:
        cluster.kill(name)
    cluster.settle()
    told = condition(cluster.status, "Ready")
    assert told["reason"] == "Unschedulable"
    assert f"canary {new} has 25 % of the traffic and no ready replica" in told["message"]
    assert "Insufficient nvidia.com/gpu" in told["message"]


class Refusing(Named):
    """An API server that does not take the HTTPRoute as long as the test wants it."""

    refuses = False

    def carry_out(self, plan: Plan) -> bool:
        if not self.refuses:
            return super().carry_out(plan)
        news = [Ref.of(each) for each in plan.apply if each["kind"] == "HTTPRoute" and each["spec"] != self.spec]
        if not news:
            return super().carry_out(plan)
        too_many = {ref: Rejection(Refusal.INVALID, "spec.hostnames: Too many: 17") for ref in news}
        told = self.plan(dataclasses.replace(self.observed, rejected=too_many))
        taken = tuple(each for each in plan.apply if each["kind"] != "HTTPRoute")
        after, gone = ((), ()) if plan.after else (plan.after, plan.delete)
        done = dataclasses.replace(plan, apply=taken, after=after, delete=gone)
        return super().carry_out(dataclasses.replace(done, status=told.status, events=told.events))


def refusing() -> tuple[Refusing, str]:
    cluster = Refusing()
    steps = [{"weight": 10, "hold": "1m"}, {"weight": 50, "hold": "1m"}]
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "steps": steps})
    new = cluster.push(7)
    cluster.settle()
    cluster.refuses = True
    return cluster, new


@pytest.mark.parametrize("way", ["its steps", "Promote", "Abort", "a third"])
def test_while_the_route_is_refused_no_replica_goes_and_status_says_what_is(way: str) -> None:
    cluster, new = refusing()
    before = (cluster.shares, cluster.replicas, cluster.status["rollout"], cluster.status["currentRevision"])
    if way == "a third":
        cluster.push(8)
    elif way != "its steps":
        ask(cluster, way)
    for _ in range(10):
        cluster.minute(10_000)
    rollout = cluster.status["rollout"]
    assert (rollout["weight"], rollout["phase"]) == (10, "Progressing")
    assert (cluster.shares, cluster.replicas, cluster.status["currentRevision"]) == (before[0], before[1], before[3])
    assert "Too many: 17" in condition(cluster.status, "Ready")["message"]
    assert "rollouts" not in cluster.status
    cluster.refuses = False
    for _ in range(20):
        cluster.minute(10_000)
    assert (new in cluster.replicas) is (way in ("its steps", "Promote"))


def test_beside_a_canary_that_was_given_up_a_refused_route_keeps_nobody_from_scaling() -> None:
    cluster, _ = refusing()
    cluster.refuses = False
    ask(cluster, "Abort")
    cluster.settle()
    cluster.refuses = True
    cluster.edit(routing={"gateway": EDGE, "hostnames": ["new.example"]}, replicas=6)
    cluster.settle()
    assert cluster.replicas == {cluster.first: 6}


def test_testers_have_a_rule_while_there_is_a_canary() -> None:
    cluster = Named(testers={"header": "X-Canary"})
    assert len(cluster.spec["rules"]) == 1
    new = cluster.push(7)
    cluster.settle()
    _, special = cluster.spec["rules"]
    assert special["matches"][0]["headers"] == [{"type": "Exact", "name": "X-Canary", "value": "always"}]
    assert [ref["name"] for ref in special["backendRefs"]] == [f"chat-{new}-backend"]
    rollout = cluster.parent["spec"]["rollout"]
    cluster.edit(rollout={**rollout, "action": {"verb": "Abort", "id": "1"}})
    cluster.settle()
    assert len(cluster.spec["rules"]) == 1
    assert cluster.shares == {cluster.first: 1000}


def test_a_route_of_others_is_told_and_not_touched() -> None:
    cluster = Named()
    del cluster.objects[ROUTE]["metadata"]["ownerReferences"]
    before = copy.deepcopy(cluster.objects[ROUTE])
    cluster.settle()
    assert condition(cluster.status, "GatewayReady")["reason"] == "NameTaken"
    assert cluster.objects[ROUTE] == before
    cluster.parent["spec"] |= {"traffic": "Direct", "routing": {}}
    cluster.settle()
    assert cluster.objects[ROUTE] == before
    assert "httpRoute" not in cluster.status


def test_parents_and_hostnames_of_others_stay_while_ours_follow_the_spec() -> None:
    cluster = Named(hostnames=["chat.example"])
    cluster.put([INNER], ["z.example"])
    cluster.push(7)
    cluster.settle()
    assert [each["name"] for each in cluster.spec["parentRefs"]] == ["inner", "edge"]
    assert cluster.spec["hostnames"] == ["z.example", "chat.example"]
    cluster.edit(routing={"gateway": {"name": "other"}, "hostnames": ["talk.example"]})
    cluster.settle()
    assert [each["name"] for each in cluster.spec["parentRefs"]] == ["inner", "other"]
    assert cluster.spec["hostnames"] == ["z.example", "talk.example"]


def test_what_was_written_before_the_operator_died_is_known_for_ours() -> None:
    cluster = Named(hostnames=["chat.example"])
    cluster.put([INNER], ["z.example"])
    cluster.edit(routing={"gateway": {"name": "second"}, "hostnames": ["second.example"]})
    for manifest in cluster.plan().apply:  # and no status after it
        cluster._apply(manifest)
    assert cluster.spec["parentRefs"][-1]["name"] == "second"
    cluster.edit(routing={"gateway": {"name": "third"}, "hostnames": ["third.example"]})
    cluster.settle()
    assert [each["name"] for each in cluster.spec["parentRefs"]] == ["inner", "third"]
    assert cluster.spec["hostnames"] == ["z.example", "third.example"]


@pytest.mark.parametrize(
    "other",
    [
        {"name": "inner"},
        EDGE | {"sectionName": "http"},
        EDGE | {"port": 8443},
        EDGE | {"namespace": "elsewhere"},
        EDGE | {"group": "", "kind": "Service"},
    ],
)
def test_what_is_said_of_another_parent_is_nothing_about_ours(other: Raw) -> None:
    cluster = Named()
    told = {"type": "Accepted", "status": "False", "reason": "NoMatchingParent"}
    cluster.others = [{"parentRef": other, "controllerName": "theirs", "conditions": [told]}]
    cluster.settle()
    assert types(cluster.status)["GatewayReady"] == "True"
    accepted, cluster.told = cluster.told, None
    cluster.others[0]["conditions"] = [accepted]
    cluster.edit(replicas=3)
    cluster.settle()
    assert condition(cluster.status, "GatewayReady")["reason"] == "GatewayStarting"


@pytest.mark.parametrize(
    ("parents", "hostnames", "left"),
    [
        pytest.param([INNER], ["z.example"], (["inner"], ["z.example"]), id="what others put there"),
        pytest.param([], ["z.example"], (["edge"], ["z.example"]), id="ours where no parent is left to serve them"),
        pytest.param([INNER], [], (["inner"], ["chat.example"]), id="ours rather than every host"),
    ],
)
def test_who_leaves_keeps_for_the_rules_of_others_what_serves_them(
    parents: list[Raw], hostnames: list[str], left: tuple[list[str], list[str]]
) -> None:
    cluster = Named(hostnames=["chat.example"])
    cluster.put(parents, hostnames, THEIRS)
    cluster.edit(traffic="Direct", routing={}, rollout={})
    assert cluster.settle()
    assert cluster.spec["rules"] == [THEIRS]
    assert ([each["name"] for each in cluster.spec["parentRefs"]], cluster.spec["hostnames"]) == left
    assert labels.REACH not in cluster.objects[ROUTE]["metadata"].get("annotations", {})
    assert "httpRoute" not in cluster.status


def test_who_leaves_deletes_a_route_in_which_nobody_else_has_a_rule() -> None:
    cluster = Named(hostnames=["chat.example"])
    cluster.put([INNER], ["z.example"])
    cluster.edit(traffic="Direct", routing={}, rollout={})
    assert cluster.settle()
    assert ROUTE not in cluster.objects


@pytest.mark.parametrize(
    "spec",
    [
        {"traffic": "HTTPRoute"},
        {"routing": {"gateway": EDGE}},
        asked(sticky={"header": "X-User"}),
        {"routing": {"hostnames": ["a.example"]}},
        asked(hostnames=["http://a.example"]),
    ],
)
def test_what_makes_no_sense_is_refused(spec: Raw) -> None:
    made = parent("ModelDeployment", "chat", deployment_spec(**spec))
    with pytest.raises(ValidationError, match=r"routing|hostnames"):
        ModelDeploymentSpec.model_validate(made["spec"])
    assert GATEWAY not in PLANNERS["modeldeployments"].references(made) or "traffic" in spec


def test_an_invalid_spec_does_not_hide_what_the_gateway_says() -> None:
    cluster = Named()
    cluster.edit(replicas="many")
    cluster.settle()
    assert (types(cluster.status)["SpecValid"], types(cluster.status)["GatewayReady"]) == ("False", "True")


def test_before_users_nothing_is_judged_for_the_pods_count_what_gates_send_them() -> None:
    cluster = Named()
    rollout = cluster.parent["spec"]["rollout"]
    cluster.edit(rollout={**rollout, "analysis": {**rollout["analysis"], "load": LOAD}})
    new = cluster.push(7)
    cluster.settle()
    assert [ref for ref, raw in cluster.objects.items() if f"http://chat-{new}-backend:8080" in str(raw)]
    assert {f"chat-{each}-backend" for each in (new, cluster.first)} <= cluster.services()
    assert cluster.status["rollout"]["weight"] == 0
    assert not cluster.status["rollout"]["analysis"].get("cursor")
