"""Files that are whole or not there, and their digests.

Owns: atomic writes and digests. Must not know: what the files are for.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

_FULL = re.compile(r"No space left on device|Disk quota exceeded|PytorchStreamWriter failed writing|unexpected pos \d")
"""What safetensors and, in the last two, torch say: that keeps the system's own words to itself."""


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by relative name."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            found[file.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def write_json(path: Path, body: Any) -> None:
    """Replace a file at once, or not at all."""
    os.replace(_written(path, body), path)
    sync(path.parent)


def create_json(path: Path, body: Any) -> None:
    """The same where nothing may be replaced; raises FileExistsError. Without hard links, as on CIFS, it replaces."""
    temporary = _written(path, body)
    try:
        os.link(temporary, path)
    except FileExistsError:
        temporary.unlink()
        raise
    except OSError:
        os.replace(temporary, path)
    else:
        temporary.unlink()
    sync(path.parent)


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file; empty where there is none, or something else."""
    try:
        body = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def is_full(error: BaseException | None) -> bool:
    """Whether a volume had no room, in the system's words or a library's own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if _FULL.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def sync(path: Path) -> None:
    """Flush a file or a folder to the volume."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path) -> None:
    """Flush everything in a folder, and the folder."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def _written(path: Path, body: Any) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", "utf-8")
    sync(temporary)
    return temporary
