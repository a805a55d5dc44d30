"""A trainer's pod in one folder: config, data, output, termination message; run in this process or in one of its own.

Owns: running the real program as a pod would. Must not know: what a test wants of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Training:
    """One job's folder; each `start` or `run` is another pod of the job."""

    def __init__(self, folder: Path, base: Path, **config: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.output = folder, folder / "output" / "qa"
        self.log, self.config = folder / "termination-log", folder / "trainer.json"
        data = folder / "data"
        data.mkdir(exist_ok=True)
        if not any(data.iterdir()):
            (data / "train.jsonl").write_text("".join(f"{line}\n" for line in questions(48)))
        body = {"job": "qa", "base": str(base), "dataset": {"path": str(data)}, "output": str(self.output), **config}
        self.config.write_text(json.dumps(body))

    def start(self, environment: Mapping[str, str] | None = None, around: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start a pod; `around` is a command that takes the program's as its last arguments."""
        variables = os.environ | {
            "PYTHONPATH": f"{ROOT}/operator:{ROOT}/images/trainer",
            "PILOTBOAT_TERMINATION_LOG": str(self.log),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        return subprocess.Popen(
            [*around, sys.executable, "-m", "pilotboat_trainer", "--config", str(self.config)],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a pod to its end: exit code and output."""
        process = self.start(environment)
        output, _ = process.communicate(timeout=900)
        return process.returncode, output

    @property
    def said(self) -> dict[str, Any]:
        """The termination message."""
        body: dict[str, Any] = json.loads(self.log.read_text())
        return body

    @property
    def report(self) -> dict[str, Any]:
        """report.json."""
        body: dict[str, Any] = json.loads((self.output / "report.json").read_text())
        return body

    def losses(self) -> dict[int, float]:
        """The loss at each step, from the newest checkpoint's history."""
        history = json.loads((self.checkpoints()[-1] / "trainer_state.json").read_text())["log_history"]
        return {entry["step"]: entry["loss"] for entry in history if "loss" in entry}

    def checkpoints(self, writer: int | None = None) -> list[Path]:
        """Those that were put in place, by writer and step."""
        name = "*" if writer is None else f"{writer:05d}"
        found = self.output.glob(f"checkpoints/writer-{name}/checkpoint-*")
        return sorted(found, key=lambda path: (path.parent.name, int(path.name.rpartition("-")[2])))


def questions(count: int) -> list[str]:
    """Lines in the `messages` format, with a pattern that can be learned."""
    chats = (
        [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"It is {n}, always {n}."}]
        for n in range(count)
    )
    return [json.dumps({"messages": chat}) for chat in chats]
