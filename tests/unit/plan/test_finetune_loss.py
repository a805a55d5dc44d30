"""A trainer's pod whose node is gone: what is done, in what order, and that no step of it can be lost or done twice."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.api.crd import FINE_TUNE_JOB
from pilotboat.plan import PLANNERS, attempts, build
from pilotboat.plan.types import Event, Node, Plan, Ref
from unit.plan.test_finetune import COMPLETE, DATA, GOOD, batch, failed, pod, ran, says
from unit.plan.world import NAMESPACE, NOW, SETTINGS, Pod, Raw, check_schema, job_spec, observed, parent, report, types

JOB = Ref("batch/v1", "Job", NAMESPACE, "qa")
SAVED = {"step": 60, "lastCheckpoint": {"step": 50, "path": "checkpoints/writer-00001/checkpoint-50"}}


def ago(seconds: float) -> str:
    return build.timestamp(NOW - timedelta(seconds=seconds))


def unheard(seconds: float, name: str = "qa-1", uid: str = "uid-job") -> Pod:
    """It trained when it was last heard of, and its node is not heard of since."""
    return pod(name, uid).serving().condition("Ready", "False", since=ago(seconds))


def passed(job: Raw | None, pods: list[Pod], status: Raw | None = None, spec: Raw | None = None) -> Plan:
    made = parent("FineTuneJob", "qa", spec or job_spec(), status=status)
    seen = observed(made, pods, [job] if job else [], references=DATA)
    plan = PLANNERS["finetunejobs"].plan(seen, SETTINGS, NOW)
    if plan.status is not None:
        check_schema(FINE_TUNE_JOB, plan.status)
    return plan


def jobs(plan: Plan) -> list[Raw]:
    return [manifest for manifest in plan.apply if manifest["kind"] == "Job"]


def test_a_node_that_was_silent_for_a_moment_is_given_time() -> None:
    plan = passed(batch(), [unheard(4)])
    assert says(plan, "Running")[:2] == ("True", "Training")
    assert plan.delete == ()
    assert plan.requeue_after == timedelta(seconds=6)


def test_a_lost_pod_is_told_first_then_its_job_is_deleted_then_made_again() -> None:
    told = passed(batch(), [unheard(15)], {"progress": SAVED})
    assert says(told, "Running") == (
        *("False", "NodeLost"),
        f"node node-1 with pod qa-1 is not heard of since {ago(15)}; another pod goes on from step 50",
    )
    assert (told.delete, jobs(told)) == ((), [])
    assert told.requeue_after == timedelta(seconds=1)
    assert [event.reason for event in told.events if event.type == "Warning"] == ["NodeLost"]
    assert told.status is not None
    (attempt,) = told.status["attempts"]
    assert (attempt["pod"], attempt["node"], attempt["reason"]) == ("qa-1", "node-1", "NodeLost")
    assert attempt["endTime"] == ago(15)

    deleted = passed(batch(), [unheard(15)], told.status | {"progress": SAVED})
    assert deleted.delete == (JOB,)
    assert jobs(deleted) == []
    assert deleted.events == ()

    made = passed(None, [unheard(15)], told.status | {"progress": SAVED})
    assert len(jobs(made)) == 1
    assert says(made, "Running")[1] == "Restarting"
    assert "node node-1 with pod qa-1 is not heard of" in says(made, "Running")[2]
    assert "Complete" not in types(made.status)


def test_a_volume_that_only_the_lost_node_can_mount_is_named() -> None:
    made = parent("FineTuneJob", "qa", job_spec(), status={"progress": SAVED})
    for mode, told in (("ReadWriteOnce", True), ("ReadWriteMany", False)):
        claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "qa-output"}, "spec": {"accessModes": [mode]}}
        seen = observed(made, [unheard(15)], [batch(), claim], references=DATA)
        message = says(PLANNERS["finetunejobs"].plan(seen, SETTINGS, NOW), "Running")[2]
        assert message.endswith(", once qa-output (ReadWriteOnce) can be mounted elsewhere") is told


def test_the_pod_that_goes_on_says_from_where_and_only_once_it_has_said_so_itself() -> None:
    lost = passed(batch(), [unheard(15)], {"progress": SAVED}).status
    assert lost is not None
    before = SAVED | {"pod": "qa-1", "resumedFromStep": 20}
    runs = passed(batch(uid="uid-2"), [pod("qa-2", "uid-2").serving()], lost | {"progress": before})
    assert says(runs, "Running")[:2] == ("True", "Training"), (
        "what the earlier pod went on from says nothing of this one"
    )
    after = SAVED | {"pod": "qa-2", "resumedFromStep": 50}
    resumed = passed(batch(uid="uid-2"), [pod("qa-2", "uid-2").serving()], lost | {"progress": after})
    assert says(resumed, "Running") == (
        *("True", "Resumed", "the trainer runs; pod qa-2 went on from the checkpoint of step 50"),
    )
    assert ("Normal", "Resumed") in [(event.type, event.reason) for event in resumed.events]


def test_where_nodes_are_seen_a_pod_is_lost_with_its_node_however_far_it_came() -> None:
    since = NOW - timedelta(seconds=12)
    for far in (pod().serving(), pod().fetching()):
        for node, lost in ((Node("node-1", ready=False, since=since), True), (Node("node-1", since=since), False)):
            made = parent("FineTuneJob", "qa", job_spec())
            seen = observed(made, [far], [batch()], references=DATA, nodes={"node-1": node})
            plan = PLANNERS["finetunejobs"].plan(seen, SETTINGS, NOW)
            assert (says(plan, "Running")[1] == "NodeLost") is lost


def of_three(
    silent: int, job: Raw | None = None, status: Raw | None = None, last: Pod | None = None, **more: Node
) -> Plan:
    """A job whose node is the first of three, of which so many are not heard of; `more`: other nodes' words."""
    words = {f"node-{n}": Node(f"node-{n}", lost="silent" if n <= silent else None) for n in (1, 2, 3)} | more
    since = NOW - timedelta(seconds=15)
    nodes = {name: replace(node, ready=node.lost is None, since=since) for name, node in words.items()}
    made = parent("FineTuneJob", "qa", job_spec(), status=status)
    seen = observed(made, [last or unheard(15)], [job or batch()], references=DATA, nodes=nodes)
    plan = PLANNERS["finetunejobs"].plan(seen, SETTINGS, NOW)
    check_schema(FINE_TUNE_JOB, plan.status or {})
    return plan


