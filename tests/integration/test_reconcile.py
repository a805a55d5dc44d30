"""What the operator writes, what it leaves alone, and that it comes to rest: on a real API server."""

from __future__ import annotations

from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.engine.engine import utc
from pilotboat.engine.kinds import (
    CHILDREN,
    CONFIG_MAP,
    DEPLOYMENT,
    FINE_TUNE_JOB,
    JOB,
    MODEL_DEPLOYMENT,
    PDB,
    POD,
    PVC,
    SERVICE,
    Kind,
)
from pilotboat.plan import build
from pilotboat.plan.build import dig
from pilotboat.plan.types import Event
from tests.integration.cluster import Cluster
from tests.integration.proxy import Proxy
from tests.integration.running import Running, operator

Raw = dict[str, Any]


def model_deployment(name: str = "chat", **spec: Any) -> Raw:
    """Without a gateway: what changes with one is in test_gateway.py."""
    source = {"huggingFace": {"repo": "google/gemma-3-270m-it"}}
    return {
        "apiVersion": labels.API_VERSION,
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"model": {"source": source}, "replicas": 2, "traffic": "Direct", **spec},
    }


def reported(objects: list[Raw]) -> bool:
    """Every parent has a status of its newest generation."""
    return bool(objects) and all(
        (raw.get("status") or {}).get("observedGeneration") == raw["metadata"]["generation"] for raw in objects
    )


async def settled(cluster: Cluster, running: Running) -> None:
    """The Deployment's controller has nothing more to say, and the operator has seen all it said."""
    await cluster.until(MODEL_DEPLOYMENT, lambda found: reported(found) and found[0]["status"].get("replicas") == 2)
    pods = await cluster.until(POD, lambda found: len(found) == 2)
    await running.until(lambda: running.engine.store.count(POD) == len(pods))
    await running.idle()


async def test_children_are_made_owned_and_reported(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace):
        parent = await cluster.apply(model_deployment())
        await cluster.until(MODEL_DEPLOYMENT, reported)
        for kind in (DEPLOYMENT, SERVICE, PDB):
            (child,) = await cluster.list(kind)
            (owner,) = child["metadata"]["ownerReferences"]
            assert (owner["uid"], owner["controller"]) == (parent["metadata"]["uid"], True)
            assert child["metadata"]["labels"][labels.MANAGED_BY] == labels.MANAGER
            managers = {
                entry["manager"] for entry in child["metadata"]["managedFields"] if not entry.get("subresource")
            }
            assert labels.FIELD_MANAGER in managers


async def test_nothing_of_the_users_object_is_written_but_its_status(cluster: Cluster) -> None:
    before = await cluster.apply(model_deployment())
    async with operator(cluster.configuration, cluster.namespace):
        (after,) = await cluster.until(MODEL_DEPLOYMENT, reported)
    assert after["spec"] == before["spec"]
    ours = [entry for entry in after["metadata"]["managedFields"] if entry["manager"].startswith("pilotboat")]
    assert [(entry["manager"], entry["subresource"]) for entry in ours] == [(labels.STATUS_MANAGER, "status")]
    assert after["metadata"]["generation"] == 1
    assert not after["metadata"].get("annotations")
    assert not after["metadata"].get("finalizers")


async def test_at_rest_nothing_is_written_though_everything_is_looked_at(cluster: Cluster, proxy: Proxy) -> None:
    async with operator(proxy.configuration, cluster.namespace) as running:
        await cluster.apply(model_deployment())
        await settled(cluster, running)
        written = len(proxy.writes)
        passes = running.value("reconciles_total")
        await running.engine.resync.first()
        await running.idle()
        assert running.value("reconciles_total") > passes
        assert len(proxy.writes) == written


async def test_writes_at_creation_are_children_and_status(cluster: Cluster, proxy: Proxy) -> None:
    async with operator(proxy.configuration, cluster.namespace) as running:
        await cluster.apply(model_deployment())
        await cluster.until(MODEL_DEPLOYMENT, reported)
        await running.idle()
    children = [call for call in proxy.writes if "/modeldeployments/" not in call.path]
    assert sorted(call.path.split("/")[-2] for call in children) == [
        *("configmaps", "deployments", "poddisruptionbudgets", "services"),
    ]


DISOWNED: Raw = {"metadata": {"ownerReferences": []}}
"""An edit that takes the owner off."""

