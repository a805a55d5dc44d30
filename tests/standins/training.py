"""A trainer's pod in one folder: config, data, output, termination message; each in a process of its own.

Owns: running the real program as a pod would. Must not know: what a test wants of it.

To import what a training needs takes nine seconds of a core, and tests start some thirty. So pods are forks of one
process that has imported it, and has done nothing else; those in a namespace of their own are started from nothing, as
those of end-to-end tests are.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATHS = f"{ROOT}/operator:{ROOT}/images/trainer"
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["standins.warm"])


def _pod(argv: Sequence[str], environment: Mapping[str, str], output: Path) -> None:
    """In the fork: what the shell and `python -m pilotboat_trainer` would do."""
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= environment
    from pilotboat_trainer.cli import main

    sys.exit(main(argv))


class Pod:
    """A trainer that was started: as much of subprocess.Popen as tests use."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], output: Path) -> None:
        self._output = output
        self._process = _FORKS.Process(target=_pod, args=(argv, environment, output))
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """As Popen has it: below zero for the signal that ended it, None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To the one process that it is."""
        if self._process.pid and self.returncode is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Its output, when it has ended; raises TimeoutError where it has not by then."""
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(f"a trainer still runs after {timeout} s: {self._output.read_text()[-2000:]}")
        return self._output.read_text(), None


_NUMBERS = itertools.count()


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

    def start(self, environment: Mapping[str, str] | None = None) -> Pod:
        """Start a pod."""
        output = self.folder / f"output-{next(_NUMBERS)}.txt"
        return Pod(self._arguments, self._variables | dict(environment or {}), output)

    def start_in(self, around: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start one from nothing; `around` is a command that takes the program's as its last arguments."""
        variables = os.environ | self._variables | {"PYTHONPATH": PATHS, "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [*around, sys.executable, "-m", "pilotboat_trainer", *self._arguments],
            env=variables | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def _arguments(self) -> list[str]:
        return ["--config", str(self.config)]

    @property
    def _variables(self) -> dict[str, str]:
        return {"PILOTBOAT_TERMINATION_LOG": str(self.log)}

    def run(self, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a pod to its end: exit code and output."""
        pod = self.start(environment)
        output, _ = pod.communicate(timeout=900)
        assert pod.returncode is not None
        return pod.returncode, output

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