@pytest.mark.parametrize("silent", [2, 3])
def test_where_most_nodes_are_silent_it_is_rather_us_and_the_trainer_is_left_alone(silent: int) -> None:
    told = of_three(silent)
    assert says(told, "Running") == (
        *("False", "NodeLost"),
        f"node node-1 with pod qa-1 is not heard of since {ago(15)}; {silent} of 3 nodes are not heard of at once: "
        "that is more likely the observer's fault; no other pod is made until half of them are heard of",
    )
    assert told.status is not None
    assert "reason" not in told.status["attempts"][0], "it may well train on"
    assert told.requeue_after == timedelta(seconds=5), "news of another node would wake nobody"
    later = of_three(silent, status=told.status)
    assert (later.delete, jobs(later), later.events) == ((), [], ())
    assert says(of_three(1, status=told.status), "Running")[2].endswith("another pod begins, for nothing was saved")
    back = passed(batch(), [pod().serving()], told.status)
    assert says(back, "Running")[:2] == ("True", "Training")


def test_what_was_told_as_lost_is_not_deleted_any_more_where_most_fall_silent_and_goes_on_where_it_was() -> None:
    """Kubernetes notices a cut of its own over some seconds; who has been asked to go stays lost all the same."""
    told = of_three(1).status
    assert told is not None
    assert of_three(1, status=told).delete == (JOB,)
    assert of_three(3, status=told).delete == ()
    gone = unheard(15).leaving()
    assert of_three(3, status=told, last=gone).delete == (JOB,)


def test_half_of_the_nodes_are_not_most_and_one_that_is_deleted_is_not_silent() -> None:
    assert says(of_three(2, **{"node-4": Node("node-4")}), "Running")[2].endswith(
        "another pod begins, for nothing was saved"
    )
    made = parent("FineTuneJob", "qa", job_spec())
    others = {name: Node(name, lost="silent", ready=False) for name in ("node-2", "node-3")}
    seen = observed(made, [unheard(15)], [batch()], references=DATA, nodes=others)
    plan = PLANNERS["finetunejobs"].plan(seen, SETTINGS, NOW)
    assert says(plan, "Running")[2].endswith("another pod begins, for nothing was saved"), (
        "its node is no node any more"
    )


