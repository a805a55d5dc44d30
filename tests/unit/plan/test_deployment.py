"""A ModelDeployment: what is made of it, and what its status says while things go wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.api.crd import MODEL_DEPLOYMENT
from pilotboat.plan import PLANNERS, build
from pilotboat.plan.types import Plan, Ref, Refusal, Rejection
from unit.plan.world import (
    LATER,
    NAMESPACE,
    NOW,
    PENDING_SINCE,
    SETTINGS,
    Pod,
    Raw,
    check_schema,
    condition,
    deployment_spec,
    observed,
    parent,
    types,
)

NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
CLAIM = {"model": {"source": {"pvc": {"claimName": "weights"}}}}
TUNED = {"model": {"source": {"fineTuneJob": {"name": "qa"}}}}


def plan(*pods: Pod, children: list[Raw] | None = None, spec: Raw | None = None, **more: Any) -> Plan:
    made = parent(
        "ModelDeployment", "chat", spec or deployment_spec(), more.pop("generation", 1), more.pop("status", None)
    )
    found = PLANNERS["modeldeployments"].plan(observed(made, list(pods), children, **more), SETTINGS, NOW)
    assert found.status is not None
    check_schema(MODEL_DEPLOYMENT, found.status)
    return found


def applied(found: Plan, kind: str) -> Raw:
    return next(m for m in found.apply if m["kind"] == kind)


def live(spec: Raw | None = None, replicas: int = 2, ready: int | None = None, **status: Any) -> Raw:
    """The Deployment of the revision that a spec asks for, as its controller has it."""
    made = applied(plan(spec=spec), "Deployment")
    counts = {"replicas": replicas, "updatedReplicas": replicas, "observedGeneration": 1}
    ready = replicas if ready is None else ready
    meta = {**made["metadata"], "uid": "uid-d", "generation": 1, "creationTimestamp": PENDING_SINCE}
    status = counts | ({"availableReplicas": ready} if ready else {}) | status
    return {**made, "metadata": meta, "spec": {**made["spec"], "replicas": replicas}, "status": status}


def revision(deployment: Raw) -> str:
    return str(deployment["metadata"]["labels"][labels.REVISION])


def pods(deployment: Raw, count: int = 2) -> list[Pod]:
    return [Pod(f"{deployment['metadata']['name']}-{n}", revision=revision(deployment)) for n in range(count)]


def serving(deployment: Raw, count: int = 2) -> list[Pod]:
    return [pod.serving() for pod in pods(deployment, count)]


def says(found: Plan, kind: str) -> tuple[str, str, str]:
    told = condition(found.status, kind)
    return told["status"], told["reason"], told["message"]


def test_a_new_deployment_gets_its_children_with_an_owner_and_labels() -> None:
    found = plan()
    assert [m["kind"] for m in found.apply] == [
        *("ConfigMap", "Deployment", "Service", "ConfigMap", "Service", "PodDisruptionBudget"),
    ]
    for manifest in found.apply:
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == ("uid-chat", True)
        assert manifest["metadata"]["labels"][labels.MANAGED_BY] == labels.MANAGER
    deployment = applied(found, "Deployment")
    assert deployment["metadata"]["name"] == f"chat-{revision(deployment)}"
    assert deployment["spec"]["replicas"] == 2
    assert says(found, "Ready") == ("False", "Starting", "0 of 2 replicas are ready")
    assert types(found.status)["Progressing"] == "True"


def test_the_revision_is_what_changes_the_pods_and_nothing_else() -> None:
    base = revision(applied(plan(), "Deployment"))
    same: list[Raw] = [{"replicas": 5}, {"service": {"port": 9999}}]
    other: list[Raw] = [
        *({"inference": {"batchSize": 9}}, {"engine": {"image": "x"}}, {"zones": {"spread": "Required"}}),
        *({"podTemplate": {"labels": {"a": "b"}}}, {"gpu": {"count": 1}}, {"service": {"workers": 2}}),
    ]
    assert {revision(applied(plan(spec=deployment_spec(**each)), "Deployment")) for each in same} == {base}
    others = {revision(applied(plan(spec=deployment_spec(**each)), "Deployment")) for each in other}
    assert len(others | {base}) == len(other) + 1


def test_whole_and_at_rest() -> None:
    deployment = live()
    found = plan(*serving(deployment), children=[deployment])
    assert types(found.status) == {
        "SpecValid": "True",
        "ArtifactReady": "True",
        "GatewayReady": "True",
        "Available": "True",
        "Ready": "True",
        "Progressing": "False",
    }
    assert found.status is not None
    assert found.status["ready"] == "2/2"
    assert found.status["currentRevision"] == found.status["updateRevision"] == revision(deployment)
    assert found.status["selector"] == f"{labels.INSTANCE}=chat,{labels.COMPONENT}=server"
    assert [(found.events[-1].type, found.events[-1].reason)] == [("Normal", "RolledOut")]
    assert plan(*serving(deployment), children=[deployment], status=found.status).events == ()


def test_ready_waits_for_the_deployments_own_controller() -> None:
    """Its template was edited by hand and put right: until that is seen, pods of either may be running."""
    deployment = live()
    deployment["metadata"]["generation"] = 2
    assert types(plan(*serving(deployment), children=[deployment]).status)["Ready"] == "False"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda p: p.unschedulable(NO_GPU), "Unschedulable"),
        (lambda p: p.waiting("ImagePullBackOff", "not found"), "ImagePullError"),
        (lambda p: p.waiting("CreateContainerConfigError", 'secret "hf" not found'), "SecretNotFound"),
        (lambda p: p.died(137, "OOMKilled"), "ContainerOOMKilled"),
        (lambda p: p.looping(1, message="boom"), "CrashLoopBackOff"),
        (lambda p: p.failed_fetch("HubAuthFailed", "401"), "HubAuthFailed"),
    ],
)
def test_a_fault_of_one_pod_is_the_cause(spoil: Any, reason: str) -> None:
    deployment = live(ready=1)
    good, bad = pods(deployment)
    found = plan(good.serving(), spoil(bad), children=[deployment])
    assert types(found.status)["Available"] == "True"
    for kind in ("Ready", "Progressing"):
        status, told, message = says(found, kind)
        assert (status, told) == ("False", reason)
        assert bad.raw["metadata"]["name"] in message
    assert [event.type for event in found.events if event.reason == reason] == ["Warning"]


def test_the_last_failure_stays_until_all_is_well_and_then_goes() -> None:
    deployment = live(ready=1)
    good, bad = pods(deployment)
    broken = plan(good.serving(), bad.looping(1, message="boom"), children=[deployment]).status
    assert broken is not None
    assert "boom" in broken["lastFailure"]["message"]
    replaced = plan(good, Pod("chat-new", revision=revision(deployment)), children=[deployment], status=broken).status
    assert replaced is not None
    assert replaced["lastFailure"] == broken["lastFailure"]
    whole = plan(*serving(deployment), children=[live()], status=broken).status
    assert whole is not None
    assert "lastFailure" not in whole


def test_pods_that_shut_down_are_no_failure() -> None:
    deployment = live()
    gone = Pod("chat-gone", revision=revision(deployment)).died(137).leaving()
    found = plan(*serving(deployment), gone, children=[deployment])
    assert types(found.status)["Ready"] == "True"


def test_quota_is_told_where_no_pod_could_be_made() -> None:
    message = 'pods "chat-x" is forbidden: exceeded quota: gpus'
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    deployment = live(ready=0, conditions=[failure])
    found = plan(children=[deployment])
    assert says(found, "Ready") == ("False", "PodRejected", message)
    assert says(found, "ArtifactReady") == ("False", "PodRejected", message)


def test_no_room_for_a_new_revision_is_told_as_that_and_the_old_serves() -> None:
    old = live()
    changed = deployment_spec(inference={"batchSize": 9})
    new = live(changed, replicas=1, ready=0)
    (waiting,) = pods(new, 1)
    found = plan(*serving(old), waiting.unschedulable(NO_GPU), children=[old, new], spec=changed, generation=2)
    assert types(found.status)["Available"] == "True"
    assert says(found, "Ready")[1] == "InsufficientSurgeCapacity"


def test_no_room_for_one_replica_more_is_not_told_as_a_rollout() -> None:
    deployment = live(replicas=3, ready=2)
    *good, stuck = pods(deployment, 3)
    found = plan(
        *(pod.serving() for pod in good),
        stuck.unschedulable(NO_GPU),
        children=[deployment],
        spec=deployment_spec(replicas=3),
    )
    assert says(found, "Ready")[1] == "Unschedulable"


def test_a_rollout_counts_what_is_done() -> None:
    old = live()
    changed = deployment_spec(inference={"batchSize": 9})
    new = live(changed, replicas=1, ready=0)
    found = plan(*serving(old), pods(new, 1)[0].loading(), children=[old, new], spec=changed)
    assert says(found, "Ready") == ("False", "RollingOut", "0 of 2 replicas updated, 2 of older revisions remain")


def test_an_evicted_pod_is_history_once_its_replacement_runs() -> None:
    deployment = live(replicas=3, ready=2)
    old = Pod("chat-0", revision=revision(deployment)).failed("Evicted", "low on memory")
    found = plan(
        old,
        *serving(deployment),
        Pod("chat-z", revision=revision(deployment)).made(LATER).loading(),
        children=[deployment],
        spec=deployment_spec(replicas=3),
    )
    assert says(found, "Ready")[1] == "Loading"


def test_zero_replicas_are_ready_and_not_available() -> None:
    spec = deployment_spec(replicas=0)
    found = plan(children=[live(spec, replicas=0)], spec=spec)
    assert types(found.status)["Ready"] == "True"
    assert says(found, "Available") == ("False", "ScaledToZero", "spec.replicas is 0")
    assert says(found, "ArtifactReady")[1] == "ScaledToZero"
    assert {event.type for event in found.events} == {"Normal"}


def test_an_invalid_spec_changes_nothing_that_runs() -> None:
    deployment = live()
    before = plan(*serving(deployment), children=[deployment]).status
    bad = deployment_spec(inference={"batchSize": 0})
    found = plan(*serving(deployment), children=[deployment], spec=bad, status=before, generation=2)
    assert (found.apply, found.delete) == ((), ())
    assert types(found.status) == {
        "SpecValid": "False",
        "ArtifactReady": "True",
        "GatewayReady": "False",
        "Available": "True",
        "Ready": "False",
        "Progressing": "False",
    }
    assert "spec.inference.batchSize" in says(found, "Ready")[2]


def test_an_invalid_spec_does_not_hide_why_nothing_is_available() -> None:
    deployment = live(ready=0)
    bad = deployment_spec(inference={"batchSize": 0})
    found = plan(*(p.looping(1, message="boom") for p in pods(deployment)), children=[deployment], spec=bad)
    assert says(found, "Available")[1] == "CrashLoopBackOff"
    assert says(found, "Ready")[1] == "InvalidSpec"


@pytest.mark.parametrize(
    ("spec", "ref", "found", "reason"),
    [
        (CLAIM, build.claim(NAMESPACE, "weights"), None, "PersistentVolumeClaimNotFound"),
        (TUNED, build.fine_tune_job(NAMESPACE, "qa"), None, "FineTuneJobNotFound"),
        (
            TUNED,
            build.fine_tune_job(NAMESPACE, "qa"),
            {"metadata": {"name": "qa"}, "status": {}},
            "WaitingForFineTuneJob",
        ),
        (
            TUNED,
            build.fine_tune_job(NAMESPACE, "qa"),
            {"metadata": {"name": "qa"}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}},
            "FineTuneJobFailed",
        ),
        (
            TUNED,
            build.fine_tune_job(NAMESPACE, "qa"),
            {
                "metadata": {"name": "qa"},
                "status": {
                    "conditions": [{"type": "Complete", "status": "True"}],
                    "output": {"type": "Adapter", "claimName": "out", "path": "/../etc"},
                },
            },
            "FineTuneJobFailed",
        ),
    ],
)
def test_a_source_that_is_not_there_is_named(spec: Raw, ref: Ref, found: Raw | None, reason: str) -> None:
    told = plan(spec=deployment_spec(**spec), references={ref: found})
    assert told.apply == ()
    assert told.requeue_after
    for kind in ("ArtifactReady", "Available", "Ready"):
        assert says(told, kind)[:2] == ("False", reason)
    assert told.status is not None
    assert "url" not in told.status


@pytest.mark.parametrize("tuned", [False, True], ids=["its own model", "a tuned model's base"])
def test_the_hubs_token_comes_to_fetch_alone_under_the_name_that_its_configuration_tells(tuned: bool) -> None:
    gated = {"huggingFace": {"repo": "org/gated", "tokenSecretRef": {"name": "hub", "key": "read"}}}
    output = {"type": "Adapter", "claimName": "qa-output", "path": "qa/adapter"}
    job = {
        "metadata": {"name": "qa"},
        "spec": {"base": {"source": gated}},
        "status": {"conditions": [{"type": "Complete", "status": "True"}], "output": output},
    }
    spec = deployment_spec(**(TUNED if tuned else {"model": {"source": gated}}))
    found = plan(spec=spec, references={build.fine_tune_job(NAMESPACE, "qa"): job} if tuned else {})
    item = json.loads(applied(found, "ConfigMap")["data"]["fetch.json"])["items"][0]
    assert (item["name"], item["tokenEnv"]) == ("model", "HF_TOKEN_MODEL")
    pod = applied(found, "Deployment")["spec"]["template"]["spec"]
    token = {"name": "HF_TOKEN_MODEL", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "read"}}}
    assert [c.get("env") for c in pod["initContainers"]] == [[token]]
    assert not any("HF_TOKEN" in str(container) for container in pod["containers"])


FIRST, OTHER = "1" * 40, "2" * 40


def found_at(commit: str, made: str) -> Pod:
    """A pod of the revision whose fetch container found the hub's branch at that commit."""
    (made_by,) = pods(live(), 1)
    return made_by.fetched({"items": {"model": {"revision": commit}}}).made(made)


