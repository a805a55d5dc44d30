"""The job's folder on the output volume: what lies where, and which of it is whole.

    adapter/ or model/     the result, renamed into place when whole
    checkpoints/           by writer (writers.py); on a volume of their own where the config names one
    tensorboard/           event files, one run however often it was resumed
    run.json               inputs' fingerprint, starts, seconds
    report.json            written last: its presence says finished

Everything is written by the newest writer alone. The result and the report are put where nothing is: a writer that was
frozen between the check and the rename, and wakes up after its successor has published, replaces nothing.

Owns: names, what of them is whole. Must not know: torch, what is trained.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotboat.api.runtime import MANIFEST, OUTPUT_DIR, TrainerConfig, TrainerResult

from .dataset import Examples
from .files import create_json, digests, read_json, sync, sync_all, write_json
from .writers import Writer

_HALF = re.compile(r"\.(?:adapter|model)\.(?:(\d+)|old)")
"""A result that is being saved, by its writer's number, or one that is being removed."""


@dataclass
class Run:
    """What is remembered from pod to pod."""

    fingerprint: str
    starts: int = 0
    seconds: float = 0.0


class Output:
    """One job's folder."""

    def __init__(self, path: Path, checkpoints: Path | None = None) -> None:
        self.path = path
        self.checkpoints = checkpoints or path / "checkpoints"
        self.tensorboard = path / "tensorboard"
        self._run, self._report = path / "run.json", path / "report.json"
        self._writer: Writer | None = None

    @property
    def writer(self) -> Writer:
        """This pod's claim, since `begin`."""
        assert self._writer, "nothing is written before begin()"
        return self._writer

    def finished(self, fingerprint: str) -> TrainerResult | None:
        """The result of an earlier pod of this very job, if it is there and every file still has its digest."""
        report, run = read_json(self._report), self._read_run()
        if not report or not run or run.fingerprint != fingerprint:
            return None
        try:
            result = TrainerResult.model_validate(report["result"])
        except (KeyError, ValueError):
            return None
        return result if digests(self.path / Path(result.path).name) == report.get("digests") else None

    def begin(self, fingerprint: str) -> Run:
        """Claim the folder and count this start. Other inputs under the same name are another run: it begins anew."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._writer = Writer.claim(self.checkpoints)
        self._remove_halves()
        run = self._read_run()
        if run is None or run.fingerprint != fingerprint:
            run = Run(fingerprint)
            shutil.rmtree(self.tensorboard, ignore_errors=True)
        self._report.unlink(missing_ok=True)
        run.starts += 1
        self.remember(run)
        return run

    def remember(self, run: Run) -> None:
        """Keep the record for the next pod, unless that one is here already."""
        if self.writer.newest:
            write_json(self._run, run.__dict__)

    def leave(self, run: Run) -> None:
        """However a pod ends: nothing half saved stays, for a full volume has no room for its successor's claim either,
        and no trouble with the record hides why it ends."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self.writer.working, ignore_errors=True)
            self.remember(run)

    def _remove_halves(self) -> None:
        """What earlier writers did not finish: as large as a model each, and nobody else would remove it.

        One of them may still run, or be frozen anywhere. It finds its files gone, fails, and learns that it is
        superseded. What it just then renames into place half removed is not trusted: a checkpoint lacks digests, a
        result its report, and the next to publish moves it aside."""
        named = ((_HALF.fullmatch(path.name), path) for path in self.path.iterdir())
        results = [path for match, path in named if match and int(match[1] or 0) < self.writer.number]
        for path in (*results, *self.writer.unfinished()):
            shutil.rmtree(path, ignore_errors=True)

    def publish(self, name: str, save: Callable[[Path], None]) -> dict[str, str]:
        """Let `save` write a folder, then put it in place whole. Returns the files' digests. Raises Superseded."""
        self.writer.check()
        temporary, final = self.path / f".{name}.{self.writer.number}", self.path / name
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            save(temporary)
            self.writer.check()  # a successor has removed what was saved
            sync_all(temporary)
            found = digests(temporary)
            self.writer.check()
            self._place(temporary, final)
        finally:  # half a result must not fill the volume
            shutil.rmtree(temporary, ignore_errors=True)
        sync(self.path)
        return found

    def _place(self, temporary: Path, final: Path) -> None:
        try:
            temporary.rename(final)
        except OSError:  # a folder cannot replace another in one step
            self._aside(final)
            temporary.rename(final)

    def _aside(self, final: Path) -> None:
        """Out of the way: the result of an earlier writer that did not come to its report."""
        self.writer.check()
        old = self.path / f".{final.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
        shutil.rmtree(old, ignore_errors=True)

    def finish(self, result: TrainerResult, details: dict[str, Any]) -> None:
        """Write report.json: from now on the job is finished. Raises Superseded."""
        body = details | {"result": result.model_dump(mode="json", by_alias=True, exclude_none=True)}
        self.writer.check()
        try:
            create_json(self._report, body)
        except FileExistsError:  # a writer before us was just about to write it
            self.writer.check()
            write_json(self._report, body)

    def result_path(self, name: str) -> str:
        """The result's place, relative to the volume's root."""
        path = self.path / name
        root = Path(OUTPUT_DIR)
        return str(path.relative_to(root)) if path.is_relative_to(root) else f"{self.path.name}/{name}"

    def _read_run(self) -> Run | None:
        try:
            return Run(**read_json(self._run))
        except TypeError:
            return None


def fingerprint(config: TrainerConfig, examples: Examples) -> str:
    """A digest of everything that decides the result: a checkpoint of other inputs must not be continued."""
    inputs = config.wire() | {
        "cpuThreads": None,
        "output": None,
        "checkpointFolder": None,
        "dataset": examples.sha256,
        "base": _base(config.base),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _base(path: str) -> str:
    """What the base is: its files by digest where `fetch` brought it, else by size.

    Not the whole manifest: it has the hub's commit, and a branch moves on with every edit of a README."""
    folder = Path(path)
    try:
        return str(sorted((file["path"], file["sha256"]) for file in read_json(folder / MANIFEST)["files"]))
    except (KeyError, TypeError):  # none, or somebody else's
        files = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
        return str([(file.name, file.stat().st_size) for file in files if file.is_file()])
