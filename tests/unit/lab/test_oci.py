"""Layouts written by us are read by us, the same files give the same image, and names are as kubelet asks for them."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from lab import images, oci, runtime


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_text("#!/bin/true\n")
    return path


def test_what_is_written_is_read_back_whole(tmp_path: Path, program: Path) -> None:
    image = oci.open_image(oci.write_image(tmp_path / "layout", {"program": program}, ["/program"]))
    assert len(image.blobs) == 3
    for blob in image.blobs:
        content = image.path(blob).read_bytes()
        assert len(content) == blob.size
        assert hashlib.sha256(content).hexdigest() == blob.hex


def test_the_same_files_give_the_same_image(tmp_path: Path, program: Path) -> None:
    layouts = [oci.write_image(tmp_path / name, {"program": program}, ["/program"]) for name in ("a", "b")]
    assert oci.open_image(layouts[0]).manifest == oci.open_image(layouts[1]).manifest


def test_programs_are_executable_in_the_layer(tmp_path: Path, program: Path) -> None:
    image = oci.open_image(oci.write_image(tmp_path / "layout", {"program": program}, ["/program"]))
    manifest = json.loads((image.path(image.blobs[0])).read_text())
    layer = tmp_path / "layout" / "blobs" / "sha256" / manifest["layers"][0]["digest"].removeprefix("sha256:")
    with tarfile.open(layer) as tar:
        assert tar.getmember("program").mode == 0o755


def test_a_folder_that_is_no_layout_is_named(tmp_path: Path) -> None:
    with pytest.raises(oci.NotAnImage, match=str(tmp_path)):
        oci.open_image(tmp_path)


def test_an_index_within_the_index_is_followed(tmp_path: Path, program: Path) -> None:
    layout = oci.write_image(tmp_path / "layout", {"program": program}, ["/program"])
    inner = (layout / "index.json").read_bytes()
    digest = hashlib.sha256(inner).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(inner)
    entry = {"mediaType": oci.INDEX_KINDS[0], "digest": f"sha256:{digest}", "size": len(inner)}
    direct = oci.open_image(layout).manifest
    (layout / "index.json").write_text(json.dumps({"manifests": [entry]}))
    assert oci.open_image(layout).manifest == direct


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("server", "docker.io/library/server:latest"),
        ("pilotboat/server:dev", "docker.io/pilotboat/server:dev"),
        ("localhost/server:dev", "localhost/server:dev"),
        ("localhost:5000/server", "localhost:5000/server:latest"),
        ("registry.example/a/b:1", "registry.example/a/b:1"),
    ],
)
def test_names_are_made_full_as_kubelet_makes_them(given: str, full: str) -> None:
    assert images.full_name(given) == full


def test_a_clone_shares_layers_and_blobs_and_copies_databases(tmp_path: Path) -> None:
    store, layers = tmp_path / "store", runtime.SNAPSHOTS
    files = {"meta/meta.db", f"{layers.parent}/metadata.db", f"{layers}/1/fs/a.db", f"{runtime.CONTENT}/abc"}
    for name in files:
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_text(name)
    clone = tmp_path / "clone"
    for _ in range(2):  # the second time over the first
        runtime.clone(store, clone)
        shared = {name for name in files if (store / name).samefile(clone / name)}
        assert shared == {f"{layers}/1/fs/a.db", f"{runtime.CONTENT}/abc"}
        assert all((clone / name).read_text() == name for name in files)


def test_taking_a_clone_back_leaves_the_layers(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / runtime.SNAPSHOTS / "1").mkdir(parents=True)
    (store / runtime.SNAPSHOTS / "1" / "file").write_text("kept")
    runtime.clone(store, tmp_path / "clone")
    shutil.rmtree(tmp_path / "clone")
    assert (store / runtime.SNAPSHOTS / "1" / "file").read_text() == "kept"


def test_a_link_replaces_what_was_staged_before(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "folder" / "target"
    source.write_text("whole")
    target.parent.mkdir()
    (target.parent / f"target{runtime.STAGING}").write_text("hal")
    runtime.link_or_copy(source, target)
    assert target.read_text() == "whole"
    assert [path.name for path in target.parent.iterdir()] == ["target"]
