from __future__ import annotations

import json

import pytest

from pilotboat.api import labels
from pilotboat.engine.kinds import CONFIG_MAP, FINE_TUNE_JOB, MODEL_DEPLOYMENT, POD, SERVICE, Key
from pilotboat.engine.store import Store
from pilotboat.plan.types import Ref
from tests.unit.engine.objects import child, newer, parent, pod

CHAT = Key("modeldeployments", "ns", "chat")
QA = Key("finetunejobs", "ns", "qa")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    return Store(clock)


def test_a_parent_wakes_itself_and_only_when_it_changed(store: Store) -> None:
    chat = parent()
    assert store.put(MODEL_DEPLOYMENT, chat) == {CHAT}
    assert store.put(MODEL_DEPLOYMENT, chat) == set()
    assert store.put(MODEL_DEPLOYMENT, newer(chat)) == {CHAT}
    assert store.delete(MODEL_DEPLOYMENT, chat) == {CHAT}
    assert store.parent(CHAT) is None


def test_children_wake_their_controller_and_are_found_by_its_uid(store: Store) -> None:
    chat = parent()
    store.put(MODEL_DEPLOYMENT, chat)
    assert store.put(SERVICE, child(chat)) == {CHAT}
    assert store.put(CONFIG_MAP, child(chat, "z", "ConfigMap")) == {CHAT}
    assert [c["metadata"]["name"] for c in store.children(chat)] == ["z", "chat"]
    assert store.children(parent(uid="another")) == ()


def test_pods_are_found_by_label_for_their_owner_is_a_replica_set(store: Store) -> None:
    chat, qa = parent(), parent("qa", "FineTuneJob")
    assert store.put(POD, pod(chat, "b")) == {CHAT}
    assert store.put(POD, pod(chat, "a")) == {CHAT}
    assert store.put(POD, pod(qa, "q", "trainer")) == {QA}
    assert [p["metadata"]["name"] for p in store.pods(CHAT)] == ["a", "b"]
    assert store.delete(POD, pod(chat, "a")) == {CHAT}
    assert [p["metadata"]["name"] for p in store.pods(CHAT)] == ["b"]


def test_a_child_that_changes_hands_wakes_both(store: Store) -> None:
    chat, other = parent(), parent("other")
    service = child(chat)
    store.put(SERVICE, service)
    moved = newer(service)
    moved["metadata"]["ownerReferences"] = child(other)["metadata"]["ownerReferences"]
    assert store.put(SERVICE, moved) == {CHAT, Key("modeldeployments", "ns", "other")}
    assert store.children(chat) == ()
    assert len(store.children(other)) == 1


def test_a_child_that_lost_its_owner_wakes_whose_it_was_and_is_its_orphan(store: Store) -> None:
    chat, service = parent(), child(parent())
    store.put(MODEL_DEPLOYMENT, chat)
    store.put(SERVICE, service)
    assert store.orphans(CHAT, chat) == ()
    lost = newer(service)
    lost["metadata"] |= {
        "ownerReferences": [],
        "managedFields": [{"manager": labels.FIELD_MANAGER, "operation": "Apply"}],
    }
    assert store.put(SERVICE, lost) == {CHAT}
    assert store.children(chat) == ()
    assert [raw["metadata"]["name"] for raw in store.orphans(CHAT, chat)] == ["chat"]
    assert store.put(SERVICE, newer(service)) == {CHAT}
    assert store.orphans(CHAT, chat) == ()


def test_an_older_version_never_replaces_a_newer_one(store: Store) -> None:
    old = parent(status={"x": 1})
    new = newer(old, status={"x": 2})
    store.put(MODEL_DEPLOYMENT, new)
    assert store.put(MODEL_DEPLOYMENT, old) == set()
    found = store.parent(CHAT)
    assert found
    assert found["status"] == {"x": 2}


def test_what_was_deleted_never_comes_back_in_an_older_version(store: Store) -> None:
    chat = parent()
    late = newer(chat)
    store.put(MODEL_DEPLOYMENT, chat)
    store.delete(MODEL_DEPLOYMENT, newer(late))
    assert store.put(MODEL_DEPLOYMENT, late) == set()
    assert store.parent(CHAT) is None


