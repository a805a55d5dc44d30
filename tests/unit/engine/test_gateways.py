"""What is asked by namespace: users, ports and availability of a gateway, and who is woken by what."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api import labels
from pilotboat.engine.gateways import OWNERS, Gateways, key_of, owns
from pilotboat.engine.kinds import CONFIG_MAP, DEPLOYMENT, MODEL_DEPLOYMENT, SERVICE, Key
from pilotboat.engine.store import Store
from tests.unit.engine.objects import child, parent

Raw = dict[str, Any]
GATEWAY = key_of("ns")


def user(name: str, traffic: str = "Gateway", created: str = "2026-01-01T00:00:00Z") -> Raw:
    raw = parent(name, spec={"traffic": traffic})
    raw["metadata"]["creationTimestamp"] = created
    return raw


def key(name: str) -> Key:
    return Key("modeldeployments", "ns", name)


def service(name: str, port: int | None, created: str = "2026-01-01T00:00:00Z") -> Raw:
    raw = child(user(name))
    raw["metadata"] |= {"creationTimestamp": created, "uid": f"uid-service-{name}"}
    raw["metadata"]["labels"] |= {labels.GATEWAY_PORT: str(port)} if port else {}
    return raw


def route(name: str) -> Raw:
    raw = child(user(name), f"{name}-route", "ConfigMap")
    raw["metadata"]["labels"] |= {labels.COMPONENT: "gateway"}
    return raw


def deployment(available: int, **meta: Any) -> Raw:
    metadata = {"namespace": "ns", "name": labels.GATEWAY, "annotations": {labels.APPLIED: "x"}, **meta}
    return {"metadata": metadata, "status": {"availableReplicas": available}}


@pytest.fixture
def gateways() -> Gateways:
    return Gateways()


def test_users_come_and_go_and_nothing_else_of_them_wakes_the_gateway(gateways: Gateways) -> None:
    assert gateways.parent("ns") is None
    assert gateways.put(MODEL_DEPLOYMENT, user("chat")) == {GATEWAY}
    assert gateways.put(MODEL_DEPLOYMENT, user("chat") | {"status": {"ready": "1/1"}}) == set()
    assert gateways.put(MODEL_DEPLOYMENT, user("plain", "Direct")) == set()
    found = gateways.parent("ns")
    assert found
    assert found["spec"]["owners"] == [{"name": "chat", "uid": "uid-chat"}]
    assert gateways.put(MODEL_DEPLOYMENT, user("chat", "Direct")) == {GATEWAY}
    assert list(gateways.keys()) == []


def test_a_user_that_is_being_deleted_is_none(gateways: Gateways) -> None:
    chat = user("chat")
    gateways.put(MODEL_DEPLOYMENT, chat)
    chat["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    assert gateways.put(MODEL_DEPLOYMENT, chat) == {GATEWAY}
    assert gateways.parent("ns") is None


def test_whose_route_still_stands_is_a_user(gateways: Gateways) -> None:
    gateways.put(MODEL_DEPLOYMENT, user("chat", "Direct"))
    assert gateways.put(CONFIG_MAP, route("chat")) == {GATEWAY}
    assert [owner.name for owner in gateways.owners("ns")] == ["chat"]
    assert gateways.drop(CONFIG_MAP, route("chat")) == {GATEWAY}
    assert gateways.owners("ns") == []


def test_the_oldest_own_it(gateways: Gateways) -> None:
    for number in reversed(range(OWNERS + 5)):
        gateways.put(MODEL_DEPLOYMENT, user(f"m{number:02}", created=f"2026-01-01T00:00:{number:02}Z"))
    assert [owner.name for owner in gateways.owners("ns")] == [f"m{number:02}" for number in range(OWNERS)]


def test_users_are_woken_when_it_comes_or_goes_and_not_in_between(gateways: Gateways) -> None:
    for name in ("a", "b"):
        gateways.put(MODEL_DEPLOYMENT, user(name))
    gateways.put(MODEL_DEPLOYMENT, user("plain", "Direct"))
    assert gateways.put(DEPLOYMENT, deployment(0)) == {GATEWAY}
    assert gateways.put(DEPLOYMENT, deployment(1)) == {GATEWAY, key("a"), key("b")}
    assert gateways.state("ns").available
    assert gateways.put(DEPLOYMENT, deployment(2)) == {GATEWAY}
    assert gateways.state("ns").replicas == 2
    assert gateways.drop(DEPLOYMENT, deployment(2)) == {GATEWAY, key("a"), key("b")}
    assert not gateways.state("ns").available


def test_what_is_told_of_it_wakes_users_once(gateways: Gateways) -> None:
    gateways.put(MODEL_DEPLOYMENT, user("a"))
    assert gateways.tell("ns", {}) == set()
    assert gateways.tell("ns", {"reason": "NameTaken", "message": "x"}) == {key("a")}
    assert gateways.tell("ns", {"reason": "NameTaken", "message": "x"}) == set()
    assert gateways.state("ns").trouble == ("NameTaken", "x")
    assert gateways.tell("ns", {}) == {key("a")}


def test_of_two_on_one_port_the_older_has_it_and_both_are_woken(gateways: Gateways) -> None:
    assert gateways.put(SERVICE, service("young", 20001, "2026-01-02T00:00:00Z")) == set()
    assert gateways.state("ns").ports == {20001: "young"}
    assert gateways.put(SERVICE, service("old", 20001)) == {key("young"), key("old")}
    assert gateways.state("ns").ports == {20001: "old"}
    assert gateways.put(SERVICE, service("old", 20001)) == set()
    assert gateways.put(SERVICE, service("young", 20002, "2026-01-02T00:00:00Z")) == set()
    assert gateways.state("ns").ports == {20001: "old", 20002: "young"}


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([None, 20001, 20002, 20003]))))
def test_ports_are_always_those_of_the_services_that_are(steps: list[tuple[str, int | None]]) -> None:
    gateways, there = Gateways(), dict[str, int]()
    for name, port in steps:
        gateways.put(SERVICE, service(name, port))
        there.pop(name, None)
        if port:
            there[name] = port
        expected = {port: min(n for n in there if there[n] == port) for port in there.values()}
        assert gateways.state("ns").ports == expected
    for name in "abcd":
        gateways.drop(SERVICE, service(name, None))
    assert gateways.state("ns").ports == {}
    assert not gateways._claims
    assert not gateways._held


@pytest.mark.parametrize(
    ("meta", "ours"),
    [
        ({}, False),
        ({"annotations": {labels.APPLIED: "x"}}, True),
        ({"ownerReferences": [{"apiVersion": labels.API_VERSION, "kind": "ModelDeployment"}]}, True),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap"}]}, False),
        (
            {
                "annotations": {labels.APPLIED: "x"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "A", "controller": True}],
            },
            False,
        ),
    ],
)
def test_what_is_ours(meta: Raw, ours: bool) -> None:
    assert owns({"metadata": meta}) is ours


def test_a_gateway_whose_last_user_went_has_no_witness() -> None:
    store = Store(lambda: 0.0)
    only = user("a") | {"metadata": {**user("a")["metadata"], "resourceVersion": "1"}}
    store.put(MODEL_DEPLOYMENT, only)
    gateway = key_of(only["metadata"]["namespace"])
    assert store.witness(gateway) == key("a")
    store.delete(MODEL_DEPLOYMENT, only)
    assert store.witness(gateway) is None


def test_of_a_namespace_that_is_gone_nothing_is_kept(gateways: Gateways) -> None:
    there = [(MODEL_DEPLOYMENT, user("chat")), (SERVICE, service("chat", 20001)), (CONFIG_MAP, route("chat"))]
    there.append((DEPLOYMENT, deployment(1)))
    for kind, raw in there:
        gateways.put(kind, raw)
    for kind, raw in there:
        gateways.drop(kind, raw)
    assert vars(gateways) == vars(Gateways())