def test_a_node_that_comes_back_in_time_keeps_its_pod() -> None:
    told = passed(batch(), [unheard(15)]).status
    back = passed(batch(), [pod().serving()], told)
    assert back.delete == ()
    assert says(back, "Running")[:2] == ("True", "Training")
    assert back.status is not None
    assert "reason" not in back.status["attempts"][0]


def test_a_pod_that_should_have_ended_long_ago_is_lost_too_and_one_that_may_still_end_is_not() -> None:
    def leaving(seconds: float) -> Pod:
        gone = pod().serving()
        gone.raw["metadata"]["deletionTimestamp"] = ago(seconds)
        return gone

    assert says(passed(batch(), [leaving(31)]), "Running")[1] == "NodeLost"
    early = passed(batch(), [leaving(-60)])
    assert says(early, "Running")[1] == "Training"
    assert early.requeue_after == timedelta(seconds=90)
    fetching = pod().fetching()
    fetching.raw["metadata"]["deletionTimestamp"] = ago(31)
    assert says(passed(batch(), [fetching]), "Running")[1] == "NodeLost"


@pytest.mark.parametrize(
    ("job", "spec"),
    [
        (batch(suspend=True), job_spec(suspend=True)),
        (batch(COMPLETE), job_spec()),
        (batch(failed("DeadlineExceeded", "too long")), job_spec()),
    ],
)
def test_a_job_that_is_suspended_or_over_is_not_made_again(job: Raw, spec: Raw) -> None:
    status = passed(job, [unheard(15)], spec=spec).status
    assert passed(job, [unheard(15)], status, spec).delete == ()


def test_resumed_after_a_suspension_it_does_not_wait_for_a_pod_that_is_lost() -> None:
    """The Job controller waits for it until its node is back."""
    held = passed(batch(suspend=True), [unheard(15)], spec=job_spec(suspend=True)).status
    told = passed(batch(suspend=True), [unheard(15)], held)
    assert told.status is not None
    assert passed(batch(suspend=True), [unheard(15)], told.status).delete == (JOB,)


# what is counted


def test_failures_count_over_all_jobs_and_lost_nodes_do_not() -> None:
    """backoffLimit is 3 unless something else is asked for."""
    live = batch(failed=2)
    told = passed(live, [unheard(15)]).status
    assert told is not None
    assert told["restarts"] == 2
    (job,) = jobs(passed(None, [], told))
    assert job["spec"]["backoffLimit"] == 1
    assert job["metadata"]["annotations"] == {labels.FAILED: "2"}
    live = {**job, "metadata": {**job["metadata"], "uid": "uid-job"}, "status": {"failed": 1}}
    assert jobs(passed(live, [], told)) == [], "and what is left is not set back to what was asked for at first"
    live["spec"] = job["spec"] | {"backoffLimit": 99}
    (repaired,) = jobs(passed(live, [], told))
    assert repaired["spec"]["backoffLimit"] == 1
    assert repaired["metadata"]["annotations"] == {labels.FAILED: "2"}, "what an apply leaves out would be taken away"
    later = passed(live, [], told).status
    assert later is not None
    assert later["restarts"] == 3


def test_a_job_is_deleted_only_once_the_failures_of_now_are_told() -> None:
    told = passed(batch(failed=1), [unheard(15)]).status
    assert passed(batch(failed=2), [unheard(15)], told).delete == ()


def test_the_deadline_goes_on_and_the_start_stays() -> None:
    spec = job_spec(activeDeadlineSeconds=3600)
    live = batch(startTime=ago(600))
    live["spec"]["activeDeadlineSeconds"] = 3600
    told = passed(live, [unheard(15)], spec=spec).status
    assert told is not None
    (job,) = jobs(passed(None, [], told, spec))
    assert job["spec"]["activeDeadlineSeconds"] == 3000
    assert job["metadata"]["annotations"] == {labels.SPENT: "600"}
    live = {**job, "metadata": {**job["metadata"], "uid": "uid-2"}, "status": {"startTime": ago(5)}}
    again = passed(live, [pod("qa-2", "uid-2").serving()], told, spec)
    assert jobs(again) == [], "and it is not set back to what was asked for at first"
    assert again.status is not None
    assert again.status["startTime"] == ago(600)
    (changed,) = jobs(passed(live, [], told, job_spec(activeDeadlineSeconds=7200)))
    assert changed["spec"]["activeDeadlineSeconds"] == 6600
    assert changed["metadata"]["annotations"] == {labels.SPENT: "600"}, "what an apply leaves out would be taken away"


