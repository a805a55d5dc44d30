"""Copies become links exactly where nothing but the disk's space changes by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.images import twins

CONTENT = b"library" * twins.SMALLEST
SITE = "overlay/l1/diff/opt/venv/lib/python3.13/site-packages"


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    return tmp_path / "uv"


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "storage"


def test_a_copy_becomes_a_link_and_is_counted_once(wheels: Path, storage: Path) -> None:
    cached = write(wheels / "archive-v0/abc/lib/cuda.so", CONTENT)
    copy = write(storage / SITE / "lib/cuda.so", CONTENT)
    assert twins.link(storage, wheels) == len(CONTENT)
    assert copy.samefile(cached)
    assert copy.read_bytes() == CONTENT
    assert twins.link(storage, wheels) == 0


def test_of_two_wheels_with_the_same_file_name_the_equal_one_is_taken(wheels: Path, storage: Path) -> None:
    write(wheels / "archive-v0/a/torch/lib.so", b"x" * len(CONTENT))
    same = write(wheels / "archive-v0/b/torch/lib.so", CONTENT)
    copy = write(storage / SITE / "torch/lib.so", CONTENT)
    twins.link(storage, wheels)
    assert copy.samefile(same)


@pytest.mark.parametrize("content", [b"y" * len(CONTENT), CONTENT + b"1"])
def test_another_content_stays_its_own(wheels: Path, storage: Path, content: bytes) -> None:
    cached = write(wheels / "archive-v0/abc/cuda.so", CONTENT)
    other = write(storage / SITE / "cuda.so", content)
    assert twins.link(storage, wheels) == 0
    assert not other.samefile(cached)
    assert other.read_bytes() == content


def test_another_mode_stays_its_own(wheels: Path, storage: Path) -> None:
    write(wheels / "archive-v0/abc/cuda.so", CONTENT)
    copy = write(storage / SITE / "cuda.so", CONTENT)
    copy.chmod(0o755)
    assert twins.link(storage, wheels) == 0
    assert copy.stat().st_mode & 0o777 == 0o755


def test_small_files_and_other_folders_are_left_alone(wheels: Path, storage: Path) -> None:
    write(wheels / "archive-v0/abc/app.py", b"small")
    write(wheels / "archive-v0/abc/cuda.so", CONTENT)
    small = write(storage / SITE / "app.py", b"small")
    elsewhere = write(storage / "overlay/l1/diff/usr/lib/cuda.so", CONTENT)
    assert twins.link(storage, wheels) == 0
    assert small.stat().st_nlink == elsewhere.stat().st_nlink == 1
