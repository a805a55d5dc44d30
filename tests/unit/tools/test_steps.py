"""The progress display without a terminal, on a stream of the test's own."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tools import steps


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
