"""What a source was found to consist of: files, their sizes and digests, in one stable JSON text.

Owns: that text. Must not know: where it lies.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision at which a source consists of the same files for ever."""


@dataclass(frozen=True)
class Entry:
    """One file of a manifest."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a folder holds and what was asked for."""

    source: dict[str, Any]
    revision: str | None
    files: tuple[Entry, ...]

    def to_json(self) -> str:
        """Stable: the same content gives the same bytes, and so the same digest."""
        files = [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in self.files]
        body = {"version": 1, "source": self.source, "revision": self.revision, "files": files}
        return json.dumps(body, indent=1, sort_keys=True) + "\n"

    @property
    def sha256(self) -> str:
        """Digest of the manifest, which stands for all it names."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def parse(cls, text: str) -> Manifest | None:
        """The manifest, or None where it is cut off or somebody else's."""
        try:
            body = json.loads(text)
            files = tuple(Entry(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in body["files"])
            return cls(dict(body["source"]), body["revision"], files) if body["version"] == 1 else None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):  # Infinity; ten thousand brackets
            return None
