from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.engine.progress import MAX_METRICS, BadProgress, merge, parse

T0, T1, T2 = (f"2026-01-31T12:00:0{second}Z" for second in range(3))


def post(percent: int | None = None, at: str | None = None, **progress: Any) -> Any:
    status = {"progressPercentage": percent, "lastUpdatedTime": at}
    body: dict[str, Any] = {"trainerStatus": {k: v for k, v in status.items() if v is not None}}
    return parse(json.dumps(body | ({"progress": progress} if progress else {})).encode())


def tell(*posts: Any) -> dict[str, Any]:
    status: dict[str, Any] = {}
    for each in posts:
        status = merge(status, each) or status
    return status


def test_the_percentage_rises() -> None:
    assert tell(post(10, T0), post(20, T1))["trainerStatus"]["progressPercentage"] == 20


def test_the_zero_that_a_resumed_run_begins_with_is_absorbed() -> None:
    told = tell(post(45, T0, step=45), post(0, T1), post(41, T2, step=41))
    assert told["trainerStatus"] == {"progressPercentage": 45, "metrics": [], "lastUpdatedTime": T2}
    assert told["progress"]["step"] == 41


def test_a_late_post_of_the_former_pod_changes_nothing() -> None:
    now = tell(post(10, T2, step=10))
    assert merge(now, post(90, T1, step=9)) is None


def test_of_two_writers_the_later_is_believed_whatever_their_clocks_say() -> None:
    now = tell(
        post(45, T2, step=45, writer=1, pod="qa-a"), post(41, T0, step=41, writer=2, pod="qa-b", resumedFromStep=40)
    )
    assert now["progress"] == {"step": 41, "writer": 2, "pod": "qa-b", "resumedFromStep": 40}
    assert now["trainerStatus"]["progressPercentage"] == 45
    assert merge(now, post(60, "2026-01-31T12:00:09Z", step=60, writer=1, pod="qa-a")) is None
    assert merge(now, post(60, "2026-01-31T12:00:09Z", step=60, writer=2))


def test_a_pod_that_begins_anew_is_not_told_as_resumed() -> None:
    told = tell(post(41, T0, step=41, writer=2, resumedFromStep=40), post(1, T1, step=1, writer=3))
    assert told["progress"] == {"step": 1, "writer": 3}


def test_a_pod_that_begins_anew_goes_back_to_no_checkpoint_and_to_its_own_share() -> None:
    """All checkpoints were broken, or of other data: that a restart would continue from one is no longer true."""
    saved = {"step": 40, "path": "checkpoints/writer-00001/checkpoint-40"}
    first = post(45, T0, step=45, writer=1, lastCheckpoint=saved)
    resumed = tell(first, post(40, T1, step=40, writer=2, resumedFromStep=40))
    assert resumed["progress"]["lastCheckpoint"] == saved
    assert resumed["trainerStatus"]["progressPercentage"] == 45
    anew = tell(first, post(0, T1, step=0, writer=2))
    assert anew["progress"] == {"step": 0, "writer": 2}
    assert anew["trainerStatus"]["progressPercentage"] == 0


def test_the_same_again_is_no_write() -> None:
    now = tell(post(10, T0, step=10))
    assert merge(now, post(10, T0, step=10)) is None


def test_what_a_post_leaves_out_stays() -> None:
    checkpoint = {"step": 50, "path": "checkpoints/50", "time": T0}
    told = tell(post(50, T0, step=50, lastCheckpoint=checkpoint), post(51, T1, step=51), post(52, T2))
    assert told["progress"] == {"step": 51, "lastCheckpoint": checkpoint}


def test_a_post_with_progress_alone_keeps_the_status() -> None:
    body = b'{"progress": {"step": 3, "loss": "NaN"}}'
    told = tell(post(10, T0), parse(body))
    assert told["trainerStatus"]["progressPercentage"] == 10
    assert told["progress"] == {"step": 3, "loss": "NaN"}


def test_unknown_fields_of_a_newer_trainer_are_left_out() -> None:
    told = tell(parse(b'{"trainerStatus": {"progressPercentage": 1, "future": 2}, "more": 3}'))
    assert told["trainerStatus"] == {"progressPercentage": 1, "metrics": []}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("", "body"),
        ("[]", "body"),
        ("{}", "body"),
        ("{", "body"),
        ('{"trainerStatus": {"progressPercentage": 101}}', "trainerStatus.progressPercentage"),
        ('{"trainerStatus": {"progressPercentage": -1}}', "trainerStatus.progressPercentage"),
        ('{"trainerStatus": {"progressPercentage": "many"}}', "trainerStatus.progressPercentage"),
        ('{"trainerStatus": {"estimatedRemainingSeconds": -1}}', "trainerStatus.estimatedRemainingSeconds"),
        ('{"trainerStatus": {"metrics": [{"name": "loss"}]}}', "trainerStatus.metrics.0.value"),
        ('{"trainerStatus": {"metrics": [{"name": "", "value": "1"}]}}', "trainerStatus.metrics.name"),
        ('{"trainerStatus": {"metrics": [{"name": "a", "value": "%s"}]}}' % ("x" * 65), "trainerStatus.metrics.value"),
        ('{"trainerStatus": {"lastUpdatedTime": "yesterday"}}', "trainerStatus.lastUpdatedTime"),
        ('{"trainerStatus": {"lastUpdatedTime": "2026-01-31T12:00:00"}}', "trainerStatus.lastUpdatedTime"),
        ('{"progress": {"step": -1}}', "progress.step"),
        ('{"progress": {"tokensSeen": 1e300}}', "progress.tokensSeen"),
        ('{"progress": {"step": NaN}}', "progress.step"),
        ('{"progress": {"loss": "%s"}}' % ("9" * 65), "progress.loss"),
        ('{"progress": {"lastCheckpoint": {"step": 1, "path": "%s"}}}' % ("p" * 1025), "progress.lastCheckpoint.path"),
    ],
)
def test_a_bad_post_is_refused_with_the_fields_name(body: str, field: str) -> None:
    with pytest.raises(BadProgress, match=rf"^{field.replace('.', r'[.]')}: "):
        parse(body.encode())


def test_too_many_metrics_are_refused() -> None:
    metrics = [{"name": "a", "value": "1"}] * (MAX_METRICS + 1)
    with pytest.raises(BadProgress, match="metrics: at most"):
        parse(json.dumps({"trainerStatus": {"metrics": metrics}}).encode())


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 59)), max_size=12))
def test_whatever_order_posts_come_in_nothing_runs_backwards(posts: list[tuple[int, int]]) -> None:
    status: dict[str, Any] = {}
    for percent, second in posts:
        before = status.get("trainerStatus", {})
        status = merge(status, post(percent, f"2026-01-31T12:00:{second:02}Z")) or status
        after = status["trainerStatus"]
        assert after["progressPercentage"] >= before.get("progressPercentage", 0)
        assert after["lastUpdatedTime"] >= before.get("lastUpdatedTime", "")
