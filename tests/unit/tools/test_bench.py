"""`make bench` runs all there is, whatever becomes of one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import bench, venv

PYTHON = """\
#!/bin/sh
echo "$LAB $*" >>"${0%/*}/asked"
case "$*" in *bench.canary*|*bench.gateway*) exit 3;; esac
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is run: a script stands for Python, with which two benchmarks cannot measure; all programs are built."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / "pilotboat.key").write_text(venv.key())
    monkeypatch.setattr(venv, "VENV", tmp_path)
    monkeypatch.setattr(bench, "ON_A_CONTROL_PLANE", frozenset())
    monkeypatch.setenv("PILOTBOAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LAB", "")
    return tmp_path / "bin" / "asked"


def test_one_that_cannot_measure_hides_none_and_is_told_at_the_end(
    asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main([]) == 1
    assert asked.read_text().splitlines() == [f"{bench.LAB} -m bench.{name}" for name in bench.BENCHMARKS]
    assert capsys.readouterr().err.splitlines()[-1].startswith("Could not measure: canary, gateway.")


def test_one_that_is_named_runs_alone_with_its_options(asked: Path) -> None:
    assert bench.main(["scale", "--rounds", "1"]) == 0
    assert asked.read_text() == f"{bench.LAB} -m bench.scale --rounds 1\n"


def test_without_programs_the_others_are_measured(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Go that is new enough, and nothing to get one with."""
    monkeypatch.setattr(bench, "ON_A_CONTROL_PLANE", frozenset({"scale", "abort"}))
    monkeypatch.setattr(bench.build, "GO_MINIMUM", (999, 0))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert bench.main([]) == 1
    run = [line.rpartition(".")[2] for line in asked.read_text().splitlines()]
    assert run == [name for name in bench.BENCHMARKS if name not in {"scale", "abort"}]


@pytest.mark.parametrize("words", [["--help"], ["-h"]])
def test_help_runs_nothing(asked: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(words) == 0
    assert "python3 -m tools.bench canary" in capsys.readouterr().out
    assert not asked.exists()


def test_what_is_no_benchmark_runs_nothing(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["everything"]) == 1
    assert ", ".join(bench.BENCHMARKS) in capsys.readouterr().err
    assert not asked.exists()
