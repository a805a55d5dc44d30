"""A FineTuneJob from its creation to its record: what is made, what is said, and what is never said."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.crd import FINE_TUNE_JOB
from pilotboat.plan import PLANNERS, build
from pilotboat.plan.types import Plan, Ref, Refusal, Rejection
from unit.plan.world import (
    LATER,
    NAMESPACE,
    NOW,
    SETTINGS,
    Pod,
    Raw,
    check_schema,
    condition,
    ended,
    job_spec,
    observed,
    parent,
    report,
    types,
)

DATA = {build.config_map(NAMESPACE, "data"): {"data": {"train.jsonl": "{}"}}}
RESULT = {
    "type": "Adapter",
    "path": "qa/adapter",
    "digests": {"adapter_model.safetensors": "a" * 64},
    "steps": 40,
    "trainLoss": 1.25,
    "trainableParameters": 274,
    "totalParameters": 100000,
    "examples": 12,
    "datasetSha256": "b" * 64,
}
GOOD = report("Trained", "done", RESULT)
COMPLETE = {"type": "Complete", "status": "True", "lastTransitionTime": LATER}


def failed(reason: str, message: str) -> Raw:
    return {"type": "Failed", "status": "True", "reason": reason, "message": message, "lastTransitionTime": LATER}


def batch(*conditions: Raw, suspend: bool = False, uid: str = "uid-job", **status: Any) -> Raw:
    """The live Job: what the planner makes, with what the Job controller says of it."""
    manifest = next(m for m in planned(None).apply if m["kind"] == "Job")
    meta = {**manifest["metadata"], "uid": uid, "generation": 1}
    spec = {**manifest["spec"], "suspend": suspend}
    return {**manifest, "metadata": meta, "spec": spec, "status": {"conditions": list(conditions), **status}}


def pod(name: str = "qa-1", uid: str = "uid-job") -> Pod:
    return Pod(name, instance="qa", component="trainer").owned(uid)


def ran(code: int, message: str, name: str = "qa-1", kubelet: str = "Error", at: str = LATER) -> Pod:
    """A pod whose trainer ended."""
    fetched = pod(name).fetched({"items": {"base": {"revision": "abc"}, "dataset": {"digests": {"t": "c" * 64}}}})
    over = {"terminated": ended(code, kubelet if code else "Completed", message, at)}
    return fetched.container("trainer", over).over("Failed" if code else "Succeeded")


def planned(live: Raw | None, *pods: Pod, spec: Raw | None = None, status: Raw | None = None, **more: Any) -> Plan:
    made = parent("FineTuneJob", "qa", spec or job_spec(), generation=more.pop("generation", 1), status=status)
    more.setdefault("references", DATA)
    children = [live] if live else []
    plan = PLANNERS["finetunejobs"].plan(observed(made, list(pods), children, **more), SETTINGS, NOW)
    if plan.status is not None:
        check_schema(FINE_TUNE_JOB, plan.status)
    return plan


def kinds(plan: Plan) -> list[str]:
    return [manifest["kind"] for manifest in plan.apply]


def says(plan: Plan, kind: str) -> tuple[str, str, str]:
    found = condition(plan.status, kind)
    return found["status"], found["reason"], found["message"]


def test_a_new_job_gets_its_configuration_its_volume_and_its_job() -> None:
    plan = planned(None)
    assert kinds(plan) == ["ConfigMap", "PersistentVolumeClaim", "Job"]
    assert all(m["metadata"]["ownerReferences"][0]["uid"] == "uid-qa" for m in plan.apply)
    assert says(plan, "Running") == ("False", "Starting", "the pod is being created")
    assert plan.status is not None
    assert plan.status["phase"] == "Pending"
    assert types(plan.status) == {"SpecValid": "True", "DataReady": "False", "Running": "False"}


@pytest.mark.parametrize(
    ("references", "changes", "reason", "words"),
    [
        ({build.config_map(NAMESPACE, "data"): None}, {}, "ConfigMapNotFound", "ConfigMap data does not exist"),
        ({build.config_map(NAMESPACE, "data"): {"data": {}}}, {}, "ConfigMapNotFound", "has no key train.jsonl"),
        (
            DATA | {build.claim(NAMESPACE, "w"): None},
            {"base": {"source": {"pvc": {"claimName": "w"}}}},
            "PersistentVolumeClaimNotFound",
            "PersistentVolumeClaim w does not exist in namespace ml",
        ),
        (
            DATA | {build.claim(NAMESPACE, "out"): None},
            {"output": {"pvc": {"claimName": "out"}}},
            "PersistentVolumeClaimNotFound",
            "PersistentVolumeClaim out does not exist",
        ),
    ],
)
def test_a_missing_input_is_named_and_looked_for_again(
    references: dict[Ref, Any], changes: Raw, reason: str, words: str
) -> None:
    plan = planned(None, spec=job_spec(**changes), references=references)
    assert kinds(plan) == []
    assert plan.requeue_after
    for kind in ("DataReady", "Running"):
        status, told, message = says(plan, kind)
        assert (status, told) == ("False", reason)
        assert words in message
    assert [(event.type, event.reason) for event in plan.events] == [("Warning", reason)]


def test_an_input_deleted_once_the_job_runs_changes_nothing() -> None:
    plan = planned(batch(), pod().serving(), references={build.config_map(NAMESPACE, "data"): None})
    assert says(plan, "Running")[:2] == ("True", "Training")


def test_a_running_job_is_left_alone() -> None:
    plan = planned(batch(), pod().serving())
    assert "Job" not in kinds(plan)
    assert plan.status is not None
    assert plan.status["phase"] == "Running"
    assert says(plan, "DataReady")[:2] == ("True", "Fetched")


def test_suspend_and_resume_reach_the_job_with_its_whole_spec() -> None:
    live = batch()
    stop = planned(live, pod().serving(), spec=job_spec(suspend=True), generation=2)
    (job,) = (m for m in stop.apply if m["kind"] == "Job")
    assert job["spec"] == live["spec"] | {"suspend": True}
    assert says(stop, "Suspended")[0] == "True"
    held = planned(batch(suspend=True), spec=job_spec(suspend=True), status=stop.status, generation=2)
    assert "Job" not in kinds(held)
    assert says(held, "Running")[:2] == ("False", "Suspended")
    go = planned(batch(suspend=True), status=held.status, generation=3)
    (job,) = (m for m in go.apply if m["kind"] == "Job")
    assert job["spec"]["suspend"] is False
    assert says(go, "Suspended") == ("False", "Resumed", "spec.suspend is false again")


def test_a_deadline_can_be_given_changed_and_taken_away() -> None:
    given_later = planned(batch(), spec=job_spec(activeDeadlineSeconds=60))
    (job,) = (m for m in given_later.apply if m["kind"] == "Job")
    assert job["spec"]["activeDeadlineSeconds"] == 60
    live = batch()
    live["spec"]["activeDeadlineSeconds"] = 60
    (job,) = (m for m in planned(live).apply if m["kind"] == "Job")
    assert "activeDeadlineSeconds" not in job["spec"]


def test_what_was_left_out_is_shown_as_it_will_be() -> None:
    status = planned(None).status
    assert status is not None
    assert status["effective"]["method"] == {
        "type": "LoRA",
        "lora": {"rank": 16, "alpha": 32, "targetModules": ["q_proj", "v_proj"], "dropout": 0.1},
    }
    assert status["effective"]["training"]["epochs"] == 1


def test_a_result_without_digests_is_one_all_the_same() -> None:
    """The trainer leaves them out where they do not fit its message; one digest stands for all."""
    told = report("Trained", "done", RESULT | {"digests": {}, "filesSha256": "f" * 64})
    status = planned(batch(COMPLETE), ran(0, told)).status
    assert status is not None
    assert (status["phase"], status["output"]["filesSha256"]) == ("Complete", "f" * 64)


def test_complete() -> None:
    plan = planned(batch(COMPLETE, startTime=NOW.isoformat()), ran(0, GOOD))
    assert plan.status is not None
    assert plan.status["phase"] == "Complete"
    assert plan.status["output"] == {
        "type": "Adapter",
        "claimName": "qa-output",
        "path": "qa/adapter",
        "digests": RESULT["digests"],
    }
    assert plan.status["base"] == {"revision": "abc"}
    assert says(plan, "Complete") == (
        *("True", "Trained", "40 steps over 12 examples, loss 1.250, 0.274 % of the weights trained"),
    )
    assert says(plan, "Published")[:2] == ("True", "Published")
    assert {event.type for event in plan.events} == {"Normal"}


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        (0, "40 steps over 12 examples, loss"),
        (3, "40 steps over 12 of 15 examples (3 left out: no answer within maxLength), loss"),
        (88, "40 steps over only 12 of 100 examples (88 left out: no answer within maxLength), loss"),
    ],
)
def test_what_a_training_left_out_is_told(left_out: int, words: str) -> None:
    told = report("Trained", "done", RESULT | {"leftOut": left_out})
    assert words in says(planned(batch(COMPLETE), ran(0, told)), "Complete")[2]


def test_the_news_of_the_job_may_come_before_that_of_its_pod() -> None:
    """Found once: the record said for ever that the report was lost, over a run that had succeeded."""
    for pods in ([pod().serving()], [pod().fetched(), ran(1, "x", "qa-0")]):
        for told in (COMPLETE, failed("BackoffLimitExceeded", "Job has reached the specified backoff limit")):
            plan = planned(batch(told), *pods)
            assert not {"Complete", "Failed"} & set(types(plan.status))
    plan = planned(batch(COMPLETE), pod().fetched())
    assert plan.status is not None
    assert plan.status["phase"] == "Completing"


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        ([], "the trainer's report was lost with its pod"),
        ([ran(0, "just logs")], "ended well without a report"),
        ([ran(0, report("Trained", "done", {"type": "Banana"}))], "ended well without a report"),
    ],
)
def test_complete_without_a_report_is_no_success(pods: list[Pod], words: str) -> None:
    plan = planned(batch(COMPLETE), *pods)
    status, reason, message = says(plan, "Failed")
    assert (status, reason) == ("True", "TrainingFailed")
    assert words in message
    assert "Complete" not in types(plan.status)
    assert any(event.type == "Warning" for event in plan.events)


@pytest.mark.parametrize(
    ("said", "pods", "reason", "words"),
    [
        (
            failed("PodFailurePolicy", "Container trainer for pod ml/qa-1 failed with exit code 64"),
            [ran(64, report("InvalidDataset", "line 3: no messages"))],
            "InvalidDataset",
            "line 3: no messages",
        ),
        (
            failed("BackoffLimitExceeded", "Job has reached the specified backoff limit"),
            [ran(1, "old", "qa-1", at="2026-05-01T11:20:00Z"), ran(137, "", "qa-2", "OOMKilled").limited("8Gi")],
            "ContainerOOMKilled",
            "more memory than its limit of 8Gi",
        ),
        (
            failed("BackoffLimitExceeded", "Job has reached the specified backoff limit"),
            [],
            "BackoffLimitExceeded",
            "specified backoff limit",
        ),
        (
            failed("DeadlineExceeded", "Job was active longer than specified deadline"),
            [ran(143, "")],
            "DeadlineExceeded",
            "longer than specified deadline",
        ),
        (
            failed("PodFailurePolicy", "exit code 64"),
            [
                ran(1, "first try", "qa-1", at="2026-05-01T11:10:00Z"),
                pod("qa-2").failed_fetch("ChecksumMismatch", "base differs").over("Failed"),
            ],
            "ChecksumMismatch",
            "base differs",
        ),
    ],
)
def test_failed_names_the_last_cause(said: Raw, pods: list[Pod], reason: str, words: str) -> None:
    plan = planned(batch(said), *pods)
    for kind in ("Failed", "Running"):
        _, told, message = says(plan, kind)
        assert told == reason
        assert words in message
    assert plan.status is not None
    assert plan.status["phase"] == "Failed"
    assert [event.type for event in plan.events if event.reason == reason] == ["Warning"]


def test_a_retry_says_why_it_was_needed_and_what_it_does_now() -> None:
    plan = planned(batch(failed=1), ran(1, "CUDA error"), pod("qa-2").fetching())
    status, reason, message = says(plan, "Running")
    assert (status, reason) == ("False", "Restarting")
    assert "CUDA error" in message
    assert "now qa-2: fetching" in message
    assert plan.status is not None
    assert (plan.status["phase"], plan.status["restarts"]) == ("Restarting", 1)


def test_a_retry_that_cannot_be_placed_says_that() -> None:
    stuck = pod("qa-2").unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    assert says(planned(batch(failed=1), ran(1, "x"), stuck), "Running")[1] == "Unschedulable"


def test_pods_of_an_earlier_job_of_the_name_do_not_speak_for_this_one() -> None:
    plan = planned(batch(uid="uid-new"), ran(0, GOOD), pod("qa-0").serving())
    assert types(plan.status) == {"SpecValid": "True", "DataReady": "False", "Running": "False"}


def test_a_job_deleted_by_hand_is_made_again_before_the_end_and_not_after() -> None:
    running = planned(batch(), pod().serving()).status
    assert "Job" in kinds(planned(None, status=running))
    record = planned(batch(COMPLETE), ran(0, GOOD)).status
    assert planned(None, status=record) == Plan()


def test_a_record_changes_no_more_save_for_the_generation_it_was_read_at() -> None:
    record = planned(batch(COMPLETE), ran(0, GOOD)).status
    assert record is not None
    plan = planned(batch(COMPLETE), spec=job_spec(suspend=True), status=record, generation=2)
    assert plan == Plan(status=record | {"observedGeneration": 2})


@pytest.mark.parametrize(
    ("refusal", "reason", "words"),
    [
        (Rejection(Refusal.NAME_TAKEN, "Job qa exists and was made by somebody else"), "NameTaken", "somebody else"),
        (Rejection(Refusal.FORBIDDEN, "exceeded quota: gpus"), "PodRejected", "exceeded quota: gpus"),
    ],
)
def test_what_the_api_server_refuses_is_told(refusal: Rejection, reason: str, words: str) -> None:
    plan = planned(None, rejected={Ref("batch/v1", "Job", NAMESPACE, "qa"): refusal})
    assert says(plan, "Running")[1] == reason
    assert words in says(plan, "Running")[2]


def test_an_invalid_spec_names_the_field_and_makes_nothing() -> None:
    plan = planned(None, spec=job_spec(backoffLimit=-1))
    assert plan.apply == ()
    assert says(plan, "SpecValid")[1] == "InvalidSpec"
    assert "spec.backoffLimit" in says(plan, "SpecValid")[2]
    assert plan.status is not None
    assert plan.status["phase"] == "Invalid"


def test_an_invalid_spec_does_not_hide_a_running_job() -> None:
    plan = planned(batch(), pod().serving(), spec=job_spec(backoffLimit=-1))
    assert types(plan.status) == {"SpecValid": "False", "DataReady": "True", "Running": "True"}


def test_a_checkpoint_is_named() -> None:
    progress = {"progress": {"step": 60, "lastCheckpoint": {"step": 50, "path": "checkpoints/50"}}}
    assert says(planned(batch(), pod().serving(), status=progress), "Checkpointed") == (
        *("True", "CheckpointSaved", "a restart continues from step 50"),
    )


PODS = [
    *(lambda n: pod(n), lambda n: pod(n).fetching(), lambda n: pod(n).serving(), lambda n: ran(0, GOOD, n)),
    *(lambda n: ran(1, "boom", n), lambda n: ran(143, report("CheckpointSaved", "at 50"), n)),
    *(lambda n: ran(64, report("InvalidDataset", "no"), n), lambda n: pod(n).failed("Evicted", "memory")),
    *(lambda n: pod(n, uid="uid-old").serving(), lambda n: ran(0, '{"pilotboat": 1, "reason": "X", "result": 7}', n)),
    *(lambda n: pod(n).serving().leaving(), lambda n: pod(n).unschedulable("Insufficient memory")),
]
SAID = [[], [COMPLETE], [failed("BackoffLimitExceeded", "x")], [failed("DeadlineExceeded", "y")]]


@given(
    makers=st.lists(st.sampled_from(PODS), max_size=4),
    said=st.sampled_from(SAID),
    suspend=st.booleans(),
    live=st.booleans(),
)
def test_whatever_is_seen_status_is_sound_and_stays_the_same(
    makers: list[Any], said: list[Raw], suspend: bool, live: bool
) -> None:
    pods = [make(f"qa-{number}") for number, make in enumerate(makers)]
    spec = job_spec(suspend=suspend)
    made = parent("FineTuneJob", "qa", spec)
    children = [batch(*said, suspend=suspend)] if live else []
    seen = observed(made, pods, children, references=DATA)
    planner = PLANNERS["finetunejobs"]
    first = planner.plan(seen, SETTINGS, NOW)
    assert first.status is not None
    check_schema(FINE_TUNE_JOB, first.status)
    now = types(first.status)
    assert not {"Complete", "Failed"} <= set(now)
    if now.get("Complete"):
        assert first.status["output"]
        assert live
        assert COMPLETE in said
    again = observed({**made, "status": first.status}, pods, children, references=DATA)
    second = planner.plan(again, SETTINGS, NOW + timedelta(hours=1))
    assert second.status in (None, first.status)
    assert second.events == ()
    for order in itertools.islice(itertools.permutations(pods), 6):
        mixed = observed(made, list(order), children, references=DATA)
        assert planner.plan(mixed, SETTINGS, NOW).status == first.status


def test_a_pod_that_resumes_fetches_the_very_commits_that_the_first_one_found() -> None:
    hub = {"source": {"huggingFace": {"repo": "org/rows"}}}
    status = {"base": {"revision": "1" * 40}, "dataset": {"revision": "2" * 40}}
    made = parent("FineTuneJob", "qa", job_spec(dataset=hub), status=status)
    found = PLANNERS["finetunejobs"].plan(observed(made), SETTINGS, NOW)
    config = next(manifest for manifest in found.apply if manifest["kind"] == "ConfigMap")
    items = json.loads(config["data"]["fetch.json"])["items"]
    assert [item["huggingFace"]["revision"] for item in items] == ["1" * 40, "2" * 40]


def test_base_and_dataset_have_a_token_each_and_the_trainer_has_none() -> None:
    def gated(secret: str) -> Raw:
        return {"source": {"huggingFace": {"repo": "org/gated", "tokenSecretRef": {"name": secret}}}}

    made = planned(None, spec=job_spec(base=gated("for-base"), dataset=gated("for-rows")))
    manifests = {manifest["kind"]: manifest for manifest in made.apply}
    items = json.loads(manifests["ConfigMap"]["data"]["fetch.json"])["items"]
    tokens = {"base": "HF_TOKEN_BASE", "dataset": "HF_TOKEN_DATASET"}
    assert {item["name"]: item["tokenEnv"] for item in items} == tokens
    pod = manifests["Job"]["spec"]["template"]["spec"]
    (fetch,) = pod["initContainers"]
    assert fetch["env"] == [
        {"name": "HF_TOKEN_BASE", "valueFrom": {"secretKeyRef": {"name": "for-base", "key": "token"}}},
        {"name": "HF_TOKEN_DATASET", "valueFrom": {"secretKeyRef": {"name": "for-rows", "key": "token"}}},
    ]
    assert not any("HF_TOKEN" in str(container) for container in pod["containers"])


def told_of_gpus(job: Raw) -> list[Raw]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return [entry for entry in container["env"] if entry["name"] == "PILOTBOAT_GPUS"]


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({}, None),
        ({"gpu": {}}, "1"),
        ({"gpu": {"count": 2}}, "2"),
        ({"gpu": {}, "podTemplate": {"env": [{"name": "PILOTBOAT_GPUS", "value": "0"}]}}, "0"),
    ],
)
def test_the_trainer_is_told_of_the_gpus_it_was_given(changes: Raw, value: str | None) -> None:
    made = {manifest["kind"]: manifest for manifest in planned(None, spec=job_spec(**changes)).apply}
    assert told_of_gpus(made["Job"]) == ([{"name": "PILOTBOAT_GPUS", "value": value}] if value else [])
    assert "gpu" not in made["ConfigMap"]["data"]["trainer.json"].lower(), "an older image refuses unknown fields"


def test_a_job_made_before_trainers_were_told_of_gpus_keeps_its_template() -> None:
    """A template cannot change; to be told of a difference would be a refused write, or a Job made anew, for ever."""
    live = batch()
    assert told_of_gpus(live) == []
    running = planned(live, pod().serving(), spec=job_spec(gpu={}))
    assert ("Job" in kinds(running), running.delete) == (False, ())
    assert says(running, "Running")[:2] == ("True", "Training")
    stop = planned(live, pod().serving(), spec=job_spec(gpu={}, suspend=True), generation=2)
    (job,) = (manifest for manifest in stop.apply if manifest["kind"] == "Job")
    assert job["spec"] == live["spec"] | {"suspend": True}
    assert stop.delete == ()
