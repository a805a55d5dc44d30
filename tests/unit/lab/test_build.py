"""A cached program is used only where it is what was built from these very sources."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab import build
from tools import host


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "go"
    (folder / "pause").mkdir(parents=True)
    (folder / "main.go").write_text("package main\n")
    (folder / "go.mod").write_text("module x\n")
    (folder / "pause" / "main.go").write_text("package main\n")
    return folder


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("lab", "pause", "probe"):
        (folder / name).write_text(name)
    sums = [f"{host.sha256(folder / name)}  {name}\n" for name in ("lab", "pause", "probe")]
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


def test_the_key_follows_every_source(sources: Path) -> None:
    first = build.key(sources)
    assert build.key(sources) == first
    for name in ("main.go", "go.mod", "pause/main.go"):
        before = build.key(sources)
        (sources / name).write_text((sources / name).read_text() + "// changed\n")
        assert build.key(sources) != before


def test_the_key_does_not_follow_what_is_not_compiled(sources: Path) -> None:
    before = build.key(sources)
    (sources / "README").write_text("words")
    assert build.key(sources) == before


def test_a_file_moved_is_another_key(sources: Path) -> None:
    before = build.key(sources)
    os.rename(sources / "pause" / "main.go", sources / "pause" / "other.go")
    assert build.key(sources) != before


def test_what_was_built_is_trusted(programs: Path) -> None:
    assert build.intact(programs)


@pytest.mark.parametrize("name", ["lab", "pause", "probe"])
def test_one_changed_byte_is_not(programs: Path, name: str) -> None:
    (programs / name).write_text(name.upper())
    assert not build.intact(programs)


@pytest.mark.parametrize("name", ["lab", "SHA256SUMS"])
def test_nor_is_a_missing_file(programs: Path, name: str) -> None:
    (programs / name).unlink()
    assert not build.intact(programs)


def test_the_server_will_tell_the_version_that_was_built() -> None:
    flags = build.linker_flags()
    assert f"gitVersion={build.KUBERNETES}" in flags
    assert "gitMajor=1 " in flags


def test_a_go_that_is_not_there_is_too_old() -> None:
    assert build.go_version("/nonexistent/go") < build.GO_MINIMUM