DRIFTS: list[tuple[Kind, Raw]] = [
    (DEPLOYMENT, {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 123}}}}),
    (DEPLOYMENT, {"metadata": {"labels": {labels.MANAGED_BY: None}}}),
    (DEPLOYMENT, {"metadata": {"labels": {labels.NAME: "other"}}}),
    (DEPLOYMENT, {"metadata": {"annotations": {labels.APPLIED: "0"}}}),
    (DEPLOYMENT, {"spec": {"replicas": 7}}),
    (SERVICE, {"spec": {"ports": [{"name": "http", "port": 1234, "targetPort": 1234}]}}),
    (SERVICE, {"spec": {"selector": {labels.INSTANCE: "another"}}}),
    (CONFIG_MAP, {"data": {"server.json": "{}"}}),
    (PDB, {"spec": {"minAvailable": "100%"}}),
    (DEPLOYMENT, DISOWNED),
    (CONFIG_MAP, DISOWNED),
    (SERVICE, {"metadata": {"ownerReferences": [], "labels": {labels.MANAGED_BY: None}}}),
]


@pytest.mark.parametrize(("kind", "drift"), DRIFTS)
async def test_a_hand_edit_of_what_we_own_is_repaired(cluster: Cluster, kind: Kind, drift: Raw) -> None:
    async with operator(cluster.configuration, cluster.namespace, resync=2):
        await cluster.apply(model_deployment())
        await cluster.until(MODEL_DEPLOYMENT, reported)
        (name,) = [
            raw["metadata"]["name"] for raw in await cluster.list(kind) if raw["metadata"].get("ownerReferences")
        ]
        await repaired(cluster, kind, name, drift)


async def repaired(cluster: Cluster, kind: Kind, name: str, drift: Raw) -> None:
    """Edit by hand and wait until it is as it was. Twice: what left the watch's selector must be known again."""

    def essence(raw: Raw) -> Raw:
        return {
            **{field: raw.get(field) for field in ("spec", "data", "rules", "roleRef", "subjects")},
            **{field: raw["metadata"].get(field) for field in ("labels", "ownerReferences")},
            # A Job that was repaired is not as it was made: it has in it what the API server added.
            "stamp": kind == JOB or raw["metadata"]["annotations"][labels.APPLIED],
        }

    def named(found: list[Raw]) -> Raw:
        return next(raw for raw in found if raw["metadata"]["name"] == name)

    before = await cluster.get(kind, name)
    for _ in range(2):
        edited = await cluster.merge(kind, name, drift)
        assert essence(edited) != essence(before)
        await cluster.until(kind, lambda found: essence(named(found)) == essence(before))


JOB_DRIFTS: list[tuple[Kind, str, Raw]] = [
    (CONFIG_MAP, "qa-config", {"data": {"trainer.json": "{}"}}),
    (CONFIG_MAP, "qa-config", {"metadata": {"labels": {labels.MANAGED_BY: None}}}),
    (PVC, "qa-output", {"metadata": {"labels": {labels.MANAGED_BY: None}}}),
    (JOB, "qa", {"spec": {"suspend": True}}),
    (JOB, "qa", {"spec": {"activeDeadlineSeconds": 5}}),
    (JOB, "qa", {"spec": {"backoffLimit": 99}}),
    (JOB, "qa", {"metadata": {"labels": {labels.MANAGED_BY: None}}}),
    (PVC, "qa-output", DISOWNED),
    (JOB, "qa", DISOWNED),
]


@pytest.mark.parametrize(("kind", "name", "drift"), JOB_DRIFTS)
async def test_a_hand_edit_of_what_a_job_owns_is_repaired(cluster: Cluster, kind: Kind, name: str, drift: Raw) -> None:
    made = fine_tune_job("qa")
    made["spec"]["activeDeadlineSeconds"] = 3600

    def begun(found: list[Raw]) -> str:
        return str(dig(found[0], "status", "startTime") or "") if found else ""

    async with operator(cluster.configuration, cluster.namespace, resync=2) as running:
        await cluster.apply(made)
        since = begun(await cluster.until(FINE_TUNE_JOB, begun))
        await running.until(lambda: build.elapsed(since, utc()) >= 1)  # so that something of the deadline is over
        await repaired(cluster, kind, name, drift)


async def test_what_others_add_to_our_objects_stays(cluster: Cluster, proxy: Proxy) -> None:
    async with operator(proxy.configuration, cluster.namespace) as running:
        await cluster.apply(model_deployment())
        await settled(cluster, running)
        written = len(proxy.writes)
        addition = {"metadata": {"annotations": {"team": "ml"}}, "spec": {"sessionAffinity": "ClientIP"}}
        added = await cluster.merge(SERVICE, "chat", addition)
        version = added["metadata"]["resourceVersion"]
        store, name = running.engine.store, (cluster.namespace, "chat")
        await running.until(lambda: (store.find(SERVICE, *name) or added)["metadata"]["resourceVersion"] == version)
        await running.idle()
        assert len(proxy.writes) == written
        assert (await cluster.get(SERVICE, "chat"))["spec"] == added["spec"]


