"""What the images under images/ are made of, and their names: pure, save that it reads the tree.

An image's tag is a hash of everything that its build can see: its Containerfile, the files that it copies, the values
of its arguments and the tags of the images that it stands on. So an unchanged image is never built again, and a
reference always means what the tree says. It must not know how images are built.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from tools.host import ROOT
from tools.steps import StepFailed

PREFIX = "localhost/pilotboat"
DEBIAN = f"{PREFIX}/debian:trixie"

# The oldest driver that runs programs of a CUDA major version, by NVIDIA's rule of minor version compatibility.
DRIVERS = {"12": "525.60.13", "13": "580.65.06"}

_PROJECT = Path("pyproject.toml")
_TORCH = Path("images/torch/requirements.txt")

_OURS = re.compile(rf"^ARG (\w+)={PREFIX}/([a-z]+)$", re.MULTILINE)
_ARGUMENT = re.compile(r"^ARG (\w+)", re.MULTILINE)
_COPY = re.compile(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", re.MULTILINE)


class TreeError(StepFailed):
    """The tree does not hold what an image needs; the message says what."""


@dataclass(frozen=True)
class Image:
    """One folder under images/ with a Containerfile."""

    name: str
    containerfile: str

    @property
    def parents(self) -> dict[str, str]:
        """The images of ours that it stands on, by the build argument that brings each."""
        return dict(_OURS.findall(self.containerfile))

    @property
    def sources(self) -> list[str]:
        """What it copies from the tree."""
        return [source for sources in _COPY.findall(self.containerfile) for source in sources.split()]

    @property
    def ships(self) -> bool:
        """True for an image that a pod runs; the others are steps on the way."""
        return "\nENTRYPOINT " in self.containerfile


def images(root: Path = ROOT) -> dict[str, Image]:
    """Every image by name, each after those that it stands on."""
    found = {path.parent.name: Image(path.parent.name, path.read_text()) for path in _containerfiles(root)}
    order = TopologicalSorter({image.name: image.parents.values() for image in found.values()}).static_order()
    try:
        return {name: found[name] for name in order}
    except KeyError as error:
        raise TreeError(f"no folder images/{error.args[0]} with a Containerfile") from None


def _containerfiles(root: Path) -> list[Path]:
    return sorted(root.glob("images/*/Containerfile"))


def files(root: Path, image: Image) -> list[Path]:
    """The files that its build sees, relative to the tree: nothing else reaches it."""
    own = [Path("images") / image.name / "Containerfile"]
    return sorted({*own, *(path for source in image.sources for path in _below(root, source))})


def _below(root: Path, source: str) -> Iterator[Path]:
    start = root / source
    if start.is_file():
        return iter([Path(source)])
    if not start.is_dir():
        raise TreeError(f"an image copies {source}, and the tree has none")
    inside = (path.relative_to(root) for path in start.rglob("*") if path.is_file())
    return (path for path in inside if not any(part == "__pycache__" or part.startswith(".") for part in path.parts))


def arguments(root: Path, image: Image, made: Mapping[str, str]) -> dict[str, str]:
    """The values of its build arguments; `made` has the references of the images before it."""
    values = {"BASE": os.environ.get("PILOTBOAT_BASE") or DEBIAN, "VERSION": version(root)}
    if "CUDA" in _ARGUMENT.findall(image.containerfile):
        values["CUDA"] = cuda(root)
        values["CUDA_DRIVER"] = DRIVERS[values["CUDA"].split(".")[0]]
    values |= {argument: made[parent] for argument, parent in image.parents.items()}
    return {name: values[name] for name in _ARGUMENT.findall(image.containerfile) if name in values}


def version(root: Path) -> str:
    """The project's version."""
    return _one(r'^version = "(.+)"$', root / _PROJECT)


def cuda(root: Path) -> str:
    """The CUDA version that the pinned torch brings; the build compares it with what torch says of itself."""
    return _one(r"^nvidia-cuda-runtime(?:-cu\d+)?==(\d+\.\d+)", root / _TORCH)


def _one(pattern: str, path: Path) -> str:
    found = re.search(pattern, path.read_text(), re.MULTILINE)
    if found is None:
        raise TreeError(f"{path} has no line like {pattern}")
    return found[1]


def key(root: Path, image: Image, made: Mapping[str, str]) -> str:
    """A hash of all that decides what the image is."""
    content = [
        (str(path), os.access(root / path, os.X_OK), hashlib.sha256((root / path).read_bytes()).hexdigest())
        for path in files(root, image)
    ]
    whole = [platform.machine(), content, sorted(arguments(root, image, made).items())]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:12]


def refs(root: Path = ROOT) -> dict[str, str]:
    """Every image's full reference, by name: what Helm's values and the builder use."""
    made: dict[str, str] = {}
    for image in images(root).values():
        made[image.name] = f"{PREFIX}/{image.name}:{key(root, image, made)}"
    return made


def snapshot(root: Path, target: Path) -> None:
    """A copy of all that images are made of: what is hashed there is what is built from there."""
    for image in images(root).values():
        stage(root, image, target)
    for path in (_PROJECT, _TORCH):
        _copy(root, path, target)


def stage(root: Path, image: Image, context: Path) -> None:
    """A build context with what was hashed and nothing else."""
    for path in files(root, image):
        _copy(root, path, context)


def _copy(root: Path, path: Path, target: Path) -> None:
    """One file, its mode made equal on every machine."""
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / path, target / path)
    (target / path).chmod(0o755 if os.access(root / path, os.X_OK) else 0o644)
    for folder in (target / path).parents[: len(path.parts) - 1]:
        folder.chmod(0o755)
