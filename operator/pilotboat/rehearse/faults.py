"""The faults: each stands while a block runs, and is undone when it is left, however it is left.

Owns: making and undoing. Must not know: limits, load, what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import IO, Any

from ..api.base import byte_count
from ..engine.errors import EngineError
from . import inside
from .aim import Target
from .cluster import Subject
from .errors import HealFailed, Refused, RehearsalError, Unmeasured
from .file import Cut, CutNode, CutZone, DeletePod, Fault, FullDisk, KillProcess, SlowModel
from .reach import Running
from .world import Pod

COMMAND_SECONDS = 60.0
BEGIN_SECONDS = 60.0
MEND_SECONDS = 60.0
"""How long undoing is tried; what a program did inside a pod ends by itself by then too."""
AGAIN_SECONDS = 1.0
LAST = 400
"""Bytes of a command's output that are told."""


@asynccontextmanager
async def standing(fault: Fault, hit: Target, subject: Subject) -> AsyncIterator[None]:
    """The fault, from when it stands. Raises Unmeasured where it could not be made."""
    match fault:
        case KillProcess():
            await subject.reach.ask(hit.pods[0], inside.KILL, {"process": fault.process})
            yield
        case DeletePod():
            await subject.delete(hit.pods[0], fault.grace_seconds)
            yield
        case SlowModel():
            async with _inside(subject, hit, inside.SLOW, {"seconds": fault.seconds, "share": fault.share}):
                yield
        case FullDisk():
            async with _inside(subject, hit, inside.FILL, {"seconds": fault.seconds, "bytes": byte_count(fault.bytes)}):
                yield
        case CutNode() | CutZone():
            async with _cut(fault, hit):
                yield


@asynccontextmanager
async def _inside(subject: Subject, hit: Target, program: str, wish: dict[str, Any]) -> AsyncIterator[None]:
    """A program that lasts; afterwards another one sees to it that nothing is left, until that has been so.

    Both say whose they are: somebody else's rehearsal of the same pod is left alone."""
    pod, run = hit.pods[0], secrets.token_hex(8)
    try:
        async with subject.reach.program(pod, program, wish | {"run": run}) as running:
            if not await _begun(running):
                raise Unmeasured(f"{pod.name}: {running.said}")
            yield
    finally:
        await undone(_mended(subject, hit, run))


async def _begun(running: Running) -> bool:
    try:
        async with asyncio.timeout(BEGIN_SECONDS):
            return await running.until("ready")
    except TimeoutError:
        return False


async def _mended(subject: Subject, hit: Target, run: str) -> None:
    pod, words = hit.pods[0], ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(MEND_SECONDS):
            while True:
                try:
                    await subject.reach.ask(pod, inside.MEND, {"run": run})
                    return
                except (RehearsalError, EngineError) as error:
                    words = str(error)
                if await _gone(subject, pod):
                    return  # and everything in it
                await asyncio.sleep(AGAIN_SECONDS)
    _shout(f"{pod.name} could not be reached to undo the fault ({words}); it ends by itself with its time")


async def _gone(subject: Subject, pod: Pod) -> bool:
    """Whether it certainly is: where the API server does not say, nobody knows."""
    try:
        return all(each.uid != pod.uid for each in (await subject.world()).pods)
    except (RehearsalError, EngineError):
        return False


def check(fault: Cut, hit: Target, told: str) -> None:
    """Raise Refused where a command is no program: of `heal` that would be found when the node is cut off already."""
    for name, words in (("cut", fault.cut), ("heal", fault.heal)):
        program = _filled(words, hit)[0]
        if shutil.which(program) is None:
            raise Refused(f"{told}.{name}: `{program}` is no program here (relative paths are the working directory's)")


@asynccontextmanager
async def _cut(fault: Cut, hit: Target) -> AsyncIterator[None]:
    """The user's commands; `heal` is run in any case, and once more where it fails."""
    try:
        await command(_filled(fault.cut, hit))
        yield
    finally:
        await undone(_healed(_filled(fault.heal, hit)))


async def _healed(words: Sequence[str]) -> None:
    for last in (False, True):
        try:
            return await command(words)
        except Unmeasured as error:
            if last:
                _shout(f"HEAL FAILED, run it yourself: {' '.join(words)}\n{error}")
                raise HealFailed(f"a fault still stands; run yourself: {' '.join(words)}; {error}") from None


def _filled(words: Sequence[str], hit: Target) -> list[str]:
    """The command with names put in: as arguments, so that no shell reads them."""
    names = {"{node}": hit.nodes[0], "{zone}": hit.zone or ""}
    filled = list(words)
    for mark, name in names.items():
        filled = [word.replace(mark, name) for word in filled]
    return filled


async def command(words: Sequence[str]) -> None:
    """Run it on this machine. Raises Unmeasured with its own words where it fails.

    In a session of its own: a terminal's Ctrl-C, or its end, is for us alone, who then undo what stands. Its output
    goes to a file: a pipe would be held open by whatever it leaves in the background, and break when we go."""
    try:
        with tempfile.TemporaryFile() as said:
            await _run(words, said)
    except OSError as error:
        raise Unmeasured(f"`{words[0]}`: {error.strerror}") from None


async def _run(words: Sequence[str], said: IO[bytes]) -> None:
    process = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=asyncio.subprocess.STDOUT, start_new_session=True
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            await process.wait()
    except TimeoutError:
        raise Unmeasured(f"`{words[0]}` did not end within {COMMAND_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        last = os.pread(said.fileno(), LAST, max(0, os.fstat(said.fileno()).st_size - LAST))
        raise Unmeasured(f"`{words[0]}` ended with {process.returncode}: {last.decode(errors='replace').strip()}")


async def undone(work: Awaitable[None]) -> None:
    """Let it finish, whoever cancels us meanwhile; they are heard afterwards, unless it failed: that is told first."""
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
        except RehearsalError:
            break
    task.result()
    if cancelled:
        raise asyncio.CancelledError


def _shout(words: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be closed
        print(f"pilotboat: {words}", file=sys.stderr, flush=True)
