"""What a person must read is a sentence with its way out, and only a fault of ours is a traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from tools import endings, steps
from tools.steps import StepFailed


def failing(error: BaseException) -> int:
    """The status of a program that ends so."""

    def program() -> NoReturn:
        raise error

    return endings.spoken(program)


@pytest.mark.parametrize("status", [0, 3])
def test_the_status_of_a_program_is_its_own(status: int) -> None:
    assert endings.spoken(lambda: status) == status


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (StepFailed("Take another lab."), 1, "Take another lab."),
        (TimeoutError("The nodes' readiness did not happen within 120 s."), 1, "did not happen within 120 s."),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "PILOTBOAT_CACHE to a folder on a larger disk."),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 1, "/x/y: Permission denied: run this as root"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/x"), 1, "a folder that you may write."),
        (KeyboardInterrupt(), 130, "it can be run again."),
    ],
)
def test_a_sentence_says_what_to_do(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(error) == status
    words = capsys.readouterr().err.strip()
    assert said in words
    assert "\n" not in words


def test_a_file_in_the_place_of_the_cache_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert endings.spoken(lambda: (tmp_path / "file" / "logs").mkdir() or 0) == 1
    assert "PILOTBOAT_CACHE must name a folder." in capsys.readouterr().err


@pytest.mark.parametrize("fault", [FileNotFoundError(errno.ENOENT, "No such file", "/x"), KeyError("x")])
def test_a_fault_of_ours_keeps_its_traceback(fault: Exception) -> None:
    with pytest.raises(type(fault)):
        failing(fault)


def test_a_python_that_is_too_old_is_told_before_anything_else() -> None:
    steps.check_python((3, 11))
    with pytest.raises(SystemExit, match=r"3\.11 or newer is needed and this is 3\.9: .*PYTHON="):
        steps.check_python((3, 9))
