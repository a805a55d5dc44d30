"""Which program builds, by what the programs on the PATH answer: small scripts stand for docker and podman."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.images import engines
from tools.steps import StepFailed

ANSWERS = "exit 0"
NO_ENGINE = "exit 1"
NO_BUILDX = """[ "$1" != build ] || [ -z "$DOCKER_BUILDKIT" ]"""
"""docker 28 without its plug-in: `info` succeeds, and whatever has to do with BuildKit does not."""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PILOTBOAT_BUILDER", raising=False)
    return tmp_path


def put(path: Path, name: str, script: str) -> None:
    (path / name).write_text(f"#!/bin/sh\n{script}\n")
    (path / name).chmod(0o755)


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_an_engine_that_answers_is_taken(path: Path, name: str) -> None:
    put(path, name, ANSWERS)
    assert engines.choose().name == name


def test_a_docker_that_cannot_build_is_passed_over_for_podman(path: Path) -> None:
    put(path, "docker", NO_BUILDX)
    put(path, "podman", ANSWERS)
    assert engines.choose().name == "podman"


@pytest.mark.parametrize(
    ("script", "named"), [(None, "not on this machine"), (NO_ENGINE, "start its engine"), (NO_BUILDX, "install buildx")]
)
def test_a_docker_that_was_asked_for_and_cannot_build_says_what_it_lacks(
    path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, named: str
) -> None:
    if script:
        put(path, "docker", script)
    put(path, "podman", ANSWERS)
    monkeypatch.setenv("PILOTBOAT_BUILDER", "docker")
    with pytest.raises(StepFailed, match=named):
        engines.choose()


def test_where_nothing_builds_both_lacks_are_told(path: Path) -> None:
    put(path, "docker", NO_ENGINE)
    with pytest.raises(StepFailed, match=r"docker does not answer.*podman is not on this machine.*buildah"):
        engines.choose()
