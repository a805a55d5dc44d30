"""CustomResourceDefinitions on an API server, as kubectl puts them there.

Owns: when they are served. `kubectl wait` cannot tell: it fails at a definition that has no conditions yet, as one that
was made a moment ago may not.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab import build, procs


def apply(kubeconfig: Path, files: Sequence[Path] = (), text: str = "") -> None:
    """Those in the files, or in the text; returns when the API server serves them all."""
    _kubectl(kubeconfig, files, text, "apply", "--server-side")

    def served() -> bool:
        return _established(_kubectl(kubeconfig, files, text, "get", "-ojson"))

    procs.wait_until(served, what="The API server's serving of CRDs", timeout=60)


def delete(kubeconfig: Path, files: Sequence[Path] = (), text: str = "") -> None:
    """Those in the files, or in the text, with all objects of theirs."""
    _kubectl(kubeconfig, files, text, "delete", "--ignore-not-found")


def _established(answer: str) -> bool:
    found = json.loads(answer)
    conditions = [(raw.get("status") or {}).get("conditions") or () for raw in found.get("items", [found])]
    return all(any((c["type"], c["status"]) == ("Established", "True") for c in each) for each in conditions)


def _kubectl(kubeconfig: Path, files: Sequence[Path], text: str, *arguments: str) -> str:
    named = [f"--filename={path}" for path in files or ("-",)]
    command = [str(build.ensure() / "kubectl"), f"--kubeconfig={kubeconfig}", *arguments, *named]
    return subprocess.run(command, input=text, text=True, check=True, capture_output=True).stdout
