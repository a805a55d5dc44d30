"""CPU threads from the cgroup's quota."""

import os

import pytest

from pilotboat_trainer.threads import cpu_threads, parse_v1, parse_v2


@pytest.mark.parametrize(
    ("text", "cores"), [("150000 100000\n", 1.5), ("max 100000\n", None), ("", None), ("400000 100000", 4.0)]
)
def test_version_2(text: str, cores: float | None) -> None:
    assert parse_v2(text) == cores


def test_version_1() -> None:
    assert parse_v1("200000\n", "100000\n") == 2.0
    assert parse_v1("-1\n", "100000\n") is None
    assert parse_v1("", "") is None


def test_what_was_asked_for_comes_first_and_the_machine_is_the_bound() -> None:
    assert cpu_threads(7) == 7
    assert 0 < cpu_threads() <= len(os.sched_getaffinity(0))