def asked_for(found: Plan) -> str:
    """Revision of the hub's repository that pods made from now on fetch."""
    items = json.loads(applied(found, "ConfigMap")["data"]["fetch.json"])["items"]
    return str(items[0]["huggingFace"]["revision"])


def test_a_branch_is_resolved_once_for_all_pods_of_a_revision() -> None:
    unknown = plan()
    assert asked_for(unknown) == "main"
    known = plan(found_at(FIRST, LATER))
    assert asked_for(known) == FIRST
    assert applied(known, "Deployment") == applied(unknown, "Deployment"), "the same revision, and nothing restarts"
    kept = [applied(known, "ConfigMap")]
    assert asked_for(plan(children=kept)) == FIRST, "its pods may be gone"
    assert asked_for(plan(found_at(OTHER, PENDING_SINCE), found_at(FIRST, LATER), children=kept)) == FIRST
    assert asked_for(plan(found_at(OTHER, LATER), found_at(FIRST, PENDING_SINCE))) == FIRST, "the eldest pod's"


def test_a_commit_that_no_pod_has_found_is_repaired() -> None:
    edited = applied(plan(found_at(OTHER, LATER)), "ConfigMap")
    assert asked_for(plan(found_at(FIRST, LATER), children=[edited])) == FIRST
    broken = {**edited, "data": {"fetch.json": "{"}}
    assert asked_for(plan(children=[broken])) == "main"


