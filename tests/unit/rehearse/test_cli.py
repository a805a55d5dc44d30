"""The command: what it says no to before it talks to any cluster, and where the key comes from."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import signal
from pathlib import Path
from typing import Any, cast

import pytest

from pilotboat import cli, rehearse_cli
from pilotboat.rehearse.errors import BadFile
from pilotboat.rehearse.file import ApiKey
from pilotboat.rehearse.promises import Line
from pilotboat.rehearse.table import Row, Side


def test_a_bad_file_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("deployment: {namespace: a, name: b}\nfaults: []\n")
    assert cli.main(["rehearse", str(path), "--kubeconfig", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_kubeconfig_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("deployment: {namespace: a, name: b}\nfaults: [{name: f, kind: deletePod}]\n")
    assert cli.main(["rehearse", str(path), "--kubeconfig", str(tmp_path / "none")]) == 2
    assert "kubeconfig" in capsys.readouterr().err.lower()


def test_the_key_is_the_first_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    path.write_text("\n sk-one \nsk-two\n")
    monkeypatch.setenv("THE_KEY", "sk-three")
    assert rehearse_cli._key(ApiKey(file=str(path))) == "sk-one"
    assert rehearse_cli._key(ApiKey(env="THE_KEY")) == "sk-three"
    assert rehearse_cli._key(None) is None


@pytest.mark.parametrize("text", ["", "\n", "sk-ö"])
def test_no_key_where_one_was_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(BadFile, match=r"load\.apiKey: no key in") as caught:
        rehearse_cli._key(ApiKey(file=str(path)))
    assert "ö" not in str(caught.value)


class Closed(io.TextIOBase):
    """A terminal that is no more."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
async def test_a_closed_terminal_stops_it_though_nothing_can_be_said(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", Closed())
    task = asyncio.create_task(asyncio.Event().wait())
    with rehearse_cli._signals(cast(Any, task)):
        os.kill(os.getpid(), number)
        async with asyncio.timeout(20):
            await asyncio.wait({task})
    assert task.cancelled()
    assert rehearse_cli._complain(BadFile("words")) == 2


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"load\.apiKey\.file: .*No such file"):
        rehearse_cli._key(ApiKey(file=str(tmp_path / "none")))


def unreachable(folder: Path) -> list[str]:
    """A rehearsal of a cluster that nobody reaches."""
    clusters = [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}]
    contexts = [{"name": "c", "context": {"cluster": "c", "user": "u"}}]
    users: list[Any] = [{"name": "u", "user": {"token": "t"}}]
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "c"}
    (folder / "config").write_text(json.dumps(config | {"clusters": clusters, "contexts": contexts, "users": users}))
    (folder / "r.yaml").write_text("deployment: {namespace: a, name: b}\nfaults: [{name: f, kind: deletePod}]\n")
    return ["rehearse", str(folder / "r.yaml"), f"--kubeconfig={folder / 'config'}"]


def test_figures_that_cannot_be_written_are_told_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*unreachable(tmp_path), f"--json={tmp_path}/none/figures.json"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "--json: " in said.err
    assert "No such file" in said.err


def test_a_disk_that_is_full_at_the_end_costs_the_file_and_not_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("f", "deletePod", Side("chat-0", (Line("lost", "0", "0", True),)))
    assert rehearse_cli._told([row], 1, Path("/dev/full"), None) == 2
    said = capsys.readouterr()
    assert said.out.startswith("fault ")
    assert "--json: /dev/full: No space left on device" in said.err


def test_what_ended_before_the_first_fault_has_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*unreachable(tmp_path), f"--json={tmp_path}/figures.json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("pilotboat: ")
    assert json.loads((tmp_path / "figures.json").read_text()) == []


async def test_a_bug_of_ours_is_no_broken_promise_and_costs_no_figures(capsys: pytest.CaptureFixture[str]) -> None:
    class Buggy:
        async def run(self) -> None:
            raise KeyError("a bug")

    stopped = await rehearse_cli._until_stopped(cast(Any, Buggy()))
    assert rehearse_cli._complain(cast(BaseException, stopped)) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("pilotboat: stopped by a KeyError that nobody expected\n")


def test_a_key_file_of_no_possible_name() -> None:
    with pytest.raises(BadFile, match=r"load\.apiKey\.file: "):
        rehearse_cli._key(ApiKey(file="a\0b"))
