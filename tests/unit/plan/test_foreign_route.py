"""A ModelDeployment behind an HTTPRoute of others: what is written there and when, what is said, and what is undone."""

from __future__ import annotations

import copy
import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from pilotboat.api import labels
from pilotboat.api.model_deployment import ModelDeploymentSpec
from pilotboat.api.routing import Minute
from pilotboat.plan import PLANNERS
from pilotboat.plan.http_route import API_VERSION
from pilotboat.plan.types import Observed, Plan, Ref, Unread
from unit.plan.test_course import Canary
from unit.plan.test_http_route import ask
from unit.plan.world import NAMESPACE, Raw, condition, deployment_spec, parent

SHOP, OTHER = (Ref(API_VERSION, "HTTPRoute", NAMESPACE, name) for name in ("shop", "other"))
LEGACY: Raw = {"name": "legacy", "port": 80, "weight": 20}
THEIRS: Raw = {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [LEGACY]}
PLAIN: Raw = {"name": "chat", "port": 8080, "weight": 80}
SHARED: Raw = {"matches": [{"path": {"type": "PathPrefix", "value": "/chat"}}], "backendRefs": [PLAIN, LEGACY]}
TAKEN: Raw = {"controllerName": "c", "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted"}]}
NOT: Raw = {"controllerName": "d", "conditions": [{"type": "Accepted", "status": "False", "reason": "NotAllowed"}]}
BROKEN: Raw = {
    "controllerName": "c",
    "conditions": [*TAKEN["conditions"], {"type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound"}],
}


def a_route(ref: Ref, *rules: Raw) -> Raw:
    meta = {"name": ref.name, "namespace": NAMESPACE, "uid": ref.name, "annotations": {"theirs": "yes"}}
    spec = {"hostnames": ["shop.example"], "parentRefs": [{"name": "edge"}], "rules": list(copy.deepcopy(rules))}
    return {"apiVersion": API_VERSION, "kind": "HTTPRoute", "metadata": meta, "spec": spec, "status": {"parents": []}}


class Behind(Canary):
    """The miniature with HTTPRoutes that others have made; the finalizer is set and taken away as the engine does."""

    def __init__(self, *rules: Raw, **routing: Any) -> None:
        self.routes = {SHOP: a_route(SHOP, *(rules or (THEIRS, SHARED))), OTHER: a_route(OTHER, SHARED)}
        for route in self.routes.values():
            route["status"]["parents"] = [TAKEN]
        self.unread = dict[Ref, Unread]()
        self.asked: Raw = {"traffic": "HTTPRoute", "routing": {"httpRoute": {"name": "shop"}} | routing}
        super().__init__(replicas=4)

    def edit(self, **changes: Any) -> None:
        super().edit(**(self.asked | changes))

    @property
    def observed(self) -> Observed:
        found = super().observed
        wanted = PLANNERS["modeldeployments"].references(found.parent)
        known = {ref: copy.deepcopy(self.routes.get(ref)) for ref in wanted if ref not in self.unread}
        return dataclasses.replace(found, references=known, unread=self.unread)

    def carry_out(self, plan: Plan) -> bool:
        into = [each for each in plan.apply if each["kind"] == "HTTPRoute"]
        assert all(each["metadata"].keys() == {"name", "namespace"} for each in into)
        wrote = [self._into(each) for each in into]
        if plan.free:
            self.parent["metadata"].pop("finalizers", None)
        rest = tuple(each for each in plan.apply if each["kind"] != "HTTPRoute")
        return any([super().carry_out(dataclasses.replace(plan, apply=rest)), *wrote])

    def _into(self, manifest: Raw) -> bool:
        live = self.routes[Ref.of(manifest)]
        before = copy.deepcopy(live["spec"])
        live["spec"] |= copy.deepcopy(manifest["spec"])
        if before != live["spec"] and "deletionTimestamp" not in self.parent["metadata"]:
            assert self.status["httpRoute"], "written before anybody knows where"
            self.parent["metadata"]["finalizers"] = [labels.ROUTE_FINALIZER]
        return bool(before != live["spec"])

    @property
    def rules(self) -> list[Raw]:
        found: list[Raw] = self.routes[SHOP]["spec"]["rules"]
        return found

    @property
    def shares(self) -> dict[str, int]:
        refs = self.rules[1]["backendRefs"]
        return {ref["name"].split("-")[1]: ref["weight"] for ref in refs if ref != LEGACY and ref["weight"]}

    def services(self) -> set[str]:
        return {ref.name for ref in self.objects if ref.kind == "Service"}

    def leaves(self) -> None:
        self.parent["metadata"]["deletionTimestamp"] = self.time
        self.carry_out(self.plan())


def told(cluster: Behind, kind: str = "GatewayReady") -> tuple[str, str]:
    found = condition(cluster.status, kind)
    return found["status"], found["reason"]


