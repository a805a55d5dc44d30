"""What is said of pods as kubelet and the scheduler report them."""

from __future__ import annotations

import itertools

import pytest

from pilotboat.api.reasons import Reason
from pilotboat.plan import diagnose
from pilotboat.plan.outcome import NEUTRAL
from unit.plan.world import DIED, LATER, Pod, report

NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available."
NO_NODE = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
NO_CLAIM = '0/3 nodes are available: persistentvolumeclaim "weights" not found. preemption: not helpful.'
PULL = 'failed to pull and unpack image "r.example/x:1": failed to resolve reference: r.example/x:1: not found'
LOGS = "loading\nTraceback (most recent call last):\n  File x\nRuntimeError: no such layer\n"


def pod() -> Pod:
    return Pod("chat-1")


TABLE: dict[str, tuple[Pod, Reason, str]] = {
    "new": (pod(), Reason.STARTING, "chat-1 is being created"),
    "placed": (pod().placed(), Reason.STARTING, "chat-1 is being created"),
    "no node": (pod().unschedulable(NO_NODE), Reason.UNSCHEDULABLE, NO_NODE),
    "no gpu": (pod().unschedulable(NO_GPU), Reason.UNSCHEDULABLE, "Insufficient nvidia.com/gpu"),
    "gated": (pod().unschedulable("", "SchedulingGated"), Reason.STARTING, "scheduling gates"),
    "no claim": (pod().unschedulable(NO_CLAIM), Reason.CLAIM_NOT_FOUND, "PersistentVolumeClaim weights does not exist"),
    "fetching": (pod().fetching(), Reason.FETCHING, "fetching the model"),
    "loading": (pod().loading(), Reason.LOADING, "container server is loading the model"),
    "pull": (pod().waiting("ErrImagePull", PULL), Reason.IMAGE_PULL_ERROR, PULL),
    "pull of fetch": (pod().waiting("ErrImagePull", PULL, "fetch"), Reason.IMAGE_PULL_ERROR, "container fetch"),
    "bad image": (pod().waiting("InvalidImageName", "couldn't parse"), Reason.IMAGE_PULL_ERROR, "couldn't parse"),
    "no secret": (
        pod().waiting("CreateContainerConfigError", 'secret "hf" not found'),
        Reason.SECRET_NOT_FOUND,
        'secret "hf" not found',
    ),
    "no key": (
        pod().waiting("CreateContainerConfigError", "couldn't find key token in Secret ml/hf"),
        Reason.SECRET_NOT_FOUND,
        "key token in Secret ml/hf",
    ),
    "no config map": (
        pod().waiting("CreateContainerConfigError", 'configmap "flags" not found'),
        Reason.CONFIG_MAP_NOT_FOUND,
        'configmap "flags"',
    ),
    "slow secret": (
        pod().waiting("CreateContainerConfigError", "failed to sync secret cache: timed out"),
        Reason.CONTAINER_CONFIG_ERROR,
        "failed to sync",
    ),
    "no binary": (
        pod().waiting("RunContainerError", "exec: no such file"),
        Reason.CONTAINER_CONFIG_ERROR,
        "no such file",
    ),
    "oom": (
        pod().limited("2Gi").died(137, "OOMKilled"),
        Reason.CONTAINER_OOM_KILLED,
        "more memory than its limit of 2Gi and was killed: raise spec.podTemplate.resources.limits.memory; or lower "
        "spec.inference.maxLength or spec.inference.batchSize",
    ),
    "oom of the trainer": (
        Pod("qa-1", component="trainer").limited("2Gi").died(137, "OOMKilled"),
        Reason.CONTAINER_OOM_KILLED,
        "raise spec.podTemplate.resources.limits.memory; or lower spec.training.batchSize",
    ),
    "oom without a limit": (
        pod().died(137, "OOMKilled"),
        Reason.CONTAINER_OOM_KILLED,
        "so its node had no more: set spec.podTemplate.resources.requests.memory",
    ),
    "oom looping": (pod().limited("2Gi").looping(137, "OOMKilled"), Reason.CONTAINER_OOM_KILLED, "its limit of 2Gi"),
    "died once": (pod().died(1, message=LOGS), Reason.CONTAINER_FAILED, "RuntimeError: no such layer"),
    "looping": (pod().looping(1, message=LOGS), Reason.CRASH_LOOP_BACK_OFF, "exited with 1: loading | Traceback"),
    "fetch failed": (
        pod().failed_fetch("ChecksumMismatch", "model.gguf is not as pinned"),
        Reason.CHECKSUM_MISMATCH,
        "model.gguf is not as pinned",
    ),
    "unknown report": (
        pod().failed_fetch("MadeUp", "words"),
        Reason.CONTAINER_FAILED,
        "words",
    ),
    "report of no fault": (pod().died(143, message=report("Trained", "x")), Reason.CONTAINER_FAILED, "x"),
    "evicted": (
        pod().failed("Evicted", "The node was low on resource: memory."),
        Reason.POD_EVICTED,
        "low on resource: memory",
    ),
    "node shut down": (pod().failed("Terminated", "imminent node shutdown"), Reason.POD_EVICTED, "shutdown"),
    "refused": (pod().failed("UnexpectedAdmissionError", "no devices"), Reason.POD_REJECTED, "no devices"),
    "probe fails": (pod().unready(), Reason.NOT_READY, "readiness probe any more"),
    "probe fails, restarted long ago": (
        pod().unready(lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, restartCount=5),
        Reason.NOT_READY,
        "readiness probe any more",
    ),
    "node lost": (
        pod().serving().condition("Ready", "False", since=LATER),
        Reason.NOT_READY,
        "node node-1 was last heard of",
    ),
    "restarting after a crash": (
        pod().restarted(1, message=LOGS, restarts=1),
        Reason.CONTAINER_FAILED,
        "no such layer",
    ),
}


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_cause(case: str) -> None:
    given, reason, words = TABLE[case]
    found = diagnose.cause([given.raw])
    assert found is not None
    assert (found.reason, words in found.message) == (reason, True), found


