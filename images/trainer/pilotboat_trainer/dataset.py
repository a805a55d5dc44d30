"""The data set as examples: files found, every line checked, the first broken one named, before any model is loaded.

Owns: reading JSONL. Must not know: torch, tokenizers, what an example is used for.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pilotboat.api.finetune_job import DatasetFormat
from pilotboat.api.runtime import TrainerData

from .errors import InvalidDataset
from .formats import CONVERSATIONAL, BadLine, Row, convert, recognise

SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson")
HELD_BACK = ("eval", "test", "valid", "dev")
"""Files that begin so are for judging a model, not for training it."""

MOST_NAMED = 5


@dataclass(frozen=True)
class Examples:
    """A data set, whole and checked."""

    rows: tuple[Row, ...]
    lines: int
    format: DatasetFormat
    sha256: str

    @property
    def conversational(self) -> bool:
        """Whether the model's chat template is needed."""
        return self.format in CONVERSATIONAL or isinstance(self.rows[0].get("prompt"), list)


@dataclass(frozen=True)
class _Broken:
    where: str
    what: str


def read(data: TrainerData) -> Examples:
    """All examples. Raises InvalidDataset, naming file and line, where any cannot be used."""
    files = _files(Path(data.path))
    shape = data.format
    rows: list[Row] = []
    broken: list[_Broken] = []
    lines = 0
    for file, number, text in _lines(files):
        lines += 1
        try:
            row = _parse(text)
            if shape is DatasetFormat.AUTO:
                shape = recognise(row)
            rows += convert(row, shape)
        except BadLine as error:
            broken.append(_Broken(f"{file.name} line {number}", str(error)))
    if broken:
        raise InvalidDataset(_words(broken))
    if not rows:
        raise InvalidDataset(f"{', '.join(file.name for file in files)}: no examples, every line is empty")
    return Examples(tuple(_alike(rows)), lines, shape, _digest(files))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
    training = [p for p in found if not p.name.startswith(HELD_BACK)]
    if not training:
        seen = ", ".join(sorted(p.name for p in path.rglob("*") if p.is_file())[:8]) if path.is_dir() else "nothing"
        raise InvalidDataset(f"{path} has no file to train on ({' '.join(SUFFIXES)}); it has {seen or 'no files'}")
    return training


def _lines(files: list[Path]) -> Iterator[tuple[Path, int, bytes]]:
    """Every line that is not blank, with its number, counted from 1 as editors do."""
    for file in files:
        number = 0
        try:
            with gzip.open(file) if file.name.endswith(".gz") else file.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    if line.strip():
                        yield file, number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        except (EOFError, gzip.BadGzipFile) as error:
            raise InvalidDataset(f"{file.name} after line {number}: not whole gzip data: {error}") from error
        except OSError as error:
            raise InvalidDataset(f"{file.name}: cannot be read: {error.strerror or error}") from error


def _parse(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadLine(f"not UTF-8: byte {error.start + 1} is 0x{line[error.start]:02x}") from error
    except json.JSONDecodeError as error:
        raise BadLine(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise BadLine("not JSON: nested too deep") from error


def _alike(rows: list[Row]) -> list[Row]:
    """Texts and messages cannot be mixed in one data set; a line number would not help, so the two kinds are named."""
    kinds = {type(row["prompt"]) for row in rows if "prompt" in row}
    if len(kinds) > 1:
        raise InvalidDataset("some lines have prompts as text and others as messages: use one of the two throughout")
    return rows


def _words(broken: list[_Broken]) -> str:
    first, *others = broken
    more = "".join(f", {other.where}" for other in others[: MOST_NAMED - 1])
    rest = f" (also broken: {more[2:]}{' and more' if len(broken) > MOST_NAMED else ''})" if others else ""
    return f"{first.where}: {first.what}{rest}"


def _digest(files: list[Path]) -> str:
    """SHA-256 of the file; of a folder, of its files' names and digests."""
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    listing = "".join(f"{file.name}\0{digest}\n" for file, digest in zip(files, digests, strict=True))
    return hashlib.sha256(listing.encode()).hexdigest()
