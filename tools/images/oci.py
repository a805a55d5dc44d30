"""Writes built images as OCI layouts with uncompressed layers: a folder an image, and one folder of blobs for all.

A layer is read from the builder's overlay storage by its tar-split record, so only layers that are not there yet are
touched: after a change of code that is a few kilobytes, where `push` would compress six gigabytes again. Every layer's
digest is checked. It must not know what the images are for.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.steps import StepFailed

CHUNK = 4 << 20
_FILE, _BYTES = 1, 2  # what a tar-split record holds: a file by name, or the bytes between files


@dataclass(frozen=True)
class Storage:
    """The overlay storage of buildah or podman, read-only."""

    root: Path

    def image(self, ref: str) -> Path:
        """The folder with an image's manifest and configuration."""
        for image in self._list("overlay-images/images.json"):
            if ref in image.get("names", ()):
                return self.root / "overlay-images" / str(image["id"])
        raise StepFailed(f"{ref} is not built: run `make images`")

    def layer(self, digest: str) -> Iterator[bytes]:
        """An uncompressed layer, byte for byte as it was built."""
        found = next(
            (each for each in self._list("overlay-layers/layers.json") if each.get("diff-digest") == digest), None
        )
        if found is None:
            raise StepFailed(f"layer {digest} is not in {self.root}")
        files = self.root / "overlay" / found["id"] / "diff"
        with gzip.open(self.root / "overlay-layers" / f"{found['id']}.tar-split.gz", "rt") as records:
            for record in map(json.loads, records):
                if record["type"] == _BYTES:
                    yield base64.b64decode(record["payload"])
                elif record.get("size"):
                    yield from _chunks(files / record["name"])

    def _list(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.root / name).read_text())
        return found


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def export(storage: Storage, refs: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """A layout for each image, by name; blobs that none of them needs are removed, those that are there are kept."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    needed: set[str] = set()
    for name, ref in refs.items():
        needed |= _export_one(storage, ref, folder / name, blobs)
    for blob in blobs.iterdir():
        if blob.name not in needed:
            blob.unlink()
    return {name: folder / name for name in refs}


def _export_one(storage: Storage, ref: str, layout: Path, blobs: Path) -> set[str]:
    """The names of the blobs that one image is made of, each of them written."""
    image = storage.image(ref)
    raw = (image / "manifest").read_bytes()
    manifest = json.loads(raw)
    own = _digest(raw)
    parts: dict[str, Iterable[bytes]] = {own: [raw], manifest["config"]["digest"]: [_config(image, manifest)]}
    parts |= {layer["digest"]: storage.layer(layer["digest"]) for layer in manifest["layers"]}
    for digest, content in parts.items():
        _put(blobs, digest, content)
    _describe(layout, {"mediaType": manifest["mediaType"], "digest": own, "size": len(raw)}, ref)
    return {digest.removeprefix("sha256:") for digest in parts}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _config(folder: Path, manifest: dict[str, Any]) -> bytes:
    """The storage files an image's parts under their digests in base64."""
    name = base64.b64encode(manifest["config"]["digest"].encode()).decode()
    return (folder / f"={name}").read_bytes()


def _describe(layout: Path, manifest: dict[str, Any], ref: str) -> None:
    """The folder that makes it a layout; its blobs lie beside it, shared."""
    layout.mkdir(exist_ok=True)
    if not (layout / "blobs").is_symlink():
        (layout / "blobs").symlink_to("../blobs")
    named = {**manifest, "annotations": {"org.opencontainers.image.ref.name": ref}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _put(blobs: Path, digest: str, content: Iterable[bytes]) -> None:
    """Writes a blob that is not there; a wrong one never gets its name."""
    name = digest.removeprefix("sha256:")
    if (blobs / name).exists():
        return
    partial, seen = blobs / f"{name}.partial", hashlib.sha256()
    with partial.open("wb") as file:
        for chunk in content:
            seen.update(chunk)
            file.write(chunk)
    if seen.hexdigest() != name:
        partial.unlink()
        raise StepFailed(f"layer {digest} reads as sha256:{seen.hexdigest()}: its files were changed; build it again")
    os.replace(partial, blobs / name)