def test_an_evicted_trainer_is_told_in_kubelets_words_where_it_left_none_of_its_own() -> None:
    low = "The node was low on resource: memory."
    silent = Pod("qa-1", "qa", "trainer").died(137, "Error", "step 40 of 120").failed("Evicted", low)
    spoke = Pod("qa-2", "qa", "trainer").died(143, "Error", report("CheckpointSaved", "step 40")).failed("Evicted", low)
    told = attempts.record({}, [silent.raw, spoke.raw], {}, NOW)
    assert [(a.pod, a.reason, a.message) for a in told] == [
        ("qa-1", "PodEvicted", f"qa-1: {low}"),
        ("qa-2", "CheckpointSaved", "step 40"),
    ]


def test_a_preempted_pod_costs_no_retry_and_is_no_success() -> None:
    (job,) = jobs(passed(None, []))
    ignored = [rule for rule in job["spec"]["podFailurePolicy"]["rules"] if rule["action"] == "Ignore"]
    codes = [rule["onExitCodes"] for rule in ignored if "onExitCodes" in rule]
    assert [(code["containerName"], code["values"]) for code in codes] == [
        ("fetch", [75, 143]),
        ("trainer", [75, 143]),
    ], "a pod is as little to blame where it was told to go while it fetched"
    words = "stopped by SIGTERM at step 50; its checkpoint is saved"
    plan = passed(batch(), [ran(143, report("CheckpointSaved", words))])
    assert says(plan, "Running")[1] == "Restarting"
    assert not {"Complete", "Failed"} & set(types(plan.status))
    assert plan.status is not None
    (attempt,) = plan.status["attempts"]
    assert (attempt["reason"], attempt["message"]) == ("CheckpointSaved", words)


def test_status_remembers_the_last_ten_pods() -> None:
    status: Raw | None = None
    for number in range(14):
        name = f"qa-{number:02}"
        plan = passed(batch(), [ran(1, "boom", name).made(ago(1000 - number))], status)
        status = plan.status
    assert status is not None
    told = status["attempts"]
    assert [attempt["pod"] for attempt in told] == [f"qa-{number:02}" for number in range(4, 14)]
    assert {attempt["reason"] for attempt in told} == {"ContainerFailed"}


def test_of_pods_that_began_in_the_same_second_the_one_that_was_told_first_came_first() -> None:
    first, second = ran(1, "boom", "qa-z").made(ago(60)), pod("qa-a").serving().made(ago(60))
    status = passed(batch(), [first]).status
    for _ in range(2):  # and it stays so
        status = passed(batch(), [second, first], status).status
        assert status is not None
        assert [(a["pod"], a.get("reason")) for a in status["attempts"]] == [
            ("qa-z", "ContainerFailed"),
            ("qa-a", None),
        ]


def test_a_lost_pod_that_was_asked_to_go_stays_lost_until_its_own_end_is_heard_of() -> None:
    """Its Job may still be there when the pod is being deleted already."""
    lost = passed(batch(), [unheard(15)]).status
    assert lost is not None
    told = passed(batch(), [unheard(15).leaving()], lost).status
    assert told is not None
    assert told["attempts"] == lost["attempts"]
    gone = passed(batch(), [], told).status
    assert gone is not None
    assert gone["attempts"] == lost["attempts"]
    heard = passed(batch(), [ran(0, "Trained").leaving()], told).status
    assert heard is not None
    assert [attempt["reason"] for attempt in heard["attempts"]] == ["Trained"]


def test_a_pod_that_vanished_is_told_as_deleted_once() -> None:
    status = passed(batch(), [pod().serving()]).status
    gone = passed(batch(), [], status).status
    assert gone is not None
    (attempt,) = gone["attempts"]
    assert (attempt["reason"], attempt["endTime"]) == ("PodDeleted", build.timestamp(NOW))
    later = PLANNERS["finetunejobs"].plan(
        observed(parent("FineTuneJob", "qa", job_spec(), status=gone), [], [batch()], references=DATA),
        SETTINGS,
        NOW + timedelta(hours=1),
    )
    assert later.status is not None
    assert later.status["attempts"] == gone["attempts"]


# an operator that dies


