"""What lies at `model.path`, and which engine it is for: checked before anything heavy is imported.

Owns the look at files: GGUF's magic, safetensors' header, config.json. Must not know: how an engine loads them.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotboat.api.engines import EngineType

from .errors import InvalidModel

GGUF_MAGIC = b"GGUF"
WEIGHTS = {
    EngineType.AUTO: (".gguf", ".safetensors"),
    EngineType.LLAMA_CPP: (".gguf",),
    EngineType.TRANSFORMERS: (".safetensors",),
}
CHOOSE = "choose by the source: huggingFace by `files`, pvc by `path`"
MAX_HEADER = 100 << 20
"""Bytes of a safetensors header: the format's own limit."""


@dataclass(frozen=True)
class ModelFiles:
    """A checked model: `path` is the GGUF file, or the folder with safetensors."""

    engine: EngineType
    path: Path


def inspect(path: Path, wanted: EngineType, adapted: bool = False) -> ModelFiles:
    """Find and check the model for the engine wanted. Raises InvalidModel that says what was found.

    `adapted`: an adapter is to be merged into it, which only safetensors take: Auto then prefers these.
    """
    if wanted is EngineType.FAKE:
        return ModelFiles(wanted, path)
    if not path.exists():
        raise InvalidModel(f"model.path {path} does not exist")
    path = _home(path, WEIGHTS[wanted])
    gguf, weights = _find(path, ".gguf"), _find(path, ".safetensors")
    auto = wanted is EngineType.AUTO and gguf and not (adapted and weights)
    if wanted is EngineType.LLAMA_CPP or auto:
        return ModelFiles(EngineType.LLAMA_CPP, check_gguf(_first_gguf(path, gguf)))
    if weights and path.is_dir():
        check_folder(path, weights)
        return ModelFiles(EngineType.TRANSFORMERS, path)
    needed = (
        "no safetensors in a folder" if wanted is EngineType.TRANSFORMERS else "neither a GGUF file nor safetensors"
    )
    raise InvalidModel(f"{path} has {needed}; found {_listing(path)}")


def _home(path: Path, suffixes: tuple[str, ...]) -> Path:
    """Where the weights lie: here or, where nothing does, in the one folder below that has some."""
    if any(_find(path, suffix) for suffix in suffixes):
        return path
    homes = sorted({file.parent for file in path.rglob("*") if file.suffix in suffixes and file.is_file()})
    if len(homes) > 1:
        names = _some([home.relative_to(path).as_posix() for home in homes])
        raise InvalidModel(f"{path} has weights in {len(homes)} folders ({names}): {CHOOSE}")
    return homes[0] if homes else path


def _find(path: Path, suffix: str) -> list[Path]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in files if file.suffix == suffix and file.is_file()]


def _first_gguf(path: Path, found: list[Path]) -> Path:
    """The file to load: the only one, or the first of a split model, which names the rest."""
    firsts = [file for file in found if "-00001-of-" in file.name] or found
    if len(firsts) == 1:
        return firsts[0]
    if not found:
        raise InvalidModel(f"{path} has no GGUF file; found {_listing(path)}")
    raise InvalidModel(f"{path} has {len(firsts)} GGUF models ({_some([file.name for file in firsts])}): {CHOOSE}")


def _listing(path: Path) -> str:
    if path.is_file():
        return f"the file {path.name}"
    return _some(sorted(file.name for file in path.iterdir() if not file.name.startswith(".")))


def _some(names: list[str], limit: int = 8) -> str:
    shown = ", ".join(names[:limit]) or "nothing"
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def check_gguf(path: Path) -> Path:
    """The magic and a version that llama.cpp reads."""
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] != GGUF_MAGIC:
        raise InvalidModel(f"{path} is not a GGUF file: it begins with {head[:4]!r}, not {GGUF_MAGIC!r}")
    if len(head) < 8 or struct.unpack("<I", head[4:])[0] not in (2, 3):
        raise InvalidModel(f"{path} is cut off or has a GGUF version that is not 2 or 3")
    return path


def check_folder(path: Path, weights: list[Path]) -> None:
    """config.json, a tokenizer, every shard the index names, and each file as long as its header says."""
    config = _json(path / "config.json")
    if not config.get("model_type"):
        raise InvalidModel(f"{path / 'config.json'} names no model_type")
    if not any((path / name).exists() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        raise InvalidModel(f"{path} has no tokenizer; found {_listing(path)}")
    index = path / "model.safetensors.index.json"
    if index.exists():
        shards = {str(name) for name in dict(_json(index).get("weight_map") or {}).values()}
        if missing := sorted(shards - {file.name for file in weights}):
            raise InvalidModel(f"{index} names files that are missing: {', '.join(missing[:4])}")
    for file in weights:
        check_safetensors(file)


def check_safetensors(path: Path) -> None:
    """The header parses and its last tensor ends where the file does."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else MAX_HEADER + 1
        if length > min(MAX_HEADER, size):
            raise InvalidModel(f"{path} is not a safetensors file: its header says {length} bytes of {size}")
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise InvalidModel(f"{path} is not a safetensors file: its header does not parse ({error})") from error
    if 8 + length + max(ends, default=0) != size:
        raise InvalidModel(f"{path} is cut off or damaged: {size} bytes, not {8 + length + max(ends, default=0)}")


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidModel(f"{path} is missing; found {_listing(path.parent)}") from None
    except ValueError as error:
        raise InvalidModel(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise InvalidModel(f"{path} is not a JSON object")
    return data
