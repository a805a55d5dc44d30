"""A namespace's gateway: what it consists of, who owns it, what is told of its trouble."""

from __future__ import annotations

from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.engine.kinds import GATEWAY_PARTS
from pilotboat.plan import PLANNERS, gateway
from pilotboat.plan.types import Node, Observed, Plan, Ref, Refusal, Rejection
from unit.plan.world import NAMESPACE, NOW, SETTINGS, Pod, Raw

OWNERS = [{"name": "chat", "uid": "uid-chat"}, {"name": "qa", "uid": "uid-qa"}]


def plan(owners: list[Raw], **more: Any) -> Plan:
    meta = {"namespace": NAMESPACE, "name": labels.GATEWAY}
    parent = {"apiVersion": labels.API_VERSION, "kind": "Gateway", "metadata": meta, "spec": {"owners": owners}}
    return PLANNERS[labels.GATEWAYS].plan(Observed(parent, **more), SETTINGS, NOW)


def made(kind: str) -> Raw:
    found: Raw = next(raw for raw in plan(OWNERS).apply if raw["kind"] == kind)
    return found


def pod() -> Raw:
    spec: Raw = made("Deployment")["spec"]["template"]["spec"]
    return spec


def test_every_part_has_one_name_and_all_users_as_owners() -> None:
    found = plan(OWNERS)
    assert sorted(raw["kind"] for raw in found.apply) == sorted(kind.kind for kind in GATEWAY_PARTS)
    for raw in found.apply:
        assert raw["metadata"]["name"] == labels.GATEWAY
        assert raw["metadata"]["labels"][labels.MANAGED_BY] == labels.MANAGER
        owners = raw["metadata"]["ownerReferences"]
        assert [owner["name"] for owner in owners] == ["chat", "qa"]
        assert not any("controller" in owner for owner in owners)


def test_with_the_last_user_all_of_it_goes() -> None:
    children = tuple(plan(OWNERS).apply)
    found = plan([], children=children)
    assert found.apply == ()
    assert set(found.delete) == {Ref.of(raw) for raw in children}


def test_two_replicas_of_which_none_goes_before_another_is_there() -> None:
    spec = made("Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert made("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert gateway.GRACE_SECONDS >= 600 + gateway.LEAVE_SECONDS


@pytest.mark.parametrize(("zones", "count"), [("", 2), ("a", 2), ("aab", 2), ("abc", 3), ("abcd", 3)])
def test_one_a_zone_two_at_least_and_three_at_most(zones: str, count: int) -> None:
    there = {f"n{number}": Node(f"n{number}", zone=zone) for number, zone in enumerate(zones)}
    (deployment,) = (raw for raw in plan(OWNERS, nodes=there).apply if raw["kind"] == "Deployment")
    assert deployment["spec"]["replicas"] == count


def test_they_are_spread_over_zones_and_then_over_nodes_as_far_as_there_is_room() -> None:
    template = made("Deployment")["spec"]["template"]
    spread = template["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for each in spread:
        assert (each["maxSkew"], each["whenUnsatisfiable"]) == (1, "ScheduleAnyway")
        counted = each["labelSelector"]["matchLabels"]
        assert counted
        assert counted.items() <= template["metadata"]["labels"].items(), "it is themselves that they are apart from"


def test_pods_are_restricted_and_only_the_agent_has_a_token() -> None:
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["securityContext"]["runAsNonRoot"] is True
    mounts = {c["name"]: {m["mountPath"] for m in c["volumeMounts"]} for c in pod()["containers"]}
    assert mounts["agent"] - mounts["haproxy"] == {"/var/run/secrets/kubernetes.io/serviceaccount"}
    for container in pod()["containers"]:
        assert container["image"] == SETTINGS.gateway_image
        assert container["args"] == [container["name"]]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {entry["name"] for entry in container["env"]} == {
            f"PILOTBOAT_{each}" for each in ("NAMESPACE", "GATEWAY_DIR", "POD_IP")
        }


def test_what_is_wrong_is_told_and_what_takes_time_is_not() -> None:
    children = tuple(plan(OWNERS).apply)
    starting = Pod("g", labels.GATEWAY, "gateway").placed()
    pulling = Pod("h", labels.GATEWAY, "gateway").waiting("ImagePullBackOff", "no such image")
    assert plan(OWNERS, children=children, pods=(starting.raw,)).status == {}
    told = plan(OWNERS, children=children, pods=(starting.raw, pulling.raw)).status
    assert told is not None
    assert told["reason"] == "ImagePullError"
    up = tuple(raw | ({"status": {"availableReplicas": 1}} if raw["kind"] == "Deployment" else {}) for raw in children)
    assert plan(OWNERS, children=up, pods=(pulling.raw,)).status == {}


def test_a_taken_name_is_told() -> None:
    taken = {Ref.of(made("Role")): Rejection(Refusal.NAME_TAKEN, "Role exists and was made by somebody else")}
    told = plan(OWNERS, rejected=taken).status
    assert told is not None
    assert told["reason"] == "NameTaken"
