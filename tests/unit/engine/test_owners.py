"""Whose an object is, where its ownerReference says so, and where its labels and its maker have to."""

from __future__ import annotations

from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.engine import owners
from pilotboat.engine.kinds import Key
from tests.unit.engine.objects import child, parent

Raw = dict[str, Any]
APPLIED = {"manager": labels.FIELD_MANAGER, "operation": "Apply"}
CHAT, QA = Key("modeldeployments", "ns", "chat"), Key("finetunejobs", "ns", "qa")


def disowned(raw: Raw, component: str = "server", managers: tuple[Raw, ...] = (APPLIED,)) -> Raw:
    """A child whose controller somebody took off; others may own it as well."""
    friend = {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "uid-a"}
    fields = {"ownerReferences": [friend], "managedFields": list(managers)}
    marks = {**raw["metadata"]["labels"], labels.COMPONENT: component}
    return {**raw, "metadata": {**raw["metadata"], **fields, "labels": marks}}


def test_the_controller_says_whose_it_is() -> None:
    other = parent("other")
    made = child(other)
    made["metadata"] |= {"managedFields": [APPLIED], "labels": labels.child_labels("server", "chat")}
    assert owners.owner_of(made) == "uid-other"


@pytest.mark.parametrize(
    ("of", "component", "expected"),
    [
        ("chat", "server", CHAT),
        ("chat", "probe", CHAT),
        ("chat", "seed", CHAT),
        ("chat", "dns", CHAT),
        ("chat", "gateway", CHAT),
        (labels.GATEWAY, "gateway", Key(labels.GATEWAYS, "ns", labels.GATEWAY)),
        ("qa", "trainer", QA),
        ("chat", "another", None),
    ],
)
def test_without_one_its_labels_say(of: str, component: str, expected: Key | None) -> None:
    assert owners.owner_of(disowned(child(parent(of)), component)) == expected


@pytest.mark.parametrize(
    "managers",
    [
        (),
        ({"manager": "kubectl", "operation": "Apply"},),
        ({"manager": labels.FIELD_MANAGER, "operation": "Update"},),
        ({"manager": labels.STATUS_MANAGER, "operation": "Apply"},),
    ],
    ids=["nobody", "another", "a merge of ours", "our status"],
)
def test_labels_alone_say_nothing(managers: tuple[Raw, ...]) -> None:
    """Anybody may write them; and what we merge into objects of others is theirs."""
    assert owners.owner_of(disowned(child(parent()), managers=managers)) is None


@pytest.mark.parametrize(
    ("made", "going", "expected"),
    [
        ("2026-05-01T12:00:00Z", None, True),
        ("2026-05-01T12:00:01Z", None, True),
        ("2026-05-01T11:59:59Z", None, False),
        ("2026-05-01T12:00:01Z", "child", False),
        ("2026-05-01T12:00:01Z", "parent", False),
    ],
)
def test_what_is_older_than_its_parent_or_goes_does_not_return(made: str, going: str | None, expected: bool) -> None:
    chat, raw = parent(), child(parent())
    chat["metadata"]["creationTimestamp"] = "2026-05-01T12:00:00Z"
    raw["metadata"]["creationTimestamp"] = made
    for each in {"parent": [chat], "child": [raw], None: []}[going]:
        each["metadata"]["deletionTimestamp"] = made
    assert owners.may_return(chat, raw) is expected
