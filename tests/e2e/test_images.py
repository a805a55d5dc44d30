"""What the images are, read off the layouts that the lab's nodes were given: not what their Containerfiles ask for."""

from __future__ import annotations

import json
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tools.host import ROOT
from tools.images import tree, work

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("installed")]
SHIPPED = [name for name, image in tree.images().items() if image.ships]
RAISED = 0o6000
"""Set-user-ID and set-group-ID."""


def blob(digest: str) -> Path:
    return work.layouts() / "blobs" / digest.replace(":", "/")


def manifest(name: str) -> dict[str, Any]:
    """Of the very image that the tree describes."""
    (found,) = json.loads((work.layouts() / name / "index.json").read_text())["manifests"]
    assert found["annotations"]["org.opencontainers.image.ref.name"] == tree.refs()[name]
    return dict(json.loads(blob(found["digest"]).read_text()))


def settings(name: str) -> dict[str, Any]:
    return dict(json.loads(blob(manifest(name)["config"]["digest"]).read_text())["config"])


@cache
def modes(digest: str) -> dict[str, int]:
    """Of everything in a layer: its mode, 0 for what is no plain file."""
    with tarfile.open(blob(digest), "r:") as layer:
        return {entry.name.removeprefix("./"): entry.mode if entry.isfile() else 0 for entry in layer}


@pytest.mark.parametrize("name", SHIPPED)
def test_an_image_runs_as_nobody_in_particular_and_no_program_of_it_raises_its_rights(name: str) -> None:
    """A layer's entry takes the place of that in the layers below; deletions, which could only help, are not read."""
    assert settings(name)["User"] == "65532:65532"
    whole: dict[str, int] = {}
    for layer in manifest(name)["layers"]:
        whole |= modes(layer["digest"])
    assert "usr/bin/tini" in whole, "or these are no names of files"
    assert [path for path, mode in whole.items() if mode & RAISED] == []


@pytest.mark.parametrize("name", ["server", "trainer"])
def test_images_with_torch_say_which_cuda_and_driver_they_need(name: str) -> None:
    labels = settings(name)["Labels"]
    version = tree.cuda(ROOT)
    assert labels["dev.pilotboat.cuda"] == version
    assert labels["dev.pilotboat.cuda.driver.min"] == tree.DRIVERS[version.split(".")[0]]
