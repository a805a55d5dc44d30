"""What happens between two steps: progress, the check of the loss, the answer to SIGTERM, and to a successor.

Owns: our TrainerCallback. Must not know: how posts are sent, how the trainer is made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pilotboat.api.finetune_job import Checkpoint

from .checkpoints import Checkpoints, Found
from .errors import Diverged
from .poster import Poster
from .progress import Tracker, stamp
from .signals import Stop
from .writers import Writer

LINE_EVERY_SECONDS = 5.0
LOOK_EVERY_SECONDS = 5.0
"""How often a pod that is superseded finds out between two checkpoints."""


class Watch(TrainerCallback):  # type: ignore[misc]  # the library is untyped
    """Watches one run."""

    def __init__(
        self,
        poster: Poster,
        stop: Stop,
        writer: Writer,
        checkpoints: Checkpoints,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._poster, self._stop, self._clock = poster, stop, clock
        self._writer, self._checkpoints = writer, checkpoints
        self._resumed: Found | None = None
        self._printed, self._looked = -math.inf, clock()
        self.tracker = Tracker(total_steps=0, first_step=0, started=clock())

    def resume(self, found: Found | None) -> None:
        """Where this pod goes on, before it does."""
        self._resumed = found

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The first post says where this process begins, which after a resume is not zero."""
        tokens = int(state.num_input_tokens_seen)
        step = state.global_step
        self.tracker = Tracker(state.max_steps, step, self._clock(), step, state.epoch or 0.0, tokens, tokens)
        self.tracker.writer = self._writer.number
        if self._resumed:
            self.tracker.resumed_from = self._resumed.step
            self.tracker.checkpoint = _checkpoint(self._resumed.path, self._resumed.step)
            self.tracker.learn(next((e for e in reversed(state.log_history) if "loss" in e), {}), self._clock())
        self._tell(now_or_never=True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count; and where the pod must end, save first. Raises Superseded."""
        self.tracker.step, self.tracker.epoch = state.global_step, state.epoch or 0.0
        self.tracker.tokens = int(state.num_input_tokens_seen)
        if self._clock() - self._looked >= LOOK_EVERY_SECONDS:
            self._looked = self._clock()
            self._writer.check()
        if self._stop.requested:
            control.should_save = True
            control.should_training_stop = True
        if control.should_save:
            control.should_log = True  # so that a loss that is no number is seen before it is saved

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take the metrics over, and stop where the loss is no number."""
        logs = logs or {}
        loss = logs.get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise Diverged(f"the loss is {loss} at step {state.global_step}: lower learningRate, or use fp32")
        self.tracker.learn(logs, self._clock())
        self._tell()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The library has saved: put it in its place. Raises Superseded."""
        path = self._checkpoints.publish(state.global_step)
        self.tracker.checkpoint = _checkpoint(path, state.global_step)
        self._tell()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The last word."""
        self._tell(now_or_never=True)

    def _tell(self, now_or_never: bool = False) -> None:
        now = self._clock()
        self._poster.post(self.tracker.post(now))
        if now_or_never or now - self._printed >= LINE_EVERY_SECONDS:
            self._printed = now
            print(f"trainer: {self.tracker.line(now)}", flush=True)


def _checkpoint(path: Path, step: int) -> Checkpoint:
    moment = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    name = "/".join(path.parts[-3:])
    return Checkpoint(step=step, path=name, time=stamp(moment))
