"""Locks between open files, between processes, and on volumes that have none."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pilotboat_fetch import locks

HOLDS = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(handle, int(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""


def holder(path: Path, operation: int) -> subprocess.Popen[str]:
    """Another process that has the lock until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path), str(operation)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def is_unused(path: Path) -> bool:
    with locks.unused(path) as free:
        return free


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_text("x")
    path.chmod(0o444)
    return path


def test_a_file_that_another_process_holds_is_in_use_until_that_ends_however(blob: Path) -> None:
    assert is_unused(blob)
    process = holder(blob, fcntl.LOCK_SH)
    assert not is_unused(blob)
    other = locks.shared(blob)
    assert other is not None, "many may hold it"
    process.kill()
    process.communicate()
    assert not is_unused(blob), "this process has it, too"
    os.close(other)
    assert is_unused(blob)


def test_nothing_is_held_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert locks.shared(tmp_path / "gone") is None
    assert not is_unused(tmp_path / "gone")


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_goes_while_its_lock_is_waited_for_is_not_held(blob: Path, replaced: bool) -> None:
    got: list[int | None] = []
    with locks.unused(blob) as free:
        assert free
        thread = threading.Thread(target=lambda: got.append(locks.shared(blob)))
        thread.start()
        if replaced:
            younger = blob.with_name("younger")
            younger.touch()
            younger.replace(blob)
        else:
            blob.unlink()
    thread.join(30)
    (handle,) = got
    assert (handle is not None) == replaced
    if handle is not None:
        assert os.path.samestat(os.fstat(handle), blob.stat())
        os.close(handle)


def test_one_at_a_time_and_who_waits_says_so_once(tmp_path: Path) -> None:
    """Three threads add to a file by reading and writing it whole."""
    lock, count, waited = tmp_path / "lock", tmp_path / "count", threading.Event()
    count.write_text("0")

    def add() -> None:
        for _ in range(50):
            with locks.alone(lock, waited.set):
                count.write_text(str(int(count.read_text()) + 1))

    threads = [threading.Thread(target=add) for _ in range(3)]
    with locks.alone(lock):
        for thread in threads:
            thread.start()
        assert waited.wait(30)
        with locks.alone_at_once(lock) as sure:
            assert sure is False
        assert lock.exists(), "who was not inside leaves the lock to who is"
    for thread in threads:
        thread.join(30)
    assert count.read_text() == "150"
    assert not lock.exists()


def test_a_lock_that_a_dead_process_left_is_had_at_once(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    process = holder(lock, fcntl.LOCK_EX)
    with locks.alone_at_once(lock) as sure:
        assert sure is False
    process.kill()
    process.communicate()
    with locks.alone_at_once(lock) as sure:
        assert sure is True


@pytest.mark.parametrize("code", sorted(locks.UNSUPPORTED))
def test_a_volume_without_locks_is_used_without_and_nothing_on_it_is_unused(
    blob: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    handle = locks.shared(blob)
    assert handle is not None
    os.close(handle)
    assert not is_unused(blob)
    with locks.alone(blob.with_name("lock")), locks.alone_at_once(blob.with_name("lock")) as sure:
        assert sure is None


def test_any_other_trouble_is_raised(blob: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int, operation: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="broken"):
        locks.shared(blob)