class Cluster:
    """One FineTuneJob, its Job and its pods; the operator is killed after so many writes."""

    def __init__(self) -> None:
        self.job: Raw | None = batch(failed=1)
        self.pods = [unheard(15)]
        self.status: Raw = {"progress": SAVED}
        self.events: list[Event] = []
        self.writes: list[str] = []

    def reconcile(self, limit: int) -> bool:
        """One pass, cut off after `limit` writes; whether it wrote anything. The order is the engine's."""
        plan = passed(self.job, self.pods, self.status)
        steps: list[Any] = [lambda m=m: self.create(m) for m in jobs(plan) if self.job is None]
        steps += [self.delete for ref in plan.delete if ref == JOB and self.job is not None]
        if plan.status is not None and plan.status | {"progress": SAVED} != self.status:
            steps.append(lambda: self.tell(plan))
        for step in steps[:limit]:
            step()
        return bool(steps)

    def create(self, manifest: Raw) -> None:
        self.writes.append("create")
        number = self.writes.count("create") + 1
        self.job = copy.deepcopy(manifest) | {"status": {}}
        self.job["metadata"]["uid"] = f"uid-{number}"
        self.pods.append(pod(f"qa-{number}", f"uid-{number}").serving())

    def delete(self) -> None:
        self.writes.append("delete")
        self.job = None

    def tell(self, plan: Plan) -> None:
        assert plan.status is not None
        self.status = plan.status | {"progress": SAVED}
        self.events += plan.events


@pytest.mark.parametrize("fatal", range(6))
def test_killed_after_any_write_the_operator_ends_with_one_new_job_and_one_story(fatal: int) -> None:
    cluster = Cluster()
    for number in range(12):
        if not cluster.reconcile(limit=1 if number == fatal else 9) and number > fatal:
            break
    assert cluster.writes == ["delete", "create"]
    assert cluster.job is not None
    assert cluster.job["spec"]["backoffLimit"] == 2
    assert [(a["pod"], a.get("reason")) for a in cluster.status["attempts"]] == [("qa-1", "NodeLost"), ("qa-2", None)]
    assert says(Plan(status=cluster.status), "Running")[:2] == ("True", "Training")
    told = [event.reason for event in cluster.events]
    assert told.count("NodeLost") == 1
    assert told.index("NodeLost") < len(told) - 1 - told[::-1].index("Training")


# volumes


def test_checkpoints_on_a_volume_of_their_own() -> None:
    volume = {"size": "50Gi", "accessMode": "ReadWriteMany", "storageClassName": "nfs"}
    plan = passed(None, [], spec=job_spec(checkpoints={"everySteps": 5, "volume": volume}))
    claims = {m["metadata"]["name"]: m["spec"] for m in plan.apply if m["kind"] == "PersistentVolumeClaim"}
    assert set(claims) == {"qa-output", "qa-checkpoints"}
    assert claims["qa-checkpoints"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "50Gi"}},
        "storageClassName": "nfs",
    }
    (job,) = jobs(plan)
    spec = job["spec"]["template"]["spec"]
    assert {"name": "checkpoints", "mountPath": "/checkpoints"} in spec["containers"][0]["volumeMounts"]
    assert {"name": "checkpoints", "persistentVolumeClaim": {"claimName": "qa-checkpoints"}} in spec["volumes"]
    (config,) = (m for m in plan.apply if m["kind"] == "ConfigMap")
    assert '"checkpointFolder": "/checkpoints/qa"' in config["data"]["trainer.json"]
    assert '"volume"' not in config["data"]["trainer.json"], "where checkpoints lie does not decide what is trained"


def test_an_existing_claim_for_checkpoints_is_looked_for_and_never_made() -> None:
    spec = job_spec(checkpoints={"volume": {"claimName": "shared"}})
    named = build.claim(NAMESPACE, "shared")
    made = parent("FineTuneJob", "qa", spec)
    assert named in PLANNERS["finetunejobs"].references(made)
    plan = PLANNERS["finetunejobs"].plan(observed(made, references=DATA | {named: None}), SETTINGS, NOW)
    assert says(plan, "Running")[1] == "PersistentVolumeClaimNotFound"
    plan = PLANNERS["finetunejobs"].plan(observed(made, references=DATA | {named: {}}), SETTINGS, NOW)
    assert [m["metadata"]["name"] for m in plan.apply if m["kind"] == "PersistentVolumeClaim"] == ["qa-output"]


def test_a_pod_without_a_node_is_not_lost() -> None:
    """Waiting for a place is no loss, however long it lasts."""
    waiting = pod().unschedulable("0/3 nodes are available")
    assert attempts.lost(waiting.raw, {}, NOW, {}) is None
    assert says(passed(batch(), [ran(0, GOOD).condition("Ready", "False", since=ago(99))]), "Running")[1] == "Trained"
