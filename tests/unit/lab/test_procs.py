"""A PID is trusted only with its start time and boot: real processes, started and ended."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lab import procs
from lab.procs import Processes

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path / "processes")


def test_a_command_with_spaces_and_parentheses_is_parsed() -> None:
    stat = "42 (a (b) c) S " + " ".join(str(number) for number in range(4, 53))
    assert procs.parse_stat(stat) == ("S", 22)


def test_we_know_ourselves_and_not_our_successor() -> None:
    me = procs.identify(os.getpid())
    assert me is not None
    assert procs.alive(me)
    assert not procs.alive(replace(me, started=me.started + 1))
    assert not procs.alive(replace(me, boot="another boot"))


def test_a_process_is_recorded_found_again_and_ended(processes: Processes, tmp_path: Path) -> None:
    who = processes.spawn("sleeper", SLEEPER, log=tmp_path / "log")
    assert processes.running("sleeper")
    assert Processes(processes.dir).get("sleeper") == who
    processes.stop("sleeper")
    assert not procs.alive(who)
    assert processes.names() == []


def test_a_process_that_ignores_the_request_is_made_to_end(processes: Processes, tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    who = processes.spawn("deaf", [sys.executable, "-c", deaf], log=tmp_path / "log")
    procs.wait_until(lambda: "deaf" in (tmp_path / "log").read_text(), what="Its word", timeout=10)
    processes.stop("deaf", grace=0.2)
    assert not procs.alive(who)


def test_a_stranger_with_a_recorded_pid_is_left_alone(processes: Processes, tmp_path: Path) -> None:
    who = processes.spawn("ours", SLEEPER, log=tmp_path / "log")
    record = processes.dir / "ours.json"
    record.write_text(record.read_text().replace(str(who.started), str(who.started - 1)))
    processes.stop("ours")
    assert procs.alive(who)
    procs.end([who], grace=1)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"pid": 1}', "not json"])
def test_a_damaged_record_names_nobody(processes: Processes, content: str) -> None:
    processes.dir.mkdir()
    (processes.dir / "x.json").write_text(content)
    assert processes.get("x") is None
    assert not processes.running("x")


def test_waiting_ends_with_the_name_of_what_did_not_happen() -> None:
    with pytest.raises(TimeoutError, match="The tide did not happen"):
        procs.wait_until(lambda: False, what="The tide", timeout=0.05, interval=0.01)