def test_a_tuned_model_is_served_from_its_base_as_it_was_resolved() -> None:
    digests = {"model.safetensors": "a" * 64}
    job = {
        "metadata": {"name": "qa"},
        "spec": {"base": {"source": {"huggingFace": {"repo": "org/base"}}}},
        "status": {
            "conditions": [{"type": "Complete", "status": "True"}],
            "base": {"revision": "abc123", "digests": digests},
            "output": {"type": "Adapter", "claimName": "qa-output", "path": "qa/adapter", "filesSha256": "f" * 64},
        },
    }
    found = plan(spec=deployment_spec(**TUNED), references={build.fine_tune_job(NAMESPACE, "qa"): job})
    data = applied(found, "ConfigMap")["data"]
    assert '"revision": "abc123"' in data["fetch.json"]
    assert digests["model.safetensors"] in data["fetch.json"]
    assert f'"filesSha256": "{"f" * 64}"' in data["fetch.json"]
    assert '"adapter": "/models/adapter"' in data["server.json"]
    claims = [
        v.get("persistentVolumeClaim") for v in applied(found, "Deployment")["spec"]["template"]["spec"]["volumes"]
    ]
    assert {"claimName": "qa-output", "readOnly": True} in claims


def test_a_name_held_by_somebody_else_is_told_and_not_ready() -> None:
    deployment = live()
    taken = {Ref("v1", "Service", NAMESPACE, "chat"): Rejection(Refusal.NAME_TAKEN, "it was made by somebody else")}
    found = plan(*serving(deployment), children=[deployment], rejected=taken)
    assert says(found, "Ready")[:2] == ("False", "NameTaken")


def test_a_signature_in_an_address_is_not_shown() -> None:
    http = {"urls": ["https://h/models/m.gguf?X-Amz-Signature=abc"], "sha256": "0" * 64}
    found = plan(spec=deployment_spec(model={"source": {"http": http}}))
    assert found.status is not None
    assert found.status["model"]["source"] == "m.gguf"


def test_a_child_whose_labels_were_edited_is_still_known() -> None:
    """Found once: the Deployment counted as an older revision and as absent, and was scaled down to begin anew."""
    deployment = live()
    children = [deployment, {**applied(plan(), "ConfigMap")}]
    for child in children:
        child["metadata"] = {**child["metadata"], "labels": labels.child_labels("server", "chat")}
    found = plan(*(pod for pod in serving(live())), children=children)
    assert applied(found, "Deployment")["spec"]["replicas"] == 2
    assert found.delete == ()
