"""Locks on files (flock), which the kernel drops with the process that has them, however it ends.

Owns: taking them, and what is answered where a volume knows none: a network file system need not. Nothing may be wrong
without them, only done twice. Must not know: what they stand for.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# EBADF: where locks of this kind are made of others (NFS), a file that is open for reading cannot be had alone.
UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})


def shared(path: Path) -> int | None:
    """An open file that nobody has alone until it is closed; None where there is no such file."""
    while True:
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        _lock(handle, fcntl.LOCK_SH)
        if _still(handle, path):
            return handle
        os.close(handle)  # it was removed, or replaced, before the lock was had


@contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Have the file alone; False where somebody else has it, where it is gone, and where the volume has no locks."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield bool(_lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)) and _still(handle, path)
    finally:
        os.close(handle)


@contextmanager
def alone(path: Path, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Be the only one inside, as far as the volume has locks; `waits` is told once where another is.

    The lock's file is made for it and removed with it.
    """
    handle, sure = _entered(path, waits)
    try:
        yield
    finally:
        _left(handle, sure, path)


@contextmanager
def alone_at_once(path: Path) -> Iterator[bool | None]:
    """The same without waiting: False where another is inside, None where the volume has no locks."""
    handle = _opened(path)
    sure = None
    try:
        sure = _lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sure = sure and _still(handle, path)
        yield sure
    finally:
        _left(handle, sure, path)


def _entered(path: Path, waits: Callable[[], None]) -> tuple[int, bool | None]:
    told = False
    while True:
        handle = _opened(path)
        try:
            sure = _lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if sure is False:
                if not told:
                    waits()
                told = True
                sure = _lock(handle, fcntl.LOCK_EX)
            if sure is None or _still(handle, path):
                return handle, sure
        except BaseException:  # SIGTERM while it waits
            os.close(handle)
            raise
        os.close(handle)


def _opened(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o664)
    with suppress(PermissionError):  # another user of the group made it, and saw to it
        os.fchmod(handle, 0o664)
    return handle


def _left(handle: int, sure: bool | None, path: Path) -> None:
    if sure:
        path.unlink(missing_ok=True)  # before the lock is dropped: who waits for it sees that, and begins anew
    os.close(handle)


def _lock(handle: int, operation: int) -> bool | None:
    """Whether it was had; None where the volume has no locks."""
    try:
        fcntl.flock(handle, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return None
        raise
    return True


def _still(handle: int, path: Path) -> bool:
    """Whether the path leads to the open file, and to no younger one."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), there)
