"""Tests and benchmarks take labs of their own, and leave those of others as they are."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from lab import cluster, origin
from lab.layout import DEFAULT, Lab, current
from tests.unit.lab.conftest import outdated
from tools import place
from tools.steps import StepFailed

OWN, ANOTHER = f"own-{os.getpid()}", f"other-{os.getpid()}"
"""No lab's of this machine: what has no folder is ended by the name."""


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lab is named, and the demo's has something in it."""
    monkeypatch.setenv("PILOTBOAT_CACHE", str(tmp_path))
    monkeypatch.setenv("LAB", "")
    monkeypatch.delenv("KEEP_LAB", raising=False)
    begin(Lab(DEFAULT))


def begin(lab: Lab) -> None:
    lab.volumes.mkdir(parents=True)


def test_it_is_none_of_anybody_elses_and_goes_with_the_block() -> None:
    with place.own_lab(OWN):
        assert os.environ["LAB"] == current().name == OWN
        begin(current())
    assert not Lab(OWN).dir.exists()
    assert Lab(DEFAULT).volumes.exists()


def test_it_goes_with_a_block_that_is_interrupted() -> None:
    with contextlib.suppress(KeyboardInterrupt), place.own_lab(OWN):
        begin(current())
        raise KeyboardInterrupt
    assert not Lab(OWN).dir.exists()


def test_nobody_takes_it_from_a_run_that_has_it() -> None:
    with place.own_lab(OWN):
        begin(current())
        with pytest.raises(StepFailed, match=f"Another run has the lab {OWN}"), place.own_lab(OWN):
            pass
        assert Lab(OWN).volumes.exists()
    with place.own_lab(OWN):
        pass


def test_it_is_kept_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEEP_LAB", "1")
    with place.own_lab(OWN):
        begin(current())
    assert Lab(OWN).volumes.exists()


def test_one_of_an_older_version_is_ended_before(lab: Lab) -> None:
    outdated(lab)
    with place.own_lab(lab.name):
        assert not lab.dir.exists()


def test_one_of_this_version_is_taken_as_it_is(lab: Lab) -> None:
    origin.record(lab)
    with place.own_lab(lab.name):
        assert cluster.is_up(lab)


def test_one_that_is_named_is_taken_and_ended_only_where_it_did_not_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB", lab.name)
    with place.own_lab(OWN):
        assert current() == lab
    assert cluster.is_up(lab)
    monkeypatch.setenv("LAB", ANOTHER)
    with place.own_lab(OWN):
        begin(current())
    assert not Lab(ANOTHER).dir.exists()
