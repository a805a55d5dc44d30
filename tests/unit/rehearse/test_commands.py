"""Commands of the file, run for real: names as arguments, healing in any case."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from pilotboat.engine.errors import Unavailable
from pilotboat.rehearse import faults
from pilotboat.rehearse.aim import Target
from pilotboat.rehearse.cluster import Subject
from pilotboat.rehearse.errors import HealFailed, Refused, Unmeasured
from pilotboat.rehearse.file import Aim
from tests.unit.rehearse.objects import fault, replicas

HIT = Target((), ("n2",), "zone; rm -rf /", False)
NOBODY = cast(Subject, None)
"""Commands are run without a cluster."""


def writes(path: Path, *words: str, code: int = 0) -> list[str]:
    script = f"import sys; open(sys.argv[1], 'a').write('|'.join(sys.argv[2:]) + '\\n'); sys.exit({code})"
    return [sys.executable, "-c", script, str(path), *words]


def cutting(path: Path, **more: Any) -> Any:
    commands = {"cut": writes(path, "cut", "{node}", "in {zone}"), "heal": writes(path, "heal", "{node}")}
    return fault("cutNode", **commands | more)


async def test_names_are_arguments_and_no_shell_reads_them(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with faults.standing(cutting(log), HIT, NOBODY):
        assert log.read_text() == "cut|n2|in zone; rm -rf /\n"
    assert log.read_text().splitlines()[1:] == ["heal|n2"]


async def test_a_cut_that_fails_is_healed_all_the_same(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(Unmeasured, match="ended with 7"):
        async with faults.standing(cutting(log, cut=writes(log, "cut", code=7)), HIT, NOBODY):
            pytest.fail("it does not stand")
    assert log.read_text() == "cut\nheal|n2\n"


async def test_healing_is_tried_twice_and_then_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    with pytest.raises(HealFailed, match=r"a fault still stands; run yourself: .* ended with 3"):
        async with faults.standing(cutting(log, heal=writes(log, "heal", code=3)), HIT, NOBODY):
            pass
    assert log.read_text().count("heal") == 2
    assert "HEAL FAILED, run it yourself" in capsys.readouterr().err


async def test_who_is_cancelled_heals_first_however_often(tmp_path: Path) -> None:
    log, ready, go = tmp_path / "log", tmp_path / "ready", tmp_path / "go"
    script = (
        "import pathlib, sys, time\nlog, ready, go = map(pathlib.Path, sys.argv[1:])\nready.touch()\n"
        "while not go.exists(): time.sleep(0.01)\nlog.open('a').write('healed')"
    )
    slow = [sys.executable, "-c", script, str(log), str(ready), str(go)]
    standing = asyncio.Event()

    async def stand() -> None:
        async with faults.standing(cutting(log, heal=slow), HIT, NOBODY):
            standing.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stand())
    await standing.wait()
    task.cancel()
    async with asyncio.timeout(20):
        while not ready.exists():  # noqa: ASYNC110 -- another process makes it
            await asyncio.sleep(0)
    task.cancel()
    assert not task.done()
    go.touch()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log.read_text().endswith("healed")


async def test_who_is_cancelled_and_cannot_heal_says_that(tmp_path: Path) -> None:
    """Or it would be said that every fault is undone."""
    log, standing = tmp_path / "log", asyncio.Event()

    async def stand() -> None:
        async with faults.standing(cutting(log, heal=writes(log, "heal", code=3)), HIT, NOBODY):
            standing.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stand())
    await standing.wait()
    task.cancel()
    with pytest.raises(HealFailed):
        await task


async def test_a_terminals_signals_do_not_reach_commands(tmp_path: Path) -> None:
    """They go to all processes of its session; `heal` would be ended by the Ctrl-C that it is run for."""
    told = tmp_path / "session"
    script = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(str(os.getsid(0) == os.getpid()))"
    await faults.command([sys.executable, "-c", script, str(told)])
    assert told.read_text() == "True"


class Stumbling:
    """An API server that is away for a while: nothing can be asked, nor done inside a pod."""

    def __init__(self, tries: int) -> None:
        self.left = tries

    async def get(self, *_: Any) -> None:
        raise Unavailable(0, "ClientConnectorError", "connection refused")

    async def ask(self, *_: Any) -> None:
        self.left -= 1
        if self.left:
            raise Unmeasured("pods/exec of a: ClientConnectorError")


async def test_undoing_goes_on_where_the_api_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "AGAIN_SECONDS", 0)
    away = cast(Any, Stumbling(3))
    subject = Subject(away, away, Aim(namespace="team", name="chat"))
    await faults.undone(faults._mended(subject, Target(replicas()), "a-run"))
    assert away.left == 0


async def test_a_command_that_is_not_there() -> None:
    with pytest.raises(Unmeasured, match="No such file"):
        await faults.command(["/nowhere/at/all"])


@pytest.mark.parametrize("field", ["cut", "heal"])
def test_a_command_that_is_no_program_is_refused_before_anything_is_cut(field: str, tmp_path: Path) -> None:
    plain = tmp_path / "n2"
    plain.write_text("no program")
    for words in (["/nowhere/heal", "{node}"], ["no-such-program"], [str(plain)], [f"{tmp_path}/{{node}}"]):
        with pytest.raises(Refused, match=rf"faults\.3\.{field}: `.*` is no program"):
            faults.check(cutting(tmp_path, **{field: words}), HIT, "faults.3")
    plain.chmod(0o755)
    faults.check(cutting(tmp_path, **{field: [f"{tmp_path}/{{node}}"]}), HIT, "faults.3")


@pytest.mark.parametrize("code", [0, 4])
async def test_what_a_command_leaves_in_the_background_is_not_waited_for(code: int, tmp_path: Path) -> None:
    """A proxy that stays, or a timer that heals by itself."""
    pipe, lasted = tmp_path / "pipe", tmp_path / "lasted"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)
    words = ["sh", "-c", f'echo words; (read line < "$0"; : > "$1") & exit {code}', str(pipe), str(lasted)]
    async with asyncio.timeout(20):
        with pytest.raises(Unmeasured, match="ended with 4: words") if code else contextlib.nullcontext():
            await faults.command(words)
        os.write(held, b"go on\n")
        while not lasted.exists():  # noqa: ASYNC110 -- another process makes it
            await asyncio.sleep(0)
    os.close(held)


async def test_of_much_output_the_end_is_told() -> None:
    script = "print('x' * 100_000); print('why'); raise SystemExit(5)"
    with pytest.raises(Unmeasured, match=r"ended with 5: x{300,400}\nwhy$"):
        await faults.command([sys.executable, "-c", script])