@pytest.mark.parametrize("pods", [[], [pod().serving()], [pod().looping(1).leaving()]])
def test_no_cause(pods: list[Pod]) -> None:
    assert diagnose.cause([each.raw for each in pods]) is None


def test_a_fault_is_told_before_what_only_needs_time() -> None:
    pods = [Pod("a").fetching(), Pod("b").looping(1), Pod("c").loading()]
    found = diagnose.cause([each.raw for each in pods])
    assert found is not None
    assert found.reason is Reason.CRASH_LOOP_BACK_OFF


def test_of_pods_that_need_time_the_slowest_is_told_in_any_order() -> None:
    pods = [Pod("a").loading().raw, Pod("b").fetching().raw, Pod("c").raw]
    told = {diagnose.cause(order) for order in itertools.permutations(pods)}
    assert [found.reason for found in told if found] == [Reason.FETCHING]


def test_an_image_that_one_node_lacks_is_told_with_the_node() -> None:
    found = diagnose.cause([Pod("a").serving().raw, Pod("b").placed().waiting("ErrImagePull", PULL).raw])
    assert found is not None
    assert found.message == f"b on node node-1: image of container server: {PULL}"


def test_kubelet_alternating_between_pull_and_back_off_changes_nothing() -> None:
    back_off = f'Back-off pulling image "r.example/x:1": ErrImagePull: {PULL}'
    told = {
        diagnose.cause([pod().waiting(reason, message).raw])
        for reason, message in (("ErrImagePull", PULL), ("ImagePullBackOff", back_off))
    }
    assert len(told) == 1


@pytest.mark.parametrize("restarts", [2, 7])
def test_the_phases_of_a_crash_loop_are_told_alike(restarts: int) -> None:
    phases = (pod().died, pod().looping, pod().restarted)
    told = {diagnose.cause([phase(1, message=LOGS, restarts=restarts).raw]) for phase in phases}
    assert len(told) == 1


def test_a_fetch_that_is_tried_again_still_tells_why_it_failed() -> None:
    once = pod().failed_fetch("ChecksumMismatch", "model.gguf has another digest")
    dead = {"terminated": once.raw["status"]["initContainerStatuses"][0]["state"]["terminated"]}
    again = pod().fetching().container("fetch", {"running": {"startedAt": LATER}}, lastState=dead, restartCount=1)
    told = {diagnose.cause([each.raw]) for each in (once, again)}
    assert [(found.reason, found.message) for found in told if found] == [
        (Reason.CHECKSUM_MISMATCH, "chat-1: container fetch: model.gguf has another digest")
    ]


def test_an_evicted_pod_is_not_told_once_its_replacement_runs() -> None:
    evicted = Pod("a").failed("Evicted", "memory")
    before = diagnose.cause([evicted.raw, Pod("b").made(LATER).raw])
    after = diagnose.cause([evicted.raw, Pod("b").made(LATER).fetching().raw])
    assert before is not None
    assert before.reason is Reason.POD_EVICTED
    assert after is not None
    assert after.reason is Reason.FETCHING


def test_pods_refused_one_after_the_other_are_told_beside_one_that_serves() -> None:
    refused = Pod("b").made(LATER).failed("OutOfcpu", "no cpu left")
    found = diagnose.cause([Pod("a").serving().raw, refused.raw])
    assert found is not None
    assert found.reason is Reason.POD_REJECTED


@pytest.mark.parametrize(("message", "starved"), [(NO_GPU, True), (NO_NODE, False), ("", False)])
def test_starved_is_only_what_others_could_give_up(message: str, starved: bool) -> None:
    assert (diagnose.starved(pod().unschedulable(message).raw) is not None) is starved


def test_terminal_codes_and_progress_bars_are_cleaned_up() -> None:
    noisy = "\x1b[31mERROR\x1b[0m bad\rstep 1\rstep 2\x07"
    found = diagnose.cause([pod().died(1, message=noisy).raw])
    assert found is not None
    assert found.message.endswith("exited with 1: ERROR bad | step 1 | step 2")


def test_failure_is_the_latest_of_pods_that_are_not_ready() -> None:
    pods = [
        Pod("a").died(1, message="boom"),
        Pod("b").serving(lastState={"terminated": {"exitCode": 9, "finishedAt": LATER}}),
        Pod("c").died(143).leaving(),
    ]
    found = diagnose.failure([each.raw for each in pods])
    assert found is not None
    assert (found.location, found.exit_code, found.time) == ("a/server", 1, DIED)
    assert "boom" in found.message


def test_no_failure() -> None:
    assert diagnose.failure([pod().loading().raw]) is None


def test_every_cause_of_a_pod_has_a_runbook_and_faults_are_told_apart() -> None:
    for given, reason, _ in TABLE.values():
        found = diagnose.cause([given.raw])
        assert found is not None
        assert found.fault is (reason not in NEUTRAL)
