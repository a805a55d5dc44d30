"""Which program builds, by what the programs on the PATH answer: small scripts stand for docker and podman."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.images import engines
from tools.images.engines import Engine
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


PING = 'pinging container registry registry.test: Get "https://registry.test/v2/": x509: unknown authority'
REUSE = "trying to reuse blob sha256:ef at destination: "


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            f'Error: pushing image "localhost/a:1" to "docker://registry.test/team/a:1": {REUSE}'
            "checking whether a blob sha256:ef exists in registry.test/team/a: unauthorized: who are you?",
            "unauthorized: who are you?",
        ),
        (f"Error: {REUSE}{PING}", PING),
        ("denied: requested access to the resource is denied", "denied: requested access to the resource is denied"),
        ("", "does not say why"),
    ],
)
def test_a_push_that_is_refused_is_told_in_the_registrys_words(path: Path, line: str, words: str) -> None:
    (path / "line").write_text(f"Copying blob\n{line}\n")
    put(path, "podman", f'while read -r said; do echo "$said"; done < {path}/line; exit 125')
    with pytest.raises(StepFailed) as failure:
        Engine("podman", ("podman",)).push("localhost/a:1", "registry.test/team/a:1", path / "log")
    said = str(failure.value)
    assert said.startswith("registry.test/team/a:1 was not pushed: ")
    assert f"{words}. What" in said
    assert "Copying" not in said
    assert "\n" not in said


@pytest.mark.parametrize(("name", "asked"), [("docker", "registry.test/a:1"), ("podman", "docker://registry.test/a:1")])
def test_each_engine_is_told_where_to_push(path: Path, name: str, asked: str) -> None:
    put(path, name, f'echo "$*" >> {path}/asked')
    Engine(name, (name,)).push("localhost/a:1", "registry.test/a:1", path / "log")
    assert (path / "asked").read_text().splitlines()[-1].endswith(f" {asked}")