async def test_a_deleted_child_comes_back(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(model_deployment())
        await cluster.until(MODEL_DEPLOYMENT, reported)
        for kind in (SERVICE, DEPLOYMENT, PDB):
            (child,) = await cluster.list(kind)
            await cluster.delete(child)
            gone = child["metadata"]["uid"]
            await cluster.until(kind, lambda found, gone=gone: found and found[0]["metadata"]["uid"] != gone)


async def test_a_child_that_somebody_holds_is_made_anew_once_it_is_let_go(cluster: Cluster) -> None:
    """By a finalizer of his; meanwhile the others are looked after."""
    async with operator(cluster.configuration, cluster.namespace) as running:
        await cluster.apply(model_deployment())
        await cluster.until(MODEL_DEPLOYMENT, reported)
        held = await cluster.merge(SERVICE, "chat", {"metadata": {"finalizers": ["example.org/hold"]}})
        await cluster.delete(held)
        await repaired(cluster, PDB, "chat", {"spec": {"minAvailable": "100%"}})
        assert (await cluster.get(SERVICE, "chat"))["metadata"]["uid"] == held["metadata"]["uid"]
        await cluster.merge(SERVICE, "chat", {"metadata": {"finalizers": []}})
        await cluster.until(SERVICE, lambda found: found and found[0]["metadata"]["uid"] != held["metadata"]["uid"])
        assert running.value("reconciles_total", result="error") == 0


async def test_deleting_the_parent_deletes_everything(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace) as running:
        parent = await cluster.apply(model_deployment())
        await cluster.until(MODEL_DEPLOYMENT, reported)
        await cluster.delete(parent)
        for kind in CHILDREN:
            await cluster.until(kind, lambda found: not any(raw["metadata"].get("ownerReferences") for raw in found))
        await running.idle()
    assert running.value("reconciles_total", result="error") == 0


@pytest.mark.parametrize("marks", [{}, labels.child_labels("server", "chat")], ids=["", "with our labels"])
async def test_a_name_that_somebody_else_has_is_never_taken(cluster: Cluster, marks: Raw) -> None:
    meta = {"name": "chat", "labels": marks}
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 1}]}}
    before = await cluster.apply(theirs)
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(model_deployment())
        (parent,) = await cluster.until(
            MODEL_DEPLOYMENT, lambda found: found and "NameTaken" in str(found[0].get("status"))
        )
        assert "Service chat exists and was made by somebody else" in str(parent["status"])
        after = await cluster.get(SERVICE, "chat")
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        await cluster.delete(after)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: "NameTaken" not in str(found[0]["status"]))


async def test_the_api_servers_refusal_reaches_the_user_in_its_words(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace):
        toleration = {"key": "not a key", "operator": "Exists"}
        await cluster.apply(model_deployment(podTemplate={"tolerations": [toleration]}))
        await cluster.until(
            MODEL_DEPLOYMENT,
            lambda found: found and "tolerations[0].key" in str((found[0].get("status") or {}).get("conditions")),
        )
        await cluster.apply(model_deployment(podTemplate={"tolerations": []}))
        await cluster.until(DEPLOYMENT, bool)
        await cluster.until(
            MODEL_DEPLOYMENT, lambda found: "not a key" not in str(found[0]["status"]) and reported(found)
        )


async def test_the_same_event_is_one_object_counted_up(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace) as running:
        parent = await cluster.apply(model_deployment())
        news = (Event("Warning", "Tested", "the same words"), Event("Normal", "Tested", "other words"))
        for _ in range(3):
            running.engine.recorder.emit(parent, news)
        await running.engine.recorder.flushed()
    async with operator(cluster.configuration, cluster.namespace) as running:
        running.engine.recorder.emit(parent, news[:1])
        await running.engine.recorder.flushed()
    found = {event["message"]: event["count"] for event in await cluster.events("Tested")}
    assert found == {"the same words": 4, "other words": 3}


async def test_a_job_that_completes_wakes_who_serves_it(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace):
        source = {"model": {"source": {"fineTuneJob": {"name": "qa"}}}}
        await cluster.apply({**model_deployment("tuned"), "spec": source})
        (before,) = await cluster.until(MODEL_DEPLOYMENT, reported)
        assert "FineTuneJobNotFound" in str(before["status"])
        await cluster.apply(fine_tune_job("qa"))
        await cluster.until(MODEL_DEPLOYMENT, lambda found: "FineTuneJobNotFound" not in str(found[0]["status"]))


def fine_tune_job(name: str) -> Raw:
    return {
        "apiVersion": labels.API_VERSION,
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "base": {"source": {"huggingFace": {"repo": "google/gemma-3-270m-it"}}},
            "dataset": {"source": {"huggingFace": {"repo": "a/b"}}},
            "output": {"pvc": {"size": "1Gi"}},
        },
    }
