"""What `make bench` tells of the last demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import demo
from tools import steps
from tools.steps import WHOLE, Timing

WARM = [Timing("Starting the control plane", 3.6, True, 0), Timing(WHOLE, 153.5, True, 0)]
COLD = [Timing("Building Kubernetes v1.36.3 and its tools", 557.0, True, 0), Timing(WHOLE, 1900.0, True, 0)]


@pytest.mark.parametrize(
    ("run", "line"),
    [
        (WARM, "figure=demo-warm ours=154s against=goal:300s ratio=0.51 goal=ratio<=1 met"),
        (COLD, "figure=demo-cold ours=1900s against=goal:1800s ratio=1.06 goal=ratio<=1 missed"),
    ],
)
def test_a_run_is_held_against_the_goal_of_its_kind(run: list[Timing], line: str) -> None:
    assert [figure.line for figure in demo.figures(run)] == [line]


def test_where_no_demo_has_run_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PILOTBOAT_CACHE", str(tmp_path))
    assert demo.main() == 0
    assert "make demo" in capsys.readouterr().out


def test_every_step_of_the_last_demo_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PILOTBOAT_CACHE", str(tmp_path))
    monkeypatch.setattr(steps, "_timings", WARM[:1])
    steps.save_times(tmp_path / "demo" / "times.json", WARM[1])
    assert demo.main() == 0
    told = capsys.readouterr().out
    assert all(row.row in told for row in WARM)
    assert "figure=demo-warm" in told
