"""A job whose pods are ended early: no matter how, it ends with the same steps and the same losses."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from standins import tiny
from standins.receiver import Receiver
from standins.training import Pod, Training

STEPS, EVERY = 96, 12
"""Long enough that a signal sent at the first checkpoint arrives before the last step, on any machine."""
SETTINGS: dict[str, Any] = {
    "training": {"maxSteps": STEPS, "batchSize": 4, "maxLength": 64, "learningRate": 0.01},
    "checkpoints": {"everySteps": EVERY, "keep": 2},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def uninterrupted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    job = Training(tmp_path_factory.mktemp("whole"), base, **SETTINGS)
    code, output = job.run()
    assert code == 0, output
    return job


def same_as(uninterrupted: Training, job: Training) -> None:
    """The same steps, at each of them exactly the same loss, and in the end the same weights to the last bit."""
    assert max(job.losses()) == STEPS
    assert job.losses() == uninterrupted.losses()
    ours, theirs = job.said["result"], uninterrupted.said["result"]
    assert ours["trainLoss"] == theirs["trainLoss"]
    assert ours["digests"]["adapter_model.safetensors"] == theirs["digests"]["adapter_model.safetensors"]


def until(pod: Pod, there: Callable[[], object]) -> None:
    """Look very often: what follows must happen while the pod is at it, and it needs the core that looks."""
    while not there():
        assert pod.poll() is None
        time.sleep(0.005)


def test_sigterm_saves_and_is_never_success(base: Path, uninterrupted: Training, tmp_path: Path) -> None:
    job = Training(tmp_path, base, **SETTINGS)
    with Receiver(tmp_path / "server") as server:
        pod = job.start(server.environment)
        until(pod, job.checkpoints)
        pod.send_signal(signal.SIGTERM)
        output, _ = pod.communicate(timeout=300)
        assert pod.returncode == 143, output
        assert job.said["reason"] == "CheckpointSaved"
        assert not (job.output / "report.json").exists()
        assert not (job.output / "adapter").exists()
        step = step_of(job.checkpoints()[-1])
        assert f"at step {step};" in job.said["message"]
        assert step < STEPS
        before = len(server.posts)
        code, output = job.run(server.environment)
        assert code == 0, output
        resumed = [post.body for post in server.posts[before:]]
    assert f"continuing from step {step}" in output
    assert resumed[0]["progress"]["step"] == step, "the first post of a resumed pod is not zero"
    assert resumed[0]["progress"]["lastCheckpoint"]["step"] == step
    assert (resumed[0]["progress"]["writer"], resumed[0]["progress"]["resumedFromStep"]) == (2, step)
    assert resumed[0]["trainerStatus"]["progressPercentage"] == 100 * step // STEPS
    assert resumed[-1]["trainerStatus"]["progressPercentage"] == 100
    tokens = [body["progress"]["tokensSeen"] for body in resumed]
    assert tokens[0] > 0
    assert tokens == sorted(tokens)
    same_as(uninterrupted, job)
    assert job.said["result"]["restarts"] == 1
    runs = {path.parent for path in job.output.rglob("events.out.tfevents.*")}
    assert runs == {job.output / "tensorboard"}, "one run in TensorBoard, from both pods"


def test_sigkill_while_a_checkpoint_is_written(base: Path, uninterrupted: Training, tmp_path: Path) -> None:
    job = Training(tmp_path, base, **SETTINGS)
    pod = job.start()
    writing = job.output / "checkpoints" / "writer-00001" / ".writing"
    until(pod, lambda: bool(job.checkpoints()) and any(writing.glob("checkpoint-*")))
    pod.kill()
    pod.communicate()
    assert pod.returncode == -signal.SIGKILL
    newest = step_of(job.checkpoints()[-1])
    code, output = job.run()
    assert code == 0, output
    assert f"continuing from step {newest}" in output
    same_as(uninterrupted, job)


def test_killed_at_any_steps_it_loses_few_and_ends_the_same(
    base: Path, uninterrupted: Training, tmp_path: Path
) -> None:
    """Three kills at random moments; after the second, the newest checkpoint is cut off as well."""
    job, draw = Training(tmp_path, base, **SETTINGS), random.Random(5)
    best, said = 0, ""
    for kill in range(4):
        pod = job.start()
        if kill < 3:
            until(pod, lambda kill=kill: job.checkpoints(kill + 1))
            time.sleep(draw.random() * 0.2)
            pod.kill()
        output, _ = pod.communicate(timeout=300)
        said += output
        if best:
            assert f"writer {kill + 1}, continuing from step {best}\n" in output
        best = step_of(job.checkpoints()[-1])
        if kill == 1:
            truncate(job.checkpoints()[-1] / "optimizer.pt")
            best = step_of(job.checkpoints()[-2])
    assert pod.returncode == 0, said
    assert "optimizer.pt is missing, cut off or changed" in said
    same_as(uninterrupted, job)
    assert job.said["result"]["restarts"] == 3


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def test_of_two_pods_at_once_the_later_one_publishes(base: Path, uninterrupted: Training, tmp_path: Path) -> None:
    """The first is on a node that is cut off: it trains on, and finds out by itself.

    It stands still while the second starts, which takes longer than a quick machine takes for all the steps.
    """
    job = Training(tmp_path, base, **SETTINGS)
    first = job.start({"PILOTBOAT_TERMINATION_LOG": str(tmp_path / "first")})
    until(first, job.checkpoints)
    first.send_signal(signal.SIGSTOP)
    second = job.start()
    until(second, (job.output / "checkpoints" / "writer-00002").exists)
    first.send_signal(signal.SIGCONT)
    output, _ = second.communicate(timeout=900)
    assert second.returncode == 0, output
    said, _ = first.communicate(timeout=300)
    assert first.returncode == 75, said
    assert json.loads((tmp_path / "first").read_text())["reason"] == "Superseded"
    assert "writer 2 has taken over from this pod, writer 1" in said
    same_as(uninterrupted, job)
    assert {path.parent.name for path in job.checkpoints()} == {"writer-00002"}


def test_a_pod_that_wakes_up_after_its_successor_has_finished_changes_nothing(
    base: Path, uninterrupted: Training, tmp_path: Path
) -> None:
    """Frozen, as a virtual machine that is moved: its successor resumes, publishes and ends before it goes on."""
    job = Training(tmp_path, base, **SETTINGS)
    first = job.start({"PILOTBOAT_TERMINATION_LOG": str(tmp_path / "first")})
    until(first, job.checkpoints)
    first.send_signal(signal.SIGSTOP)
    code, output = job.run()
    assert code == 0, output
    before = everything(job.output)
    first.send_signal(signal.SIGCONT)
    said, _ = first.communicate(timeout=300)
    assert first.returncode == 75, said
    assert everything(job.output) == before
    same_as(uninterrupted, job)


def everything(folder: Path) -> dict[str, bytes]:
    """What anybody reads of a job's folder; the library's own log of each pod aside."""
    files = (path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_finished_job_reports_again_and_trains_no_more(uninterrupted: Training) -> None:
    before, said = uninterrupted.report, uninterrupted.said
    weights = uninterrupted.output / "adapter" / "adapter_model.safetensors"
    written = weights.stat().st_mtime_ns
    uninterrupted.log.unlink()
    code, output = uninterrupted.run()
    assert code == 0
    assert "finished by an earlier pod" in output
    assert uninterrupted.said == said
    assert uninterrupted.report == before
    assert weights.stat().st_mtime_ns == written


def test_a_pod_killed_between_the_last_step_and_the_report(base: Path, uninterrupted: Training) -> None:
    """The result is not trusted without its report: it is made again, from the last checkpoint."""
    (uninterrupted.output / "report.json").unlink()
    digest = uninterrupted.said["result"]["digests"]["adapter_model.safetensors"]
    code, output = uninterrupted.run()
    assert code == 0, output
    assert f"continuing from step {STEPS}" in output
    assert uninterrupted.said["result"]["digests"]["adapter_model.safetensors"] == digest
    assert uninterrupted.said["result"]["steps"] == STEPS
