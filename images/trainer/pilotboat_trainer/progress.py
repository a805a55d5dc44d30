"""How far a training is, in the words of KEP-2779 and in our own, right also after a resume.

The share done comes from steps, so it goes on where the checkpoint was. The time left comes from this process's own
speed: counting the steps of earlier pods as its own would make it look far too fast.

Owns: the arithmetic and the wording. Must not know: torch, how a post is sent.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pilotboat.api.finetune_job import Checkpoint, Metric, Progress, TrainerStatus
from pilotboat.api.runtime import ProgressPost, TrainerResult

MAX_STRING = 64
"""Characters of a metric's name and value that KEP-2779 allows."""

NAMES = ("loss", "learning_rate", "grad_norm", "mean_token_accuracy", "tokens_per_second")


@dataclass
class Tracker:
    """The run as this process sees it."""

    total_steps: int
    first_step: int
    """The step this process began after: 0, or the checkpoint's."""
    started: float
    step: int = 0
    epoch: float = 0.0
    tokens: int = 0
    first_tokens: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    writer: int | None = None
    """This pod's number among those that wrote the job's checkpoints."""
    resumed_from: int | None = None
    """The step of the checkpoint that this pod began with."""

    def percentage(self) -> int:
        """Whole percents; 100 only at the very end."""
        return min(100, 100 * self.step // self.total_steps) if self.total_steps else 0

    def remaining(self, now: float) -> int | None:
        """Seconds left at this process's speed; unknown before its first step."""
        done = self.step - self.first_step
        if done <= 0:
            return 0 if self.step >= self.total_steps else None
        return math.ceil((now - self.started) / done * (self.total_steps - self.step))

    def tokens_per_second(self, now: float) -> float:
        """Tokens of examples, without padding, over this process's time."""
        return (self.tokens - self.first_tokens) / (now - self.started) if now > self.started else 0.0

    def learn(self, logs: Mapping[str, object], now: float) -> None:
        """Take over what the library logged."""
        self.metrics |= {
            name: float(value) for name, value in logs.items() if name in NAMES and isinstance(value, int | float)
        }
        self.metrics["tokens_per_second"] = self.tokens_per_second(now)

    def post(self, now: float) -> ProgressPost:
        """The body of a POST."""
        status = TrainerStatus(
            progress_percentage=self.percentage(),
            estimated_remaining_seconds=self.remaining(now),
            metrics=[Metric(name=name, value=_short(self.metrics[name])) for name in NAMES if name in self.metrics],
            last_updated_time=stamp(datetime.now(UTC)),
        )
        loss = self.metrics.get("loss")
        progress = Progress(
            epoch=f"{self.epoch:.2f}",
            step=self.step,
            total_steps=self.total_steps,
            tokens_seen=self.tokens,
            loss=None if loss is None else _short(loss),
            last_checkpoint=self.checkpoint,
            pod=os.environ.get("HOSTNAME"),
            writer=self.writer,
            resumed_from_step=self.resumed_from,
        )
        return ProgressPost(trainer_status=status, progress=progress)

    def line(self, now: float) -> str:
        """`step 40 of 120 (33 %), loss 2.31, 210 tokens/s, 1m 20s left`."""
        parts = [f"step {self.step} of {self.total_steps} ({self.percentage()} %)"]
        parts += [f"{label} {_short(self.metrics[name])}" for name, label in _SHOWN.items() if name in self.metrics]
        left = self.remaining(now)
        return ", ".join([*parts, f"{self.tokens_per_second(now):.0f} tokens/s", f"{_duration(left)} left"])


def over(result: TrainerResult) -> ProgressPost:
    """What a pod tells that finds the job finished: the one that finished it may have been cut off from the operator.

    No loss: the result's is that of all steps, and what is told here is that of the last ones."""
    now = stamp(datetime.now(UTC))
    return ProgressPost(
        trainer_status=TrainerStatus(progress_percentage=100, estimated_remaining_seconds=0, last_updated_time=now),
        progress=Progress(step=result.steps, total_steps=result.steps, pod=os.environ.get("HOSTNAME")),
    )


def stamp(moment: datetime) -> str:
    """A moment in UTC as Kubernetes writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


_SHOWN = {"loss": "loss", "grad_norm": "grad norm", "mean_token_accuracy": "accuracy"}


def _short(value: float) -> str:
    return f"{value:.4g}"[:MAX_STRING]


def _duration(seconds: int | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds // 60}m {seconds % 60}s" if seconds >= 60 else f"{seconds}s"
