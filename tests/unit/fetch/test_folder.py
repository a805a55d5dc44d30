"""The destination: order of writes, manifest, and what an earlier run left."""

import hashlib
from pathlib import Path

from pilotboat_fetch.files import Listing, Wanted
from pilotboat_fetch.folder import Folder
from pilotboat_fetch.manifest import Entry, Manifest
from pilotboat_fetch.progress import Progress


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def folder(path: Path) -> Folder:
    return Folder(path, Progress("test"))


def filled(path: Path, files: dict[str, bytes]) -> tuple[Folder, Manifest]:
    target = folder(path)
    target.open()
    wanted = [Wanted(name, len(data), sha(data)) for name, data in files.items()]
    for file, data in zip(wanted, files.values(), strict=True):
        target.staging(file).write_bytes(data)
    entries = tuple(target.place(file, str(file.sha256)) for file in wanted)
    manifest = Manifest({"what": "test"}, "r1", entries)
    target.close(manifest, Listing(tuple(wanted), "r1"))
    return target, manifest


def test_a_closed_folder_is_ready_and_verifies(tmp_path: Path) -> None:
    target, manifest = filled(tmp_path / "m", {"a.json": b"{}", "sub/b.gguf": b"weights"})
    assert target.ready() == manifest
    assert target.bad(manifest) == []
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["MANIFEST.json", "READY", "a.json", "sub"]
    assert (tmp_path / "m" / "READY").read_text().strip() == manifest.sha256


def test_a_changed_byte_a_missing_file_and_a_shorter_one_are_bad(tmp_path: Path) -> None:
    target, manifest = filled(tmp_path, {"a.json": b"{}", "b.gguf": b"weights", "c.gguf": b"more"})
    (tmp_path / "a.json").write_bytes(b"[]")
    (tmp_path / "b.gguf").unlink()
    (tmp_path / "c.gguf").write_bytes(b"mo")
    assert target.bad(manifest) == ["a.json", "b.gguf", "c.gguf"]


def test_opening_takes_ready_away_and_cleans_partial_files(tmp_path: Path) -> None:
    target, _ = filled(tmp_path, {"a.json": b"{}"})
    target.open()
    target.staging(Wanted("b.json")).write_bytes(b"half")
    target.open()
    assert target.ready() is None
    assert list((tmp_path / ".partial").iterdir()) == []


def test_files_of_another_model_are_removed(tmp_path: Path) -> None:
    filled(tmp_path, {"old/model.safetensors": b"old", "tokenizer.json": b"old"})
    filled(tmp_path, {"model.gguf": b"new"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["MANIFEST.json", "READY", "model.gguf"]


def test_only_a_file_with_a_known_digest_is_kept(tmp_path: Path) -> None:
    target, _ = filled(tmp_path, {"a.json": b"{}"})
    git = hashlib.sha1(b"blob 2\0{}").hexdigest()
    assert target.kept(Wanted("a.json", 2, sha(b"{}"))) == Entry("a.json", 2, sha(b"{}"))
    assert target.kept(Wanted("a.json", 2, git_blob=git)) == Entry("a.json", 2, sha(b"{}"))
    assert target.kept(Wanted("a.json", 2, git_blob="0" * 40)) is None
    assert target.kept(Wanted("a.json", 2)) is None
    assert target.kept(Wanted("a.json", 3, sha(b"{}"))) is None


def test_a_broken_manifest_is_no_manifest(tmp_path: Path) -> None:
    target, manifest = filled(tmp_path, {"a.json": b"{}"})
    for text in ("", "{", "[]", '{"version": 1}', '{"version": 2, "files": [], "source": {}, "revision": null}'):
        (tmp_path / "MANIFEST.json").write_text(text)
        assert target.ready() is None
    assert Manifest.parse(manifest.to_json()) == manifest
