"""The progress display, on a stream and a terminal of the test's own."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import re
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import steps


class Paper(io.StringIO):
    """A log that can be waited for."""

    def __init__(self) -> None:
        self.written = threading.Condition()
        super().__init__()

    def flush(self) -> None:
        with self.written:
            self.written.notify_all()

    def shows(self, words: str, times: int = 1) -> None:
        with self.written:
            assert self.written.wait_for(lambda: self.getvalue().count(words) >= times, timeout=60), self.getvalue()


class Terminal:
    """Of 40 columns: what is written to `screen` is read as it comes, or the writer would have to wait."""

    def __init__(self) -> None:
        self._reader, writer = os.openpty()
        termios.tcsetwinsize(writer, (24, 40))
        self.screen = os.fdopen(writer, "w")
        self.paper = Paper()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        with contextlib.suppress(OSError):  # the writer has closed it
            while read := os.read(self._reader, 4096):
                self.paper.write(decoder.decode(read))
                self.paper.flush()

    def close(self) -> None:
        self.screen.close()
        self._reading.join()
        os.close(self._reader)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    made = Terminal()
    yield made
    made.close()


def test_a_step_that_runs_says_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "PLAIN_INTERVAL", 0.01)
    out = Paper()
    with steps.step("Weighing anchor", usual="1 s", out=out) as current:
        current.detail("chain 2/3")
        out.shows("… Weighing anchor: chain 2/3 (")
    running = next(line for line in out.getvalue().splitlines() if "chain" in line)
    assert re.fullmatch(r"… Weighing anchor: chain 2/3 \(\d+\.\d s, usually 1 s\)", running)


def test_an_inner_step_speaks_for_its_outer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "PLAIN_INTERVAL", 0.01)
    out = Paper()
    with steps.step("Outer", out=out) as outer:
        with steps.step("Inner", out=out) as inner:
            outer.detail("waits")
            inner.detail("works")
            out.shows("  … Inner: works (", times=5)
            assert "Outer: waits" not in out.getvalue()
        out.shows("… Outer: waits (")


def test_on_a_terminal_one_line_is_written_over_and_cut_to_its_width(
    monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    monkeypatch.setattr(steps, "LIVE_INTERVAL", 0.01)
    with steps.step("Raising anchor", out=terminal.screen) as current:
        current.detail("a chain of thirty links")
        terminal.paper.shows("\r\x1b[K… Raising anchor: a chain of thirty lin\r")
    terminal.paper.shows("\r\x1b[K✓ Raising anchor: a chain of thirty links (")
    terminal.paper.shows("\n")
    assert terminal.paper.getvalue().count("\n") == 1


def test_a_dumb_terminal_is_written_to_as_a_log_is(monkeypatch: pytest.MonkeyPatch, terminal: Terminal) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with steps.step("Raising anchor", out=terminal.screen):
        pass
    terminal.paper.shows("\n", times=2)
    started, done = terminal.paper.getvalue().splitlines()
    assert started == "… Raising anchor"
    assert done.startswith("✓ Raising anchor (")


def test_a_step_says_when_it_starts_and_how_long_it_took() -> None:
    out = io.StringIO()
    with steps.step("Weighing anchor", usual="1 s", out=out) as current:
        current.detail("chain 3/3")
    started, done = out.getvalue().splitlines()
    assert started == "… Weighing anchor (usually 1 s)"
    assert done.startswith("✓ Weighing anchor: chain 3/3 (")


def test_steps_within_steps_are_indented() -> None:
    out = io.StringIO()
    with steps.step("Outer", out=out), steps.step("Inner", out=out):
        pass
    assert [line[: line.index("er")] for line in out.getvalue().splitlines()] == [
        "… Out",
        "  … Inn",
        "  ✓ Inn",
        "✓ Out",
    ]


def test_a_failure_shows_the_end_of_its_log(tmp_path: Path) -> None:
    out, log = io.StringIO(), tmp_path / "log"
    log.write_text("\n".join(f"line {number}" for number in range(100)))
    with pytest.raises(steps.StepFailed), steps.step("Sinking", log=log, out=out):
        raise steps.StepFailed("water")
    assert "✗ Sinking" in out.getvalue()
    assert "line 99" in out.getvalue()
    assert "line 10\n" not in out.getvalue()


def test_a_command_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(steps.StepFailed, match=r"status 3.*(?s:.*)last words"):
        steps.run(["sh", "-c", "echo last words; exit 3"], log=tmp_path / "log")


def test_a_command_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(steps.StepFailed, match="no-such-command"):
        steps.run(["no-such-command"], log=tmp_path / "log")


def test_output_goes_to_the_log_and_the_environment_is_extended(tmp_path: Path) -> None:
    steps.run(["sh", "-c", "echo $WORD; cd ~ && true"], log=tmp_path / "log", env={"WORD": "ahoy"})
    assert "ahoy" in (tmp_path / "log").read_text()


def test_times_are_added_to_what_another_process_recorded(tmp_path: Path) -> None:
    record = tmp_path / "times.json"
    record.write_text(json.dumps([{"title": "before"}]))
    with steps.step("Recorded", out=io.StringIO()):
        pass
    steps.save_times(record)
    found = json.loads(record.read_text())
    assert found[0] == {"title": "before"}
    assert found[-1]["title"] == "Recorded"
    assert found[-1]["ok"] is True


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3725, "62 min 5 s")]
)
def test_times_are_told_as_people_tell_them(seconds: float, text: str) -> None:
    assert steps.human(seconds) == text
