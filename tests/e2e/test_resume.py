"""FineTuneJobs that lose their pod or their node: another goes on from the last checkpoint, and only one publishes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import faults, layout
from pilotboat.api.runtime import EXIT_SUPERSEDED
from tests.e2e.conftest import FTJ, PATIENCE, Space, hub_pod
from tests.e2e.test_fine_tune_job import give_rows, job

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

STEPS, EVERY = 240, 5
LONG: dict[str, Any] = {
    "training": {"maxSteps": STEPS, "batchSize": 4, "maxLength": 64, "gradientAccumulationSteps": 64},
    "checkpoints": {"everySteps": EVERY, "volume": {"size": "100Mi", "accessMode": "ReadWriteMany"}},
}
"""Steps enough that a node which is cut off is missed long before the last: 200, a quarter as long each, took 25 s on a
machine at rest, and the pod that was cut off had published before anybody missed it."""


def beside_the_hub(space: Space) -> dict[str, Any]:
    """A pod template for any node but the hub's, which the second pod needs as the first did."""
    away = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [hub_pod(space)["spec"]["nodeName"]]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [away]}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


def running(space: Space, name: str) -> dict[str, Any]:
    """The one pod of a job that runs."""
    (pod,) = [pod for pod in space.pods(name) if pod["status"]["phase"] == "Running"]
    return pod


READ = "tests.pilotboat.dev/read"


@contextlib.contextmanager
def kept(space: Space, pod: str) -> Iterator[None]:
    """A pod that is there to be read until the block ends, also when it was asked to go: of itself it is gone as soon
    as its kubelet has said how it ended."""
    finalizers(space, pod, [READ])
    try:
        yield
    finally:
        finalizers(space, pod, [])


def finalizers(space: Space, pod: str, ours: list[str]) -> None:
    """Those of others stay: the Job has one."""
    others = set(space.cluster.get("pod", pod)["metadata"].get("finalizers", [])) - {READ}
    body = {"metadata": {"finalizers": [*others, *ours]}}
    space.cluster.run("patch", "pod", pod, "--type=merge", f"-p={json.dumps(body)}")


def written(space: Space, name: str) -> dict[str, list[str]]:
    """A job's checkpoints by writer: the lab's volumes are folders of this machine."""
    volume = space.cluster.get("pvc", f"{name}-checkpoints")["spec"]["volumeName"]
    writers = Path(space.cluster.get("pv", volume)["spec"]["hostPath"]["path"], name).iterdir()
    return {writer.name: sorted(saved.name for saved in writer.iterdir()) for writer in writers}


def test_a_node_that_is_cut_off_costs_no_more_than_a_few_steps(space: Space) -> None:
    give_rows(space)
    space.apply("FineTuneJob", "moved", job(**LONG, podTemplate=beside_the_hub(space)))
    space.reason(FTJ, "moved", "Checkpointed", "CheckpointSaved")
    pod = running(space, "moved")
    node = next(node for node in layout.current().nodes if node.name == pod["spec"]["nodeName"])
    saved = space.status(FTJ, "moved")["progress"]["lastCheckpoint"]["step"]
    with kept(space, pod["metadata"]["name"]):
        with contextlib.ExitStack() as undo:
            undo.callback(faults.restore, node)
            faults.cut(node)  # its trainer goes on, and so does its volume
            space.reason(FTJ, "moved", "Running", "Resumed")
            before = space.status(FTJ, "moved")["progress"]
            space.wait(FTJ, "moved", "Complete", "600s")
        ended = f"--for=jsonpath={{.status.containerStatuses[0].state.terminated.exitCode}}={EXIT_SUPERSEDED}"
        space.cluster.run("wait", f"pod/{pod['metadata']['name']}", ended, f"--timeout={PATIENCE}")
    assert written(space, "moved") == {"writer-00002": [f"checkpoint-{step}" for step in (STEPS - EVERY, STEPS)]}
    status = space.status(FTJ, "moved")
    first, second = status["attempts"]
    assert (first["pod"], first["reason"]) == (pod["metadata"]["name"], "NodeLost")
    assert second["node"] != first["node"]
    assert second["reason"] == "Trained"
    assert status["progress"]["step"] == STEPS
    assert status["progress"]["pod"] == second["pod"]
    assert saved <= before["resumedFromStep"] == status["progress"]["resumedFromStep"]
    assert "restarts" not in status, "a lost node is no failure"
    space.told("moved", "NodeLost", "Resumed")
    space.gone(f"pod/{pod['metadata']['name']}")


@pytest.mark.long
def test_a_pod_that_is_deleted_saves_and_another_goes_on(space: Space) -> None:
    give_rows(space)
    training = {**LONG["training"], "maxSteps": 120, "gradientAccumulationSteps": 16}
    space.apply("FineTuneJob", "drained", job(**{**LONG, "training": training}))
    space.reason(FTJ, "drained", "Checkpointed", "CheckpointSaved")
    pod = running(space, "drained")
    space.cluster.run("delete", "pod", pod["metadata"]["name"], "--wait=false")
    space.reason(FTJ, "drained", "Running", "Resumed")
    space.wait(FTJ, "drained", "Complete", "600s")
    status = space.status(FTJ, "drained")
    assert status["progress"]["step"] == 120
    assert status["attempts"][0]["reason"] == "CheckpointSaved"
    assert "restarts" not in status, "it was told to go"
