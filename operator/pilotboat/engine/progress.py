"""What a trainer may say of its progress, and how it changes what was said before.

Owns: the bounds of a KEP-2779 post, and that progress never runs backwards. Must not know: HTTP, tokens, the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from pilotboat.api.finetune_job import Progress, TrainerStatus
from pilotboat.api.runtime import ProgressPost

Raw = dict[str, Any]
MAX_METRICS = 256
MAX_TEXT = 64
MAX_PATH = 1024
MAX_NAME = 253
MAX_COUNT = 2**53
"""Largest whole number that JSON carries safely."""


class BadProgress(Exception):
    """The post is not acceptable; the message names the field."""


def parse(body: bytes) -> ProgressPost:
    """The post, validated. Raises BadProgress."""
    try:
        post = ProgressPost.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadProgress(f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from None
    if post.trainer_status is None and post.progress is None:
        raise BadProgress("body: trainerStatus or progress must be given")
    if post.trainer_status:
        _check_status(post.trainer_status)
    if post.progress:
        _check_progress(post.progress)
    return post


def merge(old: Mapping[str, Any], post: ProgressPost) -> Raw | None:
    """The two fields as they are to be written; None where the post tells nothing newer.

    Of two writers the later is believed, whatever their clocks say: the other was replaced and still runs.
    A fine-tuning is one run however often it is resumed, so the percentage only rises: transformers' own callback posts
    0 % as training begins, even where it goes on from a checkpoint. What a post leaves out stays as it was; but a later
    writer that found nothing to go on from begins anew, and what was saved before is no longer gone back to.
    """
    status, progress = dict(old.get("trainerStatus") or {}), dict(old.get("progress") or {})
    ours = progress.get("writer") or 0
    theirs = post.progress.writer if post.progress and post.progress.writer is not None else ours
    if theirs < ours:
        return None
    if post.progress and theirs > ours:
        progress.pop("resumedFromStep", None)  # it was said of the pod before
        if post.progress.resumed_from_step is None:
            status, progress = {}, {}
    if post.trainer_status:
        told = post.trainer_status.wire()
        if theirs <= ours and _older(told, status):
            return None
        told["progressPercentage"] = _highest(status.get("progressPercentage"), told.get("progressPercentage"))
        status = {field: value for field, value in told.items() if value is not None}
    if post.progress:
        progress |= post.progress.wire()
    merged = {"trainerStatus": status, "progress": progress}
    return (
        None
        if merged == {"trainerStatus": old.get("trainerStatus", {}), "progress": old.get("progress", {})}
        else merged
    )


def _highest(old: int | None, new: int | None) -> int | None:
    return max((value for value in (old, new) if value is not None), default=None)


def _older(told: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """A post of a pod on its way out, that came after its successor's."""
    ours, theirs = known.get("lastUpdatedTime"), told.get("lastUpdatedTime")
    return bool(ours and theirs) and _time(str(theirs)) < _time(str(ours))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _check_status(status: TrainerStatus) -> None:
    if status.progress_percentage is not None and not 0 <= status.progress_percentage <= 100:
        raise BadProgress("trainerStatus.progressPercentage: must be from 0 to 100")
    _check_count("trainerStatus.estimatedRemainingSeconds", status.estimated_remaining_seconds)
    if len(status.metrics) > MAX_METRICS:
        raise BadProgress(f"trainerStatus.metrics: at most {MAX_METRICS}")
    for metric in status.metrics:
        _check_text("trainerStatus.metrics.name", metric.name)
        _check_text("trainerStatus.metrics.value", metric.value)
    if status.last_updated_time is not None:
        _check_time("trainerStatus.lastUpdatedTime", status.last_updated_time)


def _check_progress(progress: Progress) -> None:
    for field, count in (
        ("step", progress.step),
        ("totalSteps", progress.total_steps),
        ("tokensSeen", progress.tokens_seen),
        ("writer", progress.writer),
        ("resumedFromStep", progress.resumed_from_step),
    ):
        _check_count(f"progress.{field}", count)
    for field, text in (("epoch", progress.epoch), ("loss", progress.loss)):
        _check_text(f"progress.{field}", text or "0")
    if progress.pod is not None:
        _check_text("progress.pod", progress.pod, MAX_NAME)
    if progress.last_checkpoint:
        _check_count("progress.lastCheckpoint.step", progress.last_checkpoint.step)
        _check_text("progress.lastCheckpoint.path", progress.last_checkpoint.path, MAX_PATH)
        if progress.last_checkpoint.time is not None:
            _check_time("progress.lastCheckpoint.time", progress.last_checkpoint.time)


def _check_count(field: str, value: int | None) -> None:
    if value is not None and not 0 <= value <= MAX_COUNT:
        raise BadProgress(f"{field}: must be from 0 to {MAX_COUNT}")


def _check_text(field: str, value: str, limit: int = MAX_TEXT) -> None:
    if not 0 < len(value) <= limit:
        raise BadProgress(f"{field}: must have 1 to {limit} characters")


def _check_time(field: str, value: str) -> None:
    try:
        if len(value) <= MAX_TEXT and _time(value).tzinfo is not None:
            return
    except ValueError:  # told below, with the field
        pass
    raise BadProgress(f"{field}: must be a time such as 2026-01-31T12:00:00Z")
