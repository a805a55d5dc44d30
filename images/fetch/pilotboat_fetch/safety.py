"""Which files may be fetched: an allow-list of types that cannot execute code, and names that stay inside the folder.

Owns: the list. Must not know: where files come from.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from pilotboat.api.runtime import MANIFEST, READY_MARKER

from .errors import NothingUsable, SourceNotFound, UnsafeFile

ALLOWED = (".safetensors", ".gguf", ".json", ".jsonl", ".jsonl.gz", ".ndjson", ".txt", ".jinja", ".model")
"""`.model` is SentencePiece's, a protocol buffer. Pickles hide in .bin, .pt, .pth, .ckpt, .pkl, .npy; code in .py."""

HARMLESS = (".md", ".gitattributes", ".gitignore", "LICENSE", "NOTICE", ".png", ".jpg", ".svg", ".pdf")
"""Left out in silence: nobody misses them, and a repository of nothing else has no model rather than an unsafe one."""

WEIGHTS = (".safetensors", ".gguf")
OURS = frozenset({MANIFEST, READY_MARKER})
LONGEST = 255
"""Bytes of a file's name: what Linux's file systems take."""

_WILD = frozenset("*?[")
_NEVER = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
"""Control characters, a backslash, half a character: no name that can be written, or shown."""


def allowed(path: str) -> bool:
    """Whether the file's type is on the list."""
    return path.lower().endswith(ALLOWED)


def inside(path: str) -> str:
    """The path, if it stays inside its folder and hides nothing; a hub or a volume could name any other."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or any(part.startswith(".") for part in parts) or _NEVER.search(path):
        raise UnsafeFile(f"{path!r} is no plain relative file name")
    if any(len(part.encode()) > LONGEST for part in parts):
        raise UnsafeFile(f"{path} has a name of more than {LONGEST} bytes, which no volume takes")
    return path


def choose(paths: list[str], patterns: list[str] | None, repo_type: str, source: str) -> list[str]:
    """Of what a source has, the files to fetch. Raises where that is nothing, and says why."""
    named = [path for path in paths if path not in OURS and _matches(path, patterns)]
    _exact_names_exist(paths, patterns, source)
    if not named and patterns:
        raise SourceNotFound(f"{source} has no file that matches {', '.join(patterns)}; it has {_some(paths)}")
    chosen = [path for path in named if allowed(path) and not _hidden(path)]
    refused = [path for path in named if not allowed(path) and not path.endswith(HARMLESS) and not _hidden(path)]
    if refused and not _serves(chosen, repo_type):
        raise UnsafeFile(
            f"{source} has nothing of use but what is not fetched, because it may execute code or is of no known type: "
            f"{_some(refused)}. Fetched are {' '.join(ALLOWED)}"
        )
    if not chosen:
        raise NothingUsable(f"{source} has no file of an allowed type ({' '.join(ALLOWED)}): {_some(paths)}", repo_type)
    return sorted(chosen)


def _serves(chosen: list[str], repo_type: str) -> bool:
    """Whether there is something of substance: a model's config.json without weights is not, beside a pickle."""
    return any(path.lower().endswith(WEIGHTS) for path in chosen) if repo_type == "model" else bool(chosen)


def _exact_names_exist(paths: list[str], patterns: list[str] | None, source: str) -> None:
    for pattern in patterns or []:
        if not _WILD & set(pattern) and pattern not in paths:
            raise SourceNotFound(f"{source} has no file {pattern}; it has {_some(paths)}")


def _matches(path: str, patterns: list[str] | None) -> bool:
    return patterns is None or any(fnmatchcase(path, pattern) for pattern in patterns)


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(path).parts)


def _some(paths: list[str], most: int = 8) -> str:
    shown = ", ".join(sorted(paths)[:most]) or "no files"
    return shown + (f" and {len(paths) - most} more" if len(paths) > most else "")