def test_a_canary_moves_in_its_rule_alone_and_beside_others_keeps_their_part() -> None:
    cluster = Behind()
    before = copy.deepcopy(cluster.routes[SHOP])
    assert cluster.shares == {cluster.first: 80}
    assert (told(cluster), told(cluster, "Ready")) == (("True", "Routed"), ("True", "RolledOut"))
    new = cluster.push(7)
    cluster.settle()
    assert cluster.shares == {new: 8, cluster.first: 72}
    assert (cluster.rules[0], cluster.rules[1]["backendRefs"][-1]) == (THEIRS, LEGACY)
    while "rollout" in cluster.status:
        cluster.minute()
    assert cluster.shares == {new: 80}
    assert cluster.services() == {"chat", f"chat-{new}-backend"}
    after = copy.deepcopy(cluster.routes[SHOP])
    before["spec"].pop("rules")
    after["spec"].pop("rules")
    assert before == after


@pytest.mark.parametrize(
    ("rules", "said", "reason", "words"),
    [
        (None, [TAKEN], "RouteNotFound", "HTTPRoute shop does not exist"),
        ([THEIRS], [TAKEN], "RouteWithoutBackend", "backendRef to Service chat: put one, with port 8080"),
        ([THEIRS, SHARED], [], "GatewayStarting", "said nothing"),
        ([THEIRS, SHARED], [NOT], "RouteNotAccepted", "NotAllowed"),
        ([THEIRS, SHARED], [BROKEN], "RouteNotAccepted", "BackendNotFound"),
        ([{**SHARED, "backendRefs": [PLAIN | {"weight": 1}, LEGACY]}], [TAKEN], "RouteTooCoarse", "backendRefs by 10"),
    ],
)
def test_while_the_route_does_not_split_no_canary_has_traffic(
    rules: list[Raw] | None, said: list[Raw], reason: str, words: str
) -> None:
    cluster = Behind()
    was = cluster.routes[SHOP]
    cluster.routes[SHOP] = a_route(SHOP, *(rules or ()))
    cluster.routes[SHOP]["status"]["parents"] = said
    if rules is None:
        del cluster.routes[SHOP]
    new = cluster.push(7)
    cluster.settle()
    assert told(cluster) == ("False", reason)
    assert words in condition(cluster.status, "GatewayReady")["message"]
    assert condition(cluster.status, "Ready")["reason"] == reason
    assert (cluster.status["rollout"]["weight"], cluster.replicas) == (0, {cluster.first: 4})
    assert cluster.plan().requeue_after is not None
    cluster.routes[SHOP] = was
    cluster.settle()
    assert cluster.shares == {new: 8, cluster.first: 72}


def test_one_of_several_gateways_that_takes_it_is_enough() -> None:
    cluster = Behind()
    cluster.routes[SHOP]["status"]["parents"] = [NOT, TAKEN]
    cluster.settle()
    assert told(cluster) == ("True", "Routed")


def test_a_route_that_is_written_back_in_mid_rollout_is_told_and_no_step_ends_meanwhile() -> None:
    cluster = Behind()
    new = cluster.push(7)
    cluster.settle()
    for _ in range(10):
        start = int(cluster.now.timestamp()) // 60 * 60
        for revision in (new, cluster.first):
            counted = Minute(start=start, requests=1000, errors=10)
            cluster.minutes.setdefault(revision, []).append(counted)
        cluster.now += timedelta(minutes=1)
        cluster.rules[1]["backendRefs"] = copy.deepcopy(SHARED["backendRefs"])
        cluster.carry_out(cluster.plan())
        assert told(cluster) == ("False", "RouteOverwritten")
        assert cluster.shares == {new: 8, cluster.first: 72}
    rollout = cluster.status["rollout"]
    assert (rollout.get("step", 0), rollout["weight"], rollout["reason"]) == (0, 10, "RouteOverwritten")
    cluster.settle()
    assert told(cluster) == ("True", "Routed")
    assert cluster.status["rollout"]["step"] == 1


def test_at_rest_it_is_written_anew_without_a_word() -> None:
    cluster = Behind()
    cluster.rules[1]["backendRefs"] = copy.deepcopy(SHARED["backendRefs"])
    cluster.carry_out(cluster.plan())
    assert (told(cluster), cluster.shares) == (("True", "Routed"), {cluster.first: 80})


def test_what_others_change_meanwhile_stays() -> None:
    cluster = Behind()
    new = cluster.push(7)
    cluster.rules.append({"backendRefs": [LEGACY, PLAIN | {"weight": 100}], "timeouts": {"request": "5s"}})
    cluster.rules[0]["filters"] = ["theirs"]
    cluster.settle()
    assert cluster.rules[0] == THEIRS | {"filters": ["theirs"]}
    assert cluster.rules[2]["timeouts"] == {"request": "5s"}
    assert [ref["weight"] for ref in cluster.rules[2]["backendRefs"]] == [20, 10, 90]
    assert cluster.shares == {new: 8, cluster.first: 72}