def test_what_only_left_the_watch_comes_back(store: Store) -> None:
    service = child(parent())
    store.put(SERVICE, service)
    store.delete(SERVICE, newer(service))
    assert store.put(SERVICE, newer(service)) == {CHAT}
    assert store.find(SERVICE, "ns", "chat")


def test_a_late_deletion_of_the_former_one_leaves_the_new_one(store: Store) -> None:
    old, new = parent(uid="old"), parent(uid="new")
    store.put(MODEL_DEPLOYMENT, old)
    assert store.put(MODEL_DEPLOYMENT, new) == {CHAT}
    assert store.delete(MODEL_DEPLOYMENT, old) == set()
    found = store.parent(CHAT)
    assert found
    assert found["metadata"]["uid"] == "new"


def test_ghosts_are_what_a_list_lacks_and_nothing_was_heard_of_since(store: Store, clock: Clock) -> None:
    ghost, alive, fresh = parent("ghost"), parent("alive"), parent("fresh")
    store.put(MODEL_DEPLOYMENT, ghost)
    store.put(MODEL_DEPLOYMENT, alive)
    clock.now = began = 2000.0
    clock.now += 1
    store.put(MODEL_DEPLOYMENT, fresh)
    missing = store.missing(MODEL_DEPLOYMENT, None, {"uid-alive"}, began)
    assert [raw["metadata"]["name"] for raw in missing] == ["ghost"]
    assert store.missing(MODEL_DEPLOYMENT, "elsewhere", set(), began) == []


def test_tombstones_are_forgotten_in_the_end(store: Store, clock: Clock) -> None:
    chat = parent()
    store.delete(MODEL_DEPLOYMENT, chat)
    assert store.put(MODEL_DEPLOYMENT, chat) == set()
    clock.now += 10_000
    store.forget_tombstones()
    assert store.put(MODEL_DEPLOYMENT, chat) == {CHAT}


def test_a_reference_wakes_those_who_named_it(store: Store) -> None:
    qa = parent("qa", "FineTuneJob")
    ref = Ref.of(qa)
    store.watch(CHAT, [ref])
    assert store.put(FINE_TUNE_JOB, qa) == {QA, CHAT}
    store.watch(CHAT, [])
    assert store.put(FINE_TUNE_JOB, newer(qa)) == {QA}


def test_pods_are_kept_small_and_managed_fields_nowhere(store: Store) -> None:
    chat = parent()
    chat["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    chat["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}
    store.put(MODEL_DEPLOYMENT, chat)
    made = pod(chat, "a")
    made["spec"]["containers"] = [
        {"name": "server", "image": "i", "resources": {"limits": {"memory": "2Gi", "cpu": 1}}}
    ]
    made["metadata"]["annotations"] = {"a": "b", labels.DELETION_COST: "-1"}
    store.put(POD, made)
    (kept,) = store.pods(CHAT)
    assert kept["metadata"]["annotations"] == {labels.DELETION_COST: "-1"}
    limited = {"name": "server", "resources": {"limits": {"memory": "2Gi"}}}
    assert kept["spec"] == {"nodeName": "n1", "containers": [limited], "initContainers": []}
    assert "hostIP" not in kept["status"]
    found = store.parent(CHAT)
    assert found
    assert found["metadata"]["annotations"] == {"a": "b"}
    assert "managedFields" not in json.dumps([kept, found])


def test_what_is_kept_is_nobody_elses(store: Store) -> None:
    chat = parent(spec={"engine": "LlamaCpp", "note": "Größe\ud7ff"})
    store.put(MODEL_DEPLOYMENT, chat)
    chat["spec"]["engine"] = "changed by the giver"
    first = store.parent(CHAT)
    assert first
    assert first["spec"] == {"engine": "LlamaCpp", "note": "Größe\ud7ff"}
    first["spec"]["engine"] = "changed by the taker"
    assert (store.parent(CHAT) or {})["spec"]["engine"] == "LlamaCpp"


def test_nothing_is_kept_of_what_is_gone(store: Store) -> None:
    chat = parent()
    objects = [(MODEL_DEPLOYMENT, chat), (SERVICE, child(chat)), (POD, pod(chat, "a"))]
    for kind, raw in objects:
        store.put(kind, raw)
    for kind, raw in objects:
        store.delete(kind, raw)
    assert not store._owned
    assert not store._pods
    assert all(not table.objects and not table.seen for table in store._tables.values())
