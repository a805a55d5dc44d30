"""OCI image layouts: one written from a few files, and the parts of any one found. It must not know containerd."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.steps import StepFailed

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
INDEX_KINDS = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
LAYOUT = '{"imageLayoutVersion": "1.0.0"}'
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Blob:
    digest: str
    size: int

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")


@dataclass(frozen=True)
class Image:
    """The one image of a layout: the descriptor of its manifest, and every blob it needs, the manifest included."""

    layout: Path
    manifest: dict[str, Any]
    blobs: tuple[Blob, ...]

    def path(self, blob: Blob) -> Path:
        return self.layout / "blobs" / "sha256" / blob.hex


class NotAnImage(StepFailed):
    """The folder is not an OCI layout with one image in it."""


def _read(layout: Path, digest: str) -> dict[str, Any]:
    content = (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
    document: dict[str, Any] = json.loads(content)
    return document


def open_image(layout: Path) -> Image:
    try:
        found = json.loads((layout / "index.json").read_text())["manifests"]
        while found[0]["mediaType"] in INDEX_KINDS:
            found = _read(layout, found[0]["digest"])["manifests"]
        manifest = _read(layout, found[0]["digest"])
    except (OSError, ValueError, LookupError) as error:
        raise NotAnImage(f"{layout} is not an OCI layout with one image in it ({error}).") from error
    parts = [found[0], manifest["config"], *manifest["layers"]]
    blobs = {part["digest"]: Blob(part["digest"], part["size"]) for part in parts}
    descriptor = {name: found[0][name] for name in ("mediaType", "digest", "size")}
    return Image(layout, descriptor, tuple(blobs.values()))


def index(references: Mapping[str, Image]) -> str:
    """An index that gives each image its name in the way containerd reads it."""
    named = [
        {**image.manifest, "annotations": {"io.containerd.image.name": reference}}
        for reference, image in references.items()
    ]
    return json.dumps({"schemaVersion": 2, "manifests": named})


def files_of(entries: Iterable[tuple[str, bytes, int]]) -> bytes:
    """A tar of files: name, content, mode. No times and owners, so that the same files have the same digest."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content, mode in entries:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write_image(layout: Path, files: Mapping[str, Path], entrypoint: Sequence[str]) -> Path:
    """A layout with an image of one layer that holds these files, executable, and runs as nobody."""
    layer = files_of((name, source.read_bytes(), 0o755) for name, source in sorted(files.items()))
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "User": "65535:65535", "Env": ["PATH=/"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    described = list(_write(layout, [(CONFIG, json.dumps(config).encode()), (LAYER, layer)]))
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
    top = list(_write(layout, [(MANIFEST, json.dumps(manifest).encode())]))
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": top}))
    (layout / "oci-layout").write_text(LAYOUT)
    return layout


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _write(layout: Path, blobs: Iterable[tuple[str, bytes]]) -> Iterator[dict[str, Any]]:
    folder = layout / "blobs" / "sha256"
    folder.mkdir(parents=True, exist_ok=True)
    for kind, content in blobs:
        digest = _digest(content)
        (folder / digest.removeprefix("sha256:")).write_bytes(content)
        yield {"mediaType": kind, "digest": digest, "size": len(content)}
