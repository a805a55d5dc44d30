"""Layouts written from a real builder's storage: buildah builds small images here, and their layers are read back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.images import engines, oci
from tools.steps import StepFailed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="buildah's overlay storage is root's here")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[engines.Engine]:
    monkeypatch.setenv("PILOTBOAT_CACHE", str(tmp_path / "cache"))
    engine = engines.buildah()
    yield engine
    subprocess.run(["umount", "--quiet", f"{engine.storage}/overlay"], check=False)  # buildah binds it to itself
    shutil.rmtree(engine.command[engine.command.index("--runroot") + 1], ignore_errors=True)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "oci"
    folder.mkdir()
    return folder


def build(engine: engines.Engine, folder: Path, ref: str, lines: str, **files: bytes) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "Containerfile").write_text(lines)
    engine.build(ref, folder / "Containerfile", folder, {}, "a=b", folder / "log")


def layers(layout: Path) -> list[dict[str, Any]]:
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(layout, index["manifests"][0]["digest"]).read_text())
    found: list[dict[str, Any]] = manifest["layers"]
    return found


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def content(layout: Path) -> dict[str, bytes]:
    """Every regular file of an image, later layers over earlier ones."""
    found: dict[str, bytes] = {}
    for layer in layers(layout):
        with tarfile.open(blob(layout, layer["digest"]), "r:") as tar:  # "r:" refuses a compressed one
            for entry in tar:
                if (file := tar.extractfile(entry)) is not None:
                    found[entry.name] = file.read()
    return found


def test_a_built_image_is_read_back_byte_for_byte(engine: engines.Engine, tmp_path: Path, out: Path) -> None:
    data = os.urandom(9 << 20)  # more than one chunk
    build(engine, tmp_path / "a", "localhost/t/a:1", "FROM scratch\nCOPY large empty /x/\n", large=data, empty=b"")
    assert engine.storage is not None
    layouts = oci.export(oci.Storage(engine.storage), {"a": "localhost/t/a:1"}, out)
    assert content(layouts["a"]) == {"x/large": data, "x/empty": b""}


def test_images_share_blobs_and_only_what_changed_is_written(engine: engines.Engine, tmp_path: Path, out: Path) -> None:
    assert engine.storage is not None
    storage = oci.Storage(engine.storage)
    build(engine, tmp_path / "base", "localhost/t/base:1", "FROM scratch\nCOPY big /\n", big=os.urandom(1 << 20))
    child = "FROM localhost/t/base:1\nCOPY code /\n"
    build(engine, tmp_path / "a", "localhost/t/a:1", child, code=b"one")
    first = oci.export(storage, {"a": "localhost/t/a:1"}, out)
    big, thin = (blob(first["a"], layer["digest"]) for layer in layers(first["a"]))
    written = big.stat().st_mtime_ns, big.stat().st_ino

    build(engine, tmp_path / "a", "localhost/t/a:2", child, code=b"two")
    build(engine, tmp_path / "b", "localhost/t/b:1", child, code=b"three")
    second = oci.export(storage, {"a": "localhost/t/a:2", "b": "localhost/t/b:1"}, out)
    assert (big.stat().st_mtime_ns, big.stat().st_ino) == written
    assert not thin.exists()
    assert content(second["a"])["code"] == b"two"
    assert content(second["b"])["code"] == b"three"


def test_a_layer_whose_files_were_changed_is_refused(engine: engines.Engine, tmp_path: Path, out: Path) -> None:
    assert engine.storage is not None
    build(engine, tmp_path / "a", "localhost/t/a:1", "FROM scratch\nCOPY code /\n", code=b"good")
    for file in engine.storage.glob("overlay/*/diff/code"):
        file.write_bytes(b"evil")
    with pytest.raises(StepFailed, match="build it again"):
        oci.export(oci.Storage(engine.storage), {"a": "localhost/t/a:1"}, out)
    assert not list(out.rglob("*.partial"))


def test_an_image_that_is_not_built_is_named(engine: engines.Engine, tmp_path: Path, out: Path) -> None:
    assert engine.storage is not None
    build(engine, tmp_path / "a", "localhost/t/a:1", "FROM scratch\nCOPY code /\n", code=b"1")
    with pytest.raises(StepFailed, match="localhost/t/b:1"):
        oci.export(oci.Storage(engine.storage), {"b": "localhost/t/b:1"}, out)


def test_a_failed_build_leaves_no_container_behind(engine: engines.Engine, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="status"):
        build(engine, tmp_path / "a", "localhost/t/a:1", "FROM scratch\nCOPY code /\nCOPY nothing /\n", code=b"1")
    assert engine.storage is not None
    assert json.loads((engine.storage / "overlay-containers" / "containers.json").read_text() or "[]") == []


def test_old_references_are_removed_and_others_stay(engine: engines.Engine, tmp_path: Path) -> None:
    for tag in ("1", "2"):
        build(engine, tmp_path / "a", f"localhost/t/a:{tag}", "FROM scratch\nCOPY code /\n", code=tag.encode())
    engine.remove(["localhost/t/a:1"])
    assert engine.tags() == {"localhost/t/a:2"}
