"""Who may write: each pod takes a number above all before it, and whoever does not hold the highest stops writing.

    checkpoints/writer-00003/          the claim of the third pod, and everything that it saves
    checkpoints/writer-00003/.writing  what it has not finished saving

A pod on a node that is cut off goes on training while another has taken its place. Making a folder is exclusive on
every file system a volume may have, so two pods never hold one number. What passed the check just before a successor
came may still be published: it lies in the folder of its own number, and counts only where no later one saved anything.

Owns: numbers and claims. Must not know: what is written.
"""

from __future__ import annotations

import re
from pathlib import Path

from .errors import Superseded
from .files import sync

_NAME = re.compile(r"writer-(\d+)")


class Writer:
    """One pod's claim on a job's folder."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self.folder = folder / f"writer-{number:05d}"
        self.working = self.folder / ".writing"
        """What is not finished saving."""
        self._all = folder

    @classmethod
    def claim(cls, folder: Path) -> Writer:
        """Take the next number: from now on every earlier writer is refused."""
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            writer = cls(folder, max(numbers(folder), default=0) + 1)
            try:
                writer.folder.mkdir()
            except FileExistsError:  # another pod was faster: it is the one to supersede
                continue
            sync(folder)
            return writer

    def check(self) -> None:
        """Raises Superseded where a later writer has come, or the claim is gone."""
        newest = max(numbers(self._all), default=0)
        if newest > self.number:
            raise Superseded(f"writer {newest} has taken over from this pod, writer {self.number}: nothing is written")
        if newest < self.number:
            raise Superseded(f"the claim of this pod, writer {self.number}, is gone: nothing is written")

    def unfinished(self) -> list[Path]:
        """What earlier writers had not finished saving."""
        return [Writer(self._all, number).working for number in numbers(self._all) if number < self.number]

    @property
    def newest(self) -> bool:
        """Whether `check` passes."""
        try:
            self.check()
        except Superseded:
            return False
        return True


def numbers(folder: Path) -> dict[int, Path]:
    """All claims there are, by number."""
    try:
        named = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    except FileNotFoundError:
        return {}
    return {int(match[1]): path for match, path in named if match}
