"""What a person sees while something long runs: one line a step, its time, and on failure the log's last lines.

Owns the display and the record of step times. Standard library only, because it runs before any environment exists; it
must not know what the steps do.

    with step("Building Kubernetes 1.36.3", usual="8 min") as s:
        s.detail("downloading 120/253 MB")
        run(["go", "build"], log=path)
    save_times(Path("steps.json"))
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

PLAIN_INTERVAL = 15.0  # a reader of a CI log wants a sign of life, not a spinner
LIVE_INTERVAL = 0.2
TAIL_LINES = 25
WHOLE = "altogether"
"""The title of all steps together, in a record of times."""


PYTHON = (3, 11)


class StepFailed(RuntimeError):
    """Something a person must read: the message says it whole, and no traceback is wanted."""


def check_python(version: tuple[int, ...] = sys.version_info[:2]) -> None:
    """Ends the program where the interpreter is too old for the rest; every program imports this module early."""
    if version < PYTHON:
        wanted, found = (".".join(map(str, each)) for each in (PYTHON, version))
        sys.exit(f"Python {wanted} or newer is needed and this is {found}: name one, such as PYTHON=python{wanted}.")


check_python()


@dataclass(frozen=True)
class Timing:
    title: str
    seconds: float
    ok: bool
    depth: int

    @property
    def row(self) -> str:
        """A line of a table."""
        return f"  {'  ' * self.depth + self.title:<66} {self.seconds:7.1f} s"


_timings: list[Timing] = []
_open: list[Step] = []
_printing = threading.RLock()


@dataclass
class Step:
    """A running step. `detail` may be called from any thread, as often as one likes."""

    title: str
    usual: str = ""
    depth: int = 0
    started: float = field(default_factory=time.monotonic)
    text: str = ""

    def detail(self, text: str) -> None:
        self.text = text

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def line(self, mark: str) -> str:
        hint = f", usually {self.usual}" if self.usual and mark == "…" else ""
        text = f": {self.text}" if self.text else ""
        return f"{'  ' * self.depth}{mark} {self.title}{text} ({human(self.elapsed)}{hint})"


def human(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, read from its end: build logs grow large."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _is_live(out: TextIO) -> bool:
    return out.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _show(out: TextIO, text: str, *, final: bool) -> None:
    with _printing:
        if _is_live(out):
            width = os.get_terminal_size(out.fileno()).columns or 80
            shown = text if final else text[: width - 1]
            out.write(f"\r\x1b[K{shown}" + ("\n" if final else ""))
        else:
            out.write(text + "\n")
        out.flush()


def _tick(step: Step, out: TextIO, done: threading.Event) -> None:
    while not done.wait(LIVE_INTERVAL if _is_live(out) else PLAIN_INTERVAL):
        if _open and _open[-1] is step:  # an inner step speaks for its outer ones
            _show(out, step.line("…"), final=False)


@contextmanager
def step(title: str, usual: str = "", *, log: Path | None = None, out: TextIO | None = None) -> Iterator[Step]:
    """Shows one step from start to end. `log` names the file whose last lines explain a failure."""
    out = out or sys.stderr
    current, done = Step(title, usual, depth=len(_open)), threading.Event()
    if _open and _is_live(out):
        out.write("\n")
    _open.append(current)
    _show(out, _start_line(current), final=False)
    ticker = threading.Thread(target=_tick, args=(current, out, done), daemon=True)
    ticker.start()
    ok = False
    try:
        yield current
        ok = True
    finally:
        done.set()
        ticker.join()
        _open.remove(current)
        _timings.append(Timing(title, round(current.elapsed, 2), ok, current.depth))
        _show(out, current.line("✓" if ok else "✗"), final=True)
        if not ok and log is not None and (last := tail(log)):
            _show(out, f"The end of {log}:\n{last}", final=True)


def _start_line(current: Step) -> str:
    hint = f" (usually {current.usual})" if current.usual else ""
    return f"{'  ' * current.depth}… {current.title}{hint}"


def run(
    cmd: Sequence[str | Path],
    *,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: TextIO | None = None,
) -> None:
    """Runs a command with its output appended to `log`; the error says the command, its status and the last lines."""
    log.parent.mkdir(parents=True, exist_ok=True)
    shown = shlex.join(str(part) for part in cmd)
    with log.open("a") as file:
        file.write(f"$ {shown}\n")
        file.flush()
        merged = {**os.environ, **env} if env is not None else None
        try:
            status = subprocess.run(
                [str(part) for part in cmd],
                stdin=stdin or subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=merged,
                check=False,
            ).returncode
        except FileNotFoundError as error:
            raise StepFailed(f"The command `{cmd[0]}` is not on this machine.") from error
    if status != 0:
        raise StepFailed(f"`{shown}` ended with status {status}. The end of {log}:\n{tail(log)}")


def timings() -> list[Timing]:
    return list(_timings)


def save_times(path: Path, *more: Timing) -> None:
    """Adds this process's step times to a JSON file: several processes of one demo record into the same one."""
    known = json.loads(path.read_text()) if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known + [asdict(timing) for timing in (*_timings, *more)], indent=1) + "\n")


def record_if_asked() -> None:
    """Where STEP_TIMES names a file, step times go there: how `make demo` collects them from every program it runs."""
    if path := os.environ.get("STEP_TIMES"):
        save_times(Path(path))
