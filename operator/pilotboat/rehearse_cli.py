"""`pilotboat rehearse FILE`: faults against a deployment of the user's choosing, and a table of what was promised and
what was measured.

Owns: arguments, signals, what is printed, exit codes (0 every promise kept, 1 one broken, 2 refused or not measured).
Must not know: how a rehearsal goes (pilotboat.rehearse).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from . import cluster_cli
from .engine.api import Api, uses_pod_account
from .engine.errors import EngineError
from .rehearse import file, table
from .rehearse.cluster import Subject
from .rehearse.errors import BadFile, Refused, RehearsalError
from .rehearse.file import ApiKey, Rehearsal, Via
from .rehearse.reach import Reach
from .rehearse.rehearsal import Stage
from .rehearse.table import Row

REFUSED = 2


def add(commands: Any) -> None:
    """The arguments of `pilotboat rehearse`."""
    words = "Make the faults of a file, under load and within its limit; print promises and measurements."
    parser: argparse.ArgumentParser = commands.add_parser("rehearse", help=words, description=words)
    parser.add_argument("file", type=Path, help="YAML; docs/rehearsal.md describes it")
    cluster_cli.add(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be hit, and do nothing")
    parser.add_argument("--allow-commands", action="store_true", help="let the file run its commands on this machine")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there as well")


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    try:
        asked = file.load(arguments.file)
        key = _key(asked.load.api_key)
    except RehearsalError as error:
        return _complain(error)
    return cluster_cli.run(_run(arguments, asked, key), REFUSED, RehearsalError)


async def _run(arguments: argparse.Namespace, asked: Rehearsal, key: str | None) -> int:
    configuration = await cluster_cli.credentials(arguments)
    async with Api(configuration) as api, Reach(configuration, asked.deployment.namespace) as reach:
        ours = Subject(api, reach, asked.deployment)
        control = Subject(api, reach, asked.deployment, asked.control) if asked.control else None
        via = asked.load.via or (
            Via.SERVICE if uses_pod_account(arguments.kubeconfig, arguments.context) else Via.PORT_FORWARD
        )
        stage = Stage(asked, ours, control, via, key, arguments.allow_commands, _say)
        if arguments.dry_run:
            for fault, hit in await stage.check():
                print(f"{fault.name}: {fault.kind} for {fault.seconds:g} s would hit {hit}")
            return 0
        if arguments.json:  # afterwards the figures could not be had again
            _write(arguments.json, "", "a")
        stopped = await _until_stopped(stage)
    return _told(stage.rows, len(asked.faults), arguments.json, stopped)


def _told(rows: Sequence[Row], asked: int, path: Path | None, stopped: BaseException | None) -> int:
    """The table, unless it ended before the first fault, and why there is nothing more; the exit code."""
    if rows:
        _say("\n".join(table.table(rows)), sys.stdout)
    code = table.status(rows, asked)
    for trouble in filter(None, (_recorded(path, rows), stopped)):
        _complain(trouble)
        code = code if code == table.BROKEN else REFUSED
    return code


def _recorded(path: Path | None, rows: Sequence[Row]) -> Refused | None:
    """The figures, where somebody asked for them; why they could not be written."""
    try:
        if path:
            _write(path, json.dumps(table.record(rows), indent=1) + "\n", "w")
    except Refused as error:
        return error
    return None


def _write(path: Path, text: str, mode: str) -> None:
    try:
        with path.open(mode, encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        raise Refused(f"--json: {path}: {error.strerror}") from None


async def _until_stopped(stage: Stage) -> BaseException | None:
    """Run it; what ended it early. A signal ends it in good order: what stands is undone first."""
    task = asyncio.create_task(stage.run())
    with _signals(task):
        await asyncio.wait({task})
    if task.cancelled():
        return Refused("stopped; every fault is undone")
    error = task.exception()
    if error is None or isinstance(error, EngineError | RehearsalError):
        return error
    if not isinstance(error, Exception):
        raise error
    traceback.print_exception(error)  # a bug of ours: no promise was broken, and what was measured is still told
    return Refused(f"stopped by a {type(error).__name__} that nobody expected")


@contextlib.contextmanager
def _signals(task: asyncio.Task[None]) -> Iterator[None]:
    """Ctrl-C, a closed terminal and `kill` cancel the task."""
    loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop() -> None:
        task.cancel()
        _say("stopping: what stands is undone first")

    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _key(where: ApiKey | None) -> str | None:
    """The first line of the file or the variable; messages name the place and never what is there."""
    if where is None:
        return None
    try:
        text = os.environ.get(where.env, "") if where.env else Path(where.file or "").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or no path
        raise BadFile(f"load.apiKey.file: {where.file}: {getattr(error, 'strerror', 'not text')}") from None
    key = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if not key or not (key.isascii() and key.isprintable()):
        raise BadFile(f"load.apiKey: no key in {where.env or where.file}")
    return key


def _say(words: str, where: TextIO | None = None) -> None:
    with contextlib.suppress(OSError):  # the terminal may be closed; that is no reason to leave anything undone
        print(words, file=where or sys.stderr, flush=True)


def _complain(error: BaseException) -> int:
    return cluster_cli.complain(error, REFUSED)
