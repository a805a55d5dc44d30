"""A probe's Job: what it may do, whom it belongs to, and what is read out of what is left of it."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api import labels
from pilotboat.api.base import MAX_NAME
from pilotboat.api.probing import ProbeConfig, ProbeResult
from pilotboat.api.runtime import TerminationReport
from pilotboat.api.sources import SecretKey
from pilotboat.engine.kinds import POD
from pilotboat.engine.store import Store
from pilotboat.plan import PLANNERS, build
from pilotboat.plan.probe import (
    Kind,
    Probe,
    State,
    children,
    deadline,
    job_name,
    read,
    surplus,
)
from pilotboat.plan.types import Ref
from unit.plan.world import LATER, NOW, SETTINGS, Pod, Raw, deployment_spec, ended, observed, parent

CHAT = parent("ModelDeployment", "chat", deployment_spec())
CONFIG = ProbeConfig.model_validate(
    {
        "model": "chat",
        "canary": {"revision": "bbbb2222", "url": "http://chat-bbbb2222:8080"},
        "stable": {"revision": "aaaa1111", "url": "http://chat-aaaa1111:8080"},
        "quality": {},
    }
)
PROBE = Probe(Kind.QUALITY, CONFIG)
NAME = "chat-bbbb2222-quality"
KEYS = SecretKey(name="keys", key="api-keys")
RESULT = ProbeResult(canary="bbbb2222", stable="aaaa1111")


def made(there: list[Raw] | None = None, keys: SecretKey | None = None) -> tuple[Raw, ...]:
    return children(CHAT, PROBE, there or [], keys, SETTINGS)


def live(*conditions: Raw, uid: str = "uid-job") -> Raw:
    """The Job as the API server has it."""
    _, job = made()
    return {**job, "metadata": {**job["metadata"], "uid": uid}, "status": {"conditions": list(conditions)}}


def over(kind: str, reason: str = "", message: str = "") -> Raw:
    return {"type": kind, "status": "True", "reason": reason, "message": message}


COUNT = itertools.count()


def pod(*, uid: str = "uid-job", terminated: Raw | None = None, **status: Any) -> Raw:
    """A pod of the Job, as trimmed by the store."""
    name = f"{NAME}-{next(COUNT)}"
    state = {"terminated": terminated} if terminated else {"running": {"startedAt": LATER}}
    container = {"name": "probe", "ready": terminated is None, "restartCount": 0, "state": state, "lastState": {}}
    ready = {"type": "Ready", "status": "False" if terminated else "True"}
    meta = {
        "name": name,
        "namespace": "ml",
        "uid": f"uid-{name}",
        "resourceVersion": "7",
        "labels": made()[1]["spec"]["template"]["metadata"]["labels"] | {"batch.kubernetes.io/job-name": NAME},
        "ownerReferences": [{"kind": "Job", "uid": uid, "controller": True}],
    }
    known = {"phase": "Running", "containerStatuses": [container], "conditions": [ready]} | status
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}, "status": known}


def said(code: int, reason: str, message: str = "words", at: str = LATER, result: Any = None) -> Raw:
    report = TerminationReport(reason=reason, message=message, result=result or {})
    return ended(code, "Completed" if code == 0 else "Error", report.to_message(), at)


GOOD = said(0, "Probed", result=RESULT.wire())


def test_the_job_is_the_parents_and_its_pods_no_servers() -> None:
    config, job = made(keys=KEYS)
    assert (config["kind"], job["kind"]) == ("ConfigMap", "Job")
    for child in (config, job):
        meta = child["metadata"]
        assert (meta["name"], meta["namespace"]) == (NAME, "ml")
        assert meta["ownerReferences"] == [build.owner(CHAT)]
        assert meta["labels"][labels.REVISION] == "bbbb2222"
        assert build.component(child) == "probe"
    marks = job["spec"]["template"]["metadata"]["labels"]
    assert (marks[labels.COMPONENT], marks[labels.INSTANCE]) == ("probe", "chat")
    assert labels.REVISION not in marks
    assert ProbeConfig.load(config["data"]["probe.json"]) == CONFIG


def test_the_pod_is_restricted_and_has_no_token_and_no_key_in_the_open() -> None:
    _, job = made(keys=KEYS)
    spec = job["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["image"] == SETTINGS.gateway_image
    assert container["command"][-1] == "pilotboat_probe"
    assert container["args"] == ["--config", "/etc/pilotboat/probe.json"]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    reference = {"secretKeyRef": {"name": "keys", "key": "api-keys"}}
    assert container["env"] == [{"name": "PILOTBOAT_API_KEYS", "valueFrom": reference}]
    assert container["resources"]["requests"]
    assert "env" not in made()[1]["spec"]["template"]["spec"]["containers"][0]


def test_the_job_ends_and_stays() -> None:
    spec = made()[1]["spec"]
    assert spec["backoffLimit"] == 2
    assert "ttlSecondsAfterFinished" not in spec
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == deadline(CONFIG) > 1800


@given(st.integers(1, 600), st.integers(1, 1800), st.integers(1, 600))
def test_the_deadline_leaves_time_for_all_of_it(load: int, traffic: int, patience: int) -> None:
    more = {
        "requestTimeout": f"{patience}s",
        "loadTest": {"rate": 1, "duration": f"{load}s"},
        "traffic": {"duration": f"{traffic}s"},
    }
    config = ProbeConfig.model_validate(CONFIG.wire() | more)
    assert deadline(config) > load + traffic + 2 * patience


def test_it_is_made_once() -> None:
    assert made([live()]) == ()


@pytest.mark.parametrize("kind", list(Kind))
def test_names_leave_room_for_a_pods_suffix(kind: Kind) -> None:
    assert len(job_name("x" * MAX_NAME, "bbbb2222", kind)) + len("-xxxxx") <= 63


def test_the_store_finds_its_pods() -> None:
    store = Store(lambda: 0.0)
    [key] = store.put(POD, pod())
    assert (key.plural, key.namespace, key.name) == ("modeldeployments", "ml", "chat")
    assert all(build.component(raw) == "probe" for raw in store.pods(key))


def test_the_planner_of_servers_takes_no_notice() -> None:
    bare = observed(CHAT, [Pod("chat-1", revision="aaaa1111").serving()])
    probed = replace(bare, children=(*made(), live()), pods=(*bare.pods, pod(), pod(terminated=said(1, "ProbeFailed"))))
    planner = PLANNERS["modeldeployments"]
    seen = planner.plan(probed, SETTINGS, NOW)
    assert replace(seen, delete=()) == planner.plan(bare, SETTINGS, NOW)
    assert {ref.name for ref in seen.delete} == {NAME}, "a probe that no rollout waits for goes"


def test_what_nobody_wants_any_more_is_surplus() -> None:
    config, _ = made()
    theirs = {**config, "metadata": {**config["metadata"], "name": "chat-bbbb2222", "labels": {}}}
    there = [config, live(), theirs]
    assert surplus(there, [NAME]) == ()
    assert [ref.kind for ref in surplus(there, [])] == ["ConfigMap", "Job"]
    assert Ref.of(theirs) not in surplus(there, [])


def test_a_probe_that_ended_well_is_read() -> None:
    outcome = read(NAME, [live()], [pod(terminated=said(1, "ProbeFailed")), pod(terminated=GOOD)])
    assert outcome.state is State.MEASURED
    assert outcome.result == RESULT


@pytest.mark.parametrize(
    ("jobs", "pods", "state", "reason"),
    [
        ([], [pod(terminated=GOOD)], State.ABSENT, None),
        ([live()], [], State.RUNNING, None),
        ([live()], [pod()], State.RUNNING, None),
        ([live()], [pod(terminated=said(1, "RevisionUnreachable"))], State.RUNNING, None),
        ([live(uid="uid-new")], [pod(terminated=GOOD)], State.RUNNING, None),
        ([live(over("Failed"))], [pod(terminated=said(64, "ApiKeyRefused"))], State.FAILED, "ApiKeyRefused"),
        ([live(over("Failed"))], [pod(terminated=said(143, "ProbeInterrupted"))], State.FAILED, "ProbeInterrupted"),
        ([live(over("Failed"))], [pod(terminated=said(1, "Probed"))], State.FAILED, "ContainerFailed"),
        ([live(over("Failed"))], [pod(terminated=ended(137, "OOMKilled"))], State.FAILED, "ContainerOOMKilled"),
        ([live(over("Failed", "DeadlineExceeded"))], [], State.FAILED, "DeadlineExceeded"),
        ([live(over("Failed", "BackoffLimitExceeded"))], [], State.FAILED, "ProbeFailed"),
        ([live(over("Complete"))], [], State.FAILED, "ProbeFailed"),
        ([live(over("Complete"))], [pod(terminated=said(0, "Probed"))], State.FAILED, "ProbeFailed"),
        ([live(over("Complete"))], [pod(terminated=ended(0, "Completed", "hello"))], State.FAILED, "ProbeFailed"),
    ],
)
def test_nothing_but_a_good_end_with_a_result_is_a_result(
    jobs: list[Raw], pods: list[Raw], state: State, reason: str | None
) -> None:
    outcome = read(NAME, jobs, pods)
    assert (outcome.state, outcome.result) == (state, None)
    if state is State.FAILED:
        assert outcome.cause
        assert outcome.cause.reason == reason


def test_of_several_failures_the_last_is_told() -> None:
    first = said(1, "RevisionUnreachable", "too early", at="2026-05-01T11:00:00Z")
    last = said(1, "ProbeFailed", "too bad", at="2026-05-01T11:09:00Z")
    outcome = read(NAME, [live(over("Failed"))], [pod(terminated=last), pod(terminated=first)])
    assert outcome.cause
    assert "too bad" in outcome.cause.message


def test_why_it_does_not_start_is_known_while_it_runs() -> None:
    waiting = {"name": "probe", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
    outcome = read(NAME, [live()], [pod(containerStatuses=[waiting], conditions=[])])
    assert outcome.state is State.RUNNING
    assert outcome.cause
    assert outcome.cause.reason == "ImagePullError"


@given(st.text(max_size=5000))
def test_no_message_of_a_pod_breaks_the_reading(message: str) -> None:
    wrapped = json.dumps({"pilotboat": 1, "reason": "Probed", "result": {"canary": [message]}})
    for text in (message, wrapped):
        dead = ended(0, "Completed", text)
        assert read(NAME, [live(over("Complete"))], [pod(terminated=dead)]).state is State.FAILED
