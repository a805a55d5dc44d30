"""Progress: the share from steps, the time left from this process alone, KEP-2779's bounds."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.finetune_job import Checkpoint
from pilotboat_trainer.progress import MAX_STRING, Tracker


def tracker(step: int, first: int = 0, total: int = 200) -> Tracker:
    return Tracker(total_steps=total, first_step=first, started=1000.0, step=step)


def test_after_a_resume_the_share_goes_on_and_the_time_left_is_this_processs_own() -> None:
    resumed = tracker(step=110, first=100)
    assert resumed.percentage() == 55
    assert resumed.remaining(1020.0) == 180, "10 steps took 20 s, 90 are left"


def test_before_its_first_step_a_process_does_not_guess() -> None:
    assert tracker(step=100, first=100).remaining(1020.0) is None
    assert tracker(step=200, first=200).remaining(1020.0) == 0


@given(st.integers(1, 10_000), st.data())
def test_shares_never_fall_and_are_100_only_at_the_end(total: int, data: st.DataObject) -> None:
    steps = sorted(data.draw(st.lists(st.integers(0, total), min_size=1, max_size=20)))
    shares = [tracker(step, total=total).percentage() for step in steps]
    assert shares == sorted(shares)
    assert all((share == 100) == (step == total) for share, step in zip(shares, steps, strict=True))


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1))
def test_a_post_has_keps_shape_and_bounds(loss: float, rate: float) -> None:
    run = tracker(step=50)
    run.epoch, run.tokens = 0.5, 1000
    run.learn({"loss": loss, "learning_rate": rate, "grad_norm": 1, "epoch": 0.5, "unknown": "x"}, 1010.0)
    run.checkpoint = Checkpoint(step=50, path="checkpoints/checkpoint-50", time="2026-11-22T12:00:00Z")
    body = run.post(1010.0).wire()
    status = body["trainerStatus"]
    assert set(status) == {"progressPercentage", "estimatedRemainingSeconds", "metrics", "lastUpdatedTime"}
    assert status["progressPercentage"] == 25
    assert status["estimatedRemainingSeconds"] == 30
    assert [metric["name"] for metric in status["metrics"]] == [
        "loss",
        "learning_rate",
        "grad_norm",
        "tokens_per_second",
    ]
    assert all(isinstance(m["value"], str) and len(m["value"]) <= MAX_STRING for m in status["metrics"])
    assert status["metrics"][-1]["value"] == "100"
    assert body["progress"]["lastCheckpoint"]["step"] == 50
    assert body["progress"]["totalSteps"] == 200
    assert len(json.dumps(body)) < 64 << 10


def test_the_line_can_be_read() -> None:
    run = tracker(step=40)
    run.learn({"loss": 2.31}, 1040.0)
    assert run.line(1040.0) == "step 40 of 200 (20 %), loss 2.31, 0 tokens/s, 2m 40s left"
