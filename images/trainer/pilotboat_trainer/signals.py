"""SIGTERM: while loading, the end at once; while training, a checkpoint first.

The library's own way waits three seconds, saves, and then returns from `train()` as if training were complete.

Owns: the signal. Must not know: what is trained.
"""

from __future__ import annotations

import signal
from types import FrameType

from .errors import Terminated


class Stop:
    """Whether the pod was asked to end."""

    def __init__(self) -> None:
        self.requested = False
        self._training = False

    def listen(self) -> None:
        """From now on SIGTERM is ours."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def training(self) -> None:
        """From now on a stop is honoured between two steps, with a checkpoint."""
        self._training = True
        if self.requested:
            raise Terminated("stopped by SIGTERM before the first step", saved=False)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self._training:
            raise Terminated("stopped by SIGTERM before the first step", saved=False)
        print("trainer: SIGTERM: a checkpoint is saved after this step", flush=True)
