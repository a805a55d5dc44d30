"""The data set as examples: files found, every line checked, the first broken one named, before any model is loaded.

Owns: reading JSONL. Must not know: torch, tokenizers, what an example is used for.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pilotboat.api.finetune_job import DatasetFormat
from pilotboat.api.runtime import TrainerData

from .errors import InvalidDataset, TrainingFailed, of_the_machine
from .formats import CONVERSATIONAL, BadLine, Row, convert, recognise

SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson")
HELD_BACK = re.compile(r"(^|/)(dev|eval|evaluation|test|valid|validation)s?(?![^\W\d_])", re.IGNORECASE)
"""Files that begin with such a word, or lie in a folder that does, are for judging a model, not for training it;
`devops.jsonl` does not."""

MOST_NAMED = 5


@dataclass(frozen=True)
class Examples:
    """A data set, whole and checked."""

    rows: tuple[Row, ...]
    places: tuple[str, ...]
    """Of each row, where it was read: `train.jsonl line 17`. A line may have several."""
    lines: int
    format: DatasetFormat
    sha256: str
    held_back: tuple[str, ...] = ()
    """Files beside those that were read."""

    @property
    def conversational(self) -> bool:
        """Whether the model's chat template is needed."""
        return self.format in CONVERSATIONAL or isinstance(self.rows[0].get("prompt"), list)


def read(data: TrainerData) -> Examples:
    """All examples. Raises InvalidDataset, naming file and line, where any cannot be used."""
    files, held_back = _files(Path(data.path))
    shape = data.format
    rows: list[Row] = []
    places: list[str] = []
    broken: dict[str, str] = {}
    lines = 0
    for place, text in _lines(files):
        lines += 1
        try:
            row = _parse(text)
            if shape is DatasetFormat.AUTO:
                shape = recognise(row)
            made = convert(row, shape)
        except BadLine as error:
            broken[place] = str(error)
        else:
            rows += made
            places += [place] * len(made)
    if broken:
        raise refusal(broken)
    if not rows:
        raise InvalidDataset(f"{', '.join(files)}: no examples, every line is empty")
    return Examples(tuple(_alike(rows)), tuple(places), lines, shape, _digest(files.values()), held_back)


def refusal(broken: Mapping[str, str]) -> InvalidDataset:
    """What is wrong with the first of the places, in words, and where else something is."""
    (first, what), *others = broken.items()
    more = ", ".join(place for place, _ in others[: MOST_NAMED - 1])
    rest = f" (also broken: {more}{' and more' if len(broken) > MOST_NAMED else ''})" if others else ""
    return InvalidDataset(f"{first}: {what}{rest}")


def _files(path: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Those to train on, by their names in the data set, and the names of those held back. An only file never is."""
    if path.is_file():
        return {path.name: path}, ()
    found = {p.relative_to(path).as_posix(): p for p in sorted(path.rglob("*")) if p.is_file()}
    data = {name: p for name, p in found.items() if name.endswith(SUFFIXES)}
    held_back = tuple(name for name in data if len(data) > 1 and HELD_BACK.search(name))
    training = {name: p for name, p in data.items() if name not in held_back}
    if not training:
        seen = ", ".join(list(found)[:8]) or ("no files" if path.is_dir() else "nothing")
        why = ", all held back by their names" if held_back else ""
        raise InvalidDataset(f"{path} has no file to train on ({' '.join(SUFFIXES)}); it has {seen}{why}")
    return training, held_back


def _lines(files: Mapping[str, Path]) -> Iterator[tuple[str, bytes]]:
    """Every line that is not blank, with its file and number, counted from 1 as editors do."""
    for name, file in files.items():
        number = 0
        try:
            with gzip.open(file) if name.endswith(".gz") else file.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                    if text.strip():
                        yield f"{name} line {number}", text
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InvalidDataset(f"{name} after line {number}: not whole gzip data: {error}") from error
        except OSError as error:
            fault = TrainingFailed if of_the_machine(error) else InvalidDataset
            raise fault(f"{name}: cannot be read: {error.strerror or error}") from error


def _parse(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadLine(f"not UTF-8: byte {error.start + 1} is 0x{line[error.start]:02x}") from error
    except json.JSONDecodeError as error:
        raise BadLine(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise BadLine("not JSON: nested too deep") from error
    except ValueError as error:
        raise BadLine(f"a number is too long: {error}".partition(";")[0]) from error


def _alike(rows: list[Row]) -> list[Row]:
    """Texts and messages cannot be mixed in one data set; a line number would not help, so the two kinds are named."""
    kinds = {type(row["prompt"]) for row in rows if "prompt" in row}
    if len(kinds) > 1:
        raise InvalidDataset("some lines have prompts as text and others as messages: use one of the two throughout")
    return rows


def _digest(files: Collection[Path]) -> str:
    """SHA-256 of the file; of a folder, of its files' names and digests."""
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    listing = "".join(f"{file.name}\0{digest}\n" for file, digest in zip(files, digests, strict=True))
    return hashlib.sha256(listing.encode()).hexdigest()
