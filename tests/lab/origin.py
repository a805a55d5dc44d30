"""What a lab was started from: the programs, and this package's code, which writes the programs' configuration.

Owns: the record in a lab's state, and whether it says what is here. It must not know how a lab is started or ended.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import build
from lab.layout import Lab

BESIDE = frozenset({"__main__", "bench", "build", "crds", "faults", "machine", "origin", "outside", "sickness", "vm"})
"""Modules that leave no trace in a lab that runs; `build` leaves the programs, which have a key of their own."""


@dataclass(frozen=True)
class Origin:
    """Two that are equal make the same lab."""

    kubernetes: str
    programs: str
    code: str

    def __str__(self) -> str:
        return f"Kubernetes {self.kubernetes}, programs {self.programs}, code {self.code}"


def here(package: Path = Path(__file__).parent) -> Origin:
    """What a lab is started from now."""
    digest = hashlib.sha256()
    for path in sorted(package.glob("*.py")):
        if path.stem not in BESIDE:
            digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return Origin(build.KUBERNETES, build.key(), digest.hexdigest()[:16])


def record(lab: Lab) -> None:
    """To be written before anything is started: what is half started has an origin too."""
    (lab.dir / "origin.json").write_text(json.dumps(asdict(here())))


def of(lab: Lab) -> Origin | None:
    """What a lab was started from; None where it has no record, as labs before there were any."""
    try:
        return Origin(**json.loads((lab.dir / "origin.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def programs(lab: Lab) -> Path:
    """The folder of the programs that a lab runs, which may be older than what is here; built only where it is gone."""
    found = of(lab)
    folder = build.folder_of(found.programs) if found else None
    return folder if folder and build.intact(folder) else build.ensure()
