"""Builds, pushes and exports: puts the tree, the engine and the layout together, one step on the screen for each image.

The demo, the tests and the command line call these functions; nothing else in this package is meant for them.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tools import host
from tools.images import debian, engines, oci, tree, twins
from tools.steps import StepFailed, step

if TYPE_CHECKING:
    from lab.layout import Lab

USUAL = {"base": "30 s", "builder": "20 s", "torch": "5 min", "server": "1 min", "trainer": "1 min"}


def log() -> Path:
    """Where the builder's output goes."""
    return host.cache("logs") / "images.log"


def layouts() -> Path:
    """Where exported images lie, with one folder of blobs for all."""
    return host.cache("containers") / "oci"


def build(names: Iterable[str] = ()) -> list[str]:
    """Build what the tree describes and the engine lacks, parents first; returns the names that were built."""
    with _snapshot() as root:
        return _build(engines.choose(), root, names)


@contextmanager
def _snapshot() -> Iterator[Path]:
    """The tree as it is now, for one process at a time: a person may go on writing while a build of minutes runs."""
    with host.locked("images"):
        shutil.rmtree(host.cache("containers", "tmp"))  # what an earlier process that was killed left behind
        with tempfile.TemporaryDirectory(dir=host.cache("containers", "tmp")) as name:
            tree.snapshot(host.ROOT, Path(name))
            yield Path(name)


def _build(engine: engines.Engine, root: Path, names: Iterable[str] = ()) -> list[str]:
    found, made = tree.images(root), tree.refs(root)
    wanted, there = _with_parents(found, names or found), engine.tags()
    missing = [name for name in found if name in wanted and made[name] not in there]
    if missing:
        debian.ensure(engine, log())
        for name in missing:
            _build_one(engine, root, found[name], made)
        engine.remove(_outdated(engine.tags(), made))
    if "torch" in missing and engine.storage:
        with step("Linking the images' large files with the wheels they came from", usual="30 s") as shown:
            shown.detail(f"{twins.link(engine.storage, host.cache('uv')) / 1e9:.1f} GB set free")
    return missing


def _with_parents(found: dict[str, tree.Image], names: Iterable[str]) -> set[str]:
    wanted: set[str] = set()
    for name in names:
        if name not in found:
            raise tree.TreeError(f"no image {name}: there are {', '.join(found)}")
        wanted |= {name} | _with_parents(found, found[name].parents.values())
    return wanted


def _build_one(engine: engines.Engine, root: Path, image: tree.Image, made: dict[str, str]) -> None:
    file = Path("images") / image.name / "Containerfile"
    with (
        step(f"Image {image.name}", usual=USUAL.get(image.name, "10 s")),
        tempfile.TemporaryDirectory(dir=host.cache("containers", "tmp")) as name,
    ):
        context = Path(name)
        tree.stage(root, image, context)
        values = tree.arguments(root, image, made)
        label = f"org.opencontainers.image.revision={revision()}"
        engine.build(made[image.name], context / file, context, values, label, log())


def _outdated(tags: Iterable[str], made: dict[str, str]) -> list[str]:
    """Earlier builds of our images: an old torch alone holds six gigabytes."""
    current = {*made.values(), tree.DEBIAN}
    return sorted(tag for tag in tags if tag.startswith(f"{tree.PREFIX}/") and tag not in current)


def revision() -> str:
    """The commit that an image was built at; the tag, not this, says what is in it."""
    command = ["git", "-C", str(host.ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def _that_ship(root: Path) -> dict[str, str]:
    """The references of the images that pods run, by name."""
    made = tree.refs(root)
    return {name: made[name] for name, image in tree.images(root).items() if image.ships}


def push(registry: str, only: Collection[str] = (), but: Collection[str] = ()) -> dict[str, str]:
    """Build what is missing and push the images that pods run; returns their references there, by name.

    `only`, `but`: build and push no others; push all but these."""
    engine, pushed = engines.choose(), {}
    with _snapshot() as root:
        _build(engine, root, only)
        for name, ref in _that_ship(root).items():
            if name in but or (only and name not in only):
                continue
            pushed[name] = f"{registry.rstrip('/')}/{ref.removeprefix(tree.PREFIX + '/')}"
            with step(f"Pushing {name}", usual="minutes"):
                engine.push(ref, pushed[name], log())
    return pushed


def export() -> dict[str, Path]:
    """An OCI layout, by reference, for each image that pods run; only layers that are not there yet are written."""
    with _snapshot() as root:
        refs, exported = _export(root)
    return {refs[name]: layout for name, layout in exported.items()}


def _export(root: Path) -> tuple[dict[str, str], dict[str, Path]]:
    engine, refs = engines.choose(), _that_ship(root)
    _build(engine, root, refs)
    if engine.storage is None:
        raise StepFailed(f"the lab takes images from buildah, not from {engine.name}: PILOTBOAT_BUILDER=buildah")
    with step("Writing images for the lab", usual="1 s, at first 1 min"):
        return refs, oci.export(oci.Storage(engine.storage), refs, layouts())


def load(lab: Lab | None = None) -> dict[str, str]:
    """The images that pods run, in the nodes of this lab, or of LAB's; returns their references, by name."""
    # The lab is a part of the tests, and whoever only builds or pushes does without it.
    from lab import images as lab_images

    with _snapshot() as root:
        refs, exported = _export(root)
        lab_images.load({refs[name]: layout for name, layout in exported.items()}, lab)
    return refs
