"""A lab that runs remembers what it was started from, and is not taken for one of another version."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lab import build, cluster, origin
from lab.layout import Lab, current
from tests.unit.lab.conftest import outdated
from tools import place
from tools.steps import StepFailed

PACKAGE = Path(origin.__file__).parent


def test_a_lab_of_this_version_is_left_alone(lab: Lab) -> None:
    origin.record(lab)
    assert cluster.is_up(lab)
    assert origin.of(lab) == origin.here()
    cluster.check(lab)


def test_a_lab_of_another_version_is_neither_kept_nor_ended(lab: Lab) -> None:
    outdated(lab)
    with pytest.raises(StepFailed, match=r"v1\.35\.9.*`LAB=old-\d+ make lab-down`") as refused:
        cluster.check(lab)
    assert "\n" not in str(refused.value)
    assert cluster.is_up(lab)


@pytest.mark.parametrize("begin", [lambda: cluster.up(current()), place.prepare_lab], ids=["lab", "demo"])
def test_it_is_told_before_anything_is_done(
    lab: Lab, begin: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB", lab.name)
    monkeypatch.setenv("PATH", "/nonexistent")  # so that nothing else could be done
    with pytest.raises(StepFailed, match="started from another version"):
        begin()


def test_a_lab_without_a_record_is_an_older_one(lab: Lab) -> None:
    with pytest.raises(StepFailed, match="an older one"):
        cluster.check(lab)


def test_one_that_does_not_run_whole_is_of_no_version(lab: Lab) -> None:
    lab.kubeconfig.unlink()
    cluster.check(lab)


def test_a_lab_is_reached_by_the_programs_that_it_runs(lab: Lab) -> None:
    """`make demo-down` after an update builds nothing."""
    old = replace(origin.here(), programs="0123456789abcdef")
    (lab.dir / "origin.json").write_text(json.dumps(asdict(old)))
    folder = build.folder_of(old.programs)
    folder.mkdir(parents=True)
    for name in ("lab", "pause", "probe"):
        (folder / name).write_text("")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (folder / "SHA256SUMS").write_text("".join(f"{empty}  {name}\n" for name in ("lab", "pause", "probe")))
    assert place.reached(lab, "default").kubectl == str(folder / "kubectl")


@pytest.mark.parametrize(("name", "differs"), [("configs", True), ("keeper", True), ("faults", False)])
def test_only_code_that_makes_a_lab_tells_labs_apart(tmp_path: Path, name: str, differs: bool) -> None:
    shutil.copytree(PACKAGE, tmp_path / "lab", ignore=shutil.ignore_patterns("go", "__pycache__"))
    assert origin.here(tmp_path / "lab") == origin.here()
    with (tmp_path / "lab" / f"{name}.py").open("a") as file:
        file.write("# changed\n")
    assert (origin.here(tmp_path / "lab") != origin.here()) is differs


def test_what_leaves_no_trace_is_a_module_that_is_there() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} >= origin.BESIDE
