"""How many tokens a model was made for, read from its files before anything heavy is imported.

Owns: the look into config.json and into GGUF's metadata, and what becomes of `inference.maxLength`. Must not know:
engines. What cannot be read here is no error: the engine that loads the file has the last word.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, BinaryIO

from pilotboat.api.engines import Inference

from .modelfiles import ModelFiles

SHORTEST = 16
"""As `inference.maxLength`; a figure below it is not believed."""

_NUMBERS = dict(enumerate(["<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?", None, None, "<Q", "<q", "<d"]))
_STRING, _ARRAY = 8, 9
_MAX_STRING = 1 << 20


def fitted(inference: Inference, found: ModelFiles) -> Inference:
    """The settings with a `maxLength` that nobody asked for lowered to what the model can do."""
    longest = length(found.path)
    if "max_length" in inference.model_fields_set or longest is None or longest >= inference.max_length:
        return inference
    return inference.model_copy(update={"max_length": longest})


def length(path: Path) -> int | None:
    """Tokens of the model's context, or None where the files do not say."""
    try:
        known = _from_gguf(path) if path.is_file() else _from_config(path / "config.json")
    except (OSError, ValueError, struct.error, KeyError):
        return None
    return known if isinstance(known, int) and known >= SHORTEST else None


def _from_config(path: Path) -> Any:
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        return None
    text = config.get("text_config")
    return (text if isinstance(text, dict) else config).get("max_position_embeddings")


def _from_gguf(path: Path) -> Any:
    """The first key that ends in `.context_length`: it stands before the vocabulary, which is long."""
    with path.open("rb") as file:
        _, version, _, keys = struct.unpack("<4sIQQ", file.read(24))
        if version < 2:
            return None
        for _ in range(keys):
            key, value = _string(file), _value(file, *_read(file, "<I"))
            if key.endswith(".context_length"):
                return value
    return None


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        inner, count = _read(file, "<IQ")
        for _ in range(count):
            _value(file, inner)
        return None
    form = _NUMBERS[kind]
    return _read(file, str(form))[0]


def _string(file: BinaryIO) -> str:
    (size,) = _read(file, "<Q")
    if size > _MAX_STRING:
        raise ValueError("a string longer than any name")
    return file.read(size).decode("utf-8", "replace")


def _read(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