def test_testers_have_a_rule_and_a_service_while_there_is_a_canary() -> None:
    cluster = Behind(testers={"header": "X-Canary"})
    assert len(cluster.rules) == 2
    new = cluster.push(7)
    cluster.settle()
    assert [ref["name"] for ref in cluster.rules[2]["backendRefs"]] == ["chat-testers-backend"]
    service = cluster.objects[Ref("v1", "Service", NAMESPACE, "chat-testers-backend")]
    assert service["spec"]["selector"][labels.REVISION] == new
    ask(cluster, "Abort")
    cluster.settle()
    assert (len(cluster.rules), cluster.shares) == (2, {cluster.first: 80})
    cluster.edit(inference={})
    cluster.settle()
    assert cluster.services() == {"chat", f"chat-{cluster.first}-backend"}


@pytest.mark.parametrize("canary", [False, True])
def test_who_is_deleted_gives_back_first(canary: bool) -> None:
    cluster = Behind(testers={"header": "X-Canary"})
    if canary:
        cluster.push(7)
        cluster.settle()
    assert cluster.rules != [THEIRS, SHARED]
    cluster.leaves()
    assert cluster.rules == [THEIRS, SHARED]
    assert "finalizers" not in cluster.parent["metadata"]


@pytest.mark.parametrize("away", [{"traffic": "Direct", "routing": {}}, {"traffic": "Gateway", "routing": {}}])
def test_who_goes_elsewhere_gives_back_before_the_services_go(away: Raw) -> None:
    cluster = Behind()
    cluster.edit(rollout={}, **away)
    plan = cluster.plan()
    cluster.carry_out(plan)
    assert cluster.rules == [THEIRS, SHARED]
    assert (cluster.status["httpRoute"], f"chat-{cluster.first}-backend" in cluster.services()) == ("shop", True)
    assert plan.requeue_after is not None
    cluster.now += timedelta(minutes=2)
    cluster.settle()
    assert "httpRoute" not in cluster.status
    assert f"chat-{cluster.first}-backend" not in cluster.services()
    assert "finalizers" not in cluster.parent["metadata"]


def test_another_route_is_taken_up_once_the_first_is_given_back() -> None:
    cluster = Behind()
    cluster.edit(routing={"httpRoute": {"name": "other"}})
    cluster.carry_out(cluster.plan())
    assert (cluster.rules, cluster.routes[OTHER]["spec"]["rules"]) == ([THEIRS, SHARED], [SHARED])
    cluster.settle()
    assert cluster.status["httpRoute"] == "other"
    (rule,) = cluster.routes[OTHER]["spec"]["rules"]
    assert [ref["name"] for ref in rule["backendRefs"]] == [f"chat-{cluster.first}-backend", "legacy"]
    cluster.leaves()
    assert cluster.routes[OTHER]["spec"]["rules"] == [SHARED]


def test_what_cannot_be_given_back_holds_nobody_for_long_and_is_told() -> None:
    cluster = Behind()
    cluster.unread = {SHOP: Unread.FORBIDDEN}
    cluster.leaves()
    assert cluster.parent["metadata"]["finalizers"] == [labels.ROUTE_FINALIZER]
    cluster.now += timedelta(seconds=31)
    plan = cluster.plan()
    assert ([event.reason for event in plan.events], plan.free) == (["BackendsLeft"], True)


def test_a_spec_that_cannot_be_read_changes_nothing() -> None:
    cluster = Behind()
    before = copy.deepcopy(cluster.rules)
    cluster.edit(replicas="many", routing={})
    cluster.settle()
    assert (cluster.rules, cluster.parent["metadata"]["finalizers"]) == (before, [labels.ROUTE_FINALIZER])


def test_a_route_that_was_made_for_this_one_is_none_of_others() -> None:
    cluster = Behind()
    owner = {"kind": "ModelDeployment", "name": "chat", "uid": cluster.parent["metadata"]["uid"], "controller": True}
    cluster.routes[SHOP]["metadata"]["ownerReferences"] = [owner]
    cluster.settle()
    assert told(cluster) == ("False", "NameTaken")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"routing": {"httpRoute": {"name": "shop"}}}, "goes together with"),
        ({"traffic": "HTTPRoute", "routing": {"httpRoute": {"name": "shop"}, "gateway": {"name": "edge"}}}, "give one"),
        ({"traffic": "HTTPRoute", "routing": {"httpRoute": {"name": "shop"}, "hostnames": ["a.b"]}}, "hostnames need"),
        ({"traffic": "HTTPRoute", "routing": {"httpRoute": {"name": "s"}, "sticky": {"header": "u"}}}, "sticky needs"),
    ],
)
def test_what_makes_no_sense_is_refused(spec: Raw, words: str) -> None:
    made = parent("ModelDeployment", "chat", deployment_spec(**spec))
    with pytest.raises(ValidationError, match=words):
        ModelDeploymentSpec.model_validate(made["spec"])
