"""A job's checkpoints: put in place whole, judged by their digests, the newest that counts found again.

The library writes into a folder that nobody reads. Once it is done, all is flushed, the digests are written last, and
the folder is renamed. So a checkpoint under its name is whole unless its volume broke it, and then its digests tell.
`get_last_checkpoint` of the library would take the newest name, whatever is in it.

Owns: saving, judging, finding and removing checkpoints. Must not know: torch; what is in them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .files import digests, read_json, sync, sync_all, write_json
from .writers import Writer, numbers

SENTINEL = "checkpoint-is-incomplete.txt"
MANIFEST = "digests.json"
NEEDED = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
"""Without any of these a run would go on, and not as it would have without the interruption."""

_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Found:
    """A whole checkpoint."""

    path: Path
    step: int
    writer: int = 0


class Checkpoints:
    """What one writer sees of a job's checkpoints, and does with them."""

    def __init__(self, folder: Path, writer: Writer, fingerprint: str, keep: int) -> None:
        self._all, self._writer, self._fingerprint, self._keep = folder, writer, fingerprint, keep
        self.working = writer.working
        """Where the library saves."""

    def publish(self, step: int) -> Path:
        """Put what the library has just saved in its place, whole. Raises Superseded."""
        self._writer.check()
        saved, final = self.working / f"checkpoint-{step}", self._writer.folder / f"checkpoint-{step}"
        manifest = {"writer": self._writer.number, "step": step, "fingerprint": self._fingerprint}
        sync_all(saved)
        write_json(saved / MANIFEST, manifest | {"files": digests(saved)})
        if final.exists():  # of this very writer, at the same step: SIGTERM came as it was being saved
            shutil.rmtree(final)
        self._writer.check()
        saved.rename(final)
        sync(self._writer.folder)
        self._prune()
        return final

    def last_good(self) -> Found | None:
        """The newest whole checkpoint of these inputs, of the latest writer that saved one; those skipped are told."""
        for found in _newest_first(self._all):
            wrong = flaw(found.path) or self._foreign(found.path)
            if not wrong:
                return found
            print(f"trainer: {found.path.name} of writer {found.writer} is skipped: {wrong}", flush=True)
        return None

    def _foreign(self, path: Path) -> str | None:
        same = read_json(path / MANIFEST).get("fingerprint") == self._fingerprint
        return None if same else "it is of other inputs: the spec, the data or the base's files have changed"

    def _prune(self) -> None:
        """Keep the newest; never touch what a later writer has."""
        mine = [found for found in _newest_first(self._all) if found.writer <= self._writer.number]
        for found in mine[self._keep :]:
            shutil.rmtree(found.path, ignore_errors=True)
        used = {found.writer for found in mine[: self._keep]}
        for number, path in numbers(self._all).items():
            if number < self._writer.number and number not in used:
                shutil.rmtree(path, ignore_errors=True)


def flaw(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    if (path / SENTINEL).exists():
        return "marked as incomplete"
    expected = read_json(path / MANIFEST).get("files")
    if not isinstance(expected, dict):
        return f"{MANIFEST} is missing or cut off"
    found = {name: digest for name, digest in digests(path).items() if name != MANIFEST}
    wrong = sorted(name for name in expected if found.get(name) != expected[name])
    if wrong:
        return f"{wrong[0]} is missing, cut off or changed"
    lacking = [name for name in NEEDED if name not in found]
    if not any(name.endswith(".safetensors") for name in found):
        lacking.insert(0, "weights")
    return f"it has no {lacking[0]}" if lacking else _state_flaw(path)


def _state_flaw(path: Path) -> str | None:
    step = read_json(path / "trainer_state.json").get("global_step")
    return None if f"checkpoint-{step}" == path.name else f"trainer_state.json is of step {step}"


def _newest_first(folder: Path) -> Iterator[Found]:
    """By writer, then by step: what a superseded writer still published is older than all of its successor's."""
    for number, path in sorted(numbers(folder).items(), reverse=True):
        named = ((_NAME.fullmatch(entry.name), entry) for entry in path.iterdir())
        for step, entry in sorted(((int(match[1]), entry) for match, entry in named if match), reverse=True):
            yield Found(entry, step, number)
