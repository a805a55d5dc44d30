"""Mounted volumes: files and folders, copied or linked, and the ways a ConfigMap looks."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from pilotboat.api.runtime import files_digest
from pilotboat_fetch import report
from pilotboat_fetch.cli import main


class Usage(NamedTuple):
    """As shutil.disk_usage has it."""

    total: int
    used: int
    free: int


class Fetched:
    """One run of the init container over a local source."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.target, self.log = root, root / "target", root / "log"
        monkeypatch.setenv(report.LOG_VARIABLE, str(self.log))

    def run(self, path: Path, root: Path | None = None, **item: object) -> int:
        return main(["--config", str(self.config(path, root, **item))])

    def config(self, path: Path, root: Path | None = None, **item: object) -> Path:
        local = {"path": str(path)} | ({"root": str(root)} if root else {})
        body = {"items": [{"name": "data", "destination": str(self.target), "local": local, **item}]}
        (self.root / "fetch.json").write_text(json.dumps(body))
        return self.root / "fetch.json"

    @property
    def said(self) -> dict[str, object]:
        body: dict[str, object] = json.loads(self.log.read_text())
        return body


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetched:
    return Fetched(tmp_path, monkeypatch)


def config_map(folder: Path) -> Path:
    """As kubelet mounts it: versions in hidden folders, links to the current one."""
    version = folder / "..2026_11_22"
    version.mkdir(parents=True)
    (version / "train.jsonl").write_text('{"text": "x"}\n')
    (folder / "..data").symlink_to("..2026_11_22")
    (folder / "train.jsonl").symlink_to("..data/train.jsonl")
    return folder


def test_a_config_map_is_copied_as_plain_files(fetch: Fetched, tmp_path: Path) -> None:
    assert fetch.run(config_map(tmp_path / "source"), repoType="dataset") == 0
    assert sorted(p.name for p in fetch.target.iterdir()) == ["MANIFEST.json", "READY", "train.jsonl"]
    assert not (fetch.target / "train.jsonl").is_symlink()


def test_a_single_file(fetch: Fetched, tmp_path: Path) -> None:
    assert fetch.run(config_map(tmp_path / "source") / "train.jsonl", repoType="dataset") == 0
    assert (fetch.target / "train.jsonl").read_text() == '{"text": "x"}\n'


def test_linked_instead_of_copied(fetch: Fetched, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.gguf").write_bytes(b"GGUF")
    assert fetch.run(source, copyFiles=False) == 0
    assert (fetch.target / "model.gguf").readlink() == source / "model.gguf"
    assert fetch.run(source, copyFiles=False) == 0


def test_digests_are_checked_and_a_wrong_file_is_not_left_behind(fetch: Fetched, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.gguf").write_bytes(b"GGUF")
    assert fetch.run(source, digests={"model.gguf": "0" * 64}) == 64
    assert fetch.said["reason"] == "ChecksumMismatch"
    assert "0" * 64 in str(fetch.said["message"])
    assert list(fetch.target.rglob("*")) == []


def test_one_digest_may_stand_for_all_files(fetch: Fetched, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a.safetensors", "config.json"):
        (source / name).write_text(name)
    made = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a.safetensors", "config.json")}
    assert fetch.run(source, filesSha256=files_digest(made)) == 0
    assert fetch.run(source, filesSha256=files_digest(made)) == 0
    (source / "more.json").write_text("{}")
    assert fetch.run(source, filesSha256=files_digest({**made, "gone.json": "0" * 64})) == 64
    assert fetch.said["reason"] == "ChecksumMismatch"
    assert "files of data together" in str(fetch.said["message"])


def test_a_digest_of_a_file_that_is_not_there(fetch: Fetched, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.gguf").write_bytes(b"GGUF")
    assert fetch.run(source, digests={"other.gguf": "0" * 64}) == 64
    assert fetch.said["reason"] == "SourceNotFound"


def test_a_path_that_is_not_there(fetch: Fetched, tmp_path: Path) -> None:
    assert fetch.run(tmp_path / "nothing") == 64
    assert fetch.said["reason"] == "SourceNotFound"


def snapshot(volume: Path) -> Path:
    """A folder as huggingface_hub's cache has them: links to files that lie beside it, on the same volume."""
    blobs, folder = volume / "models--demo--tiny" / "blobs", volume / "models--demo--tiny" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (blobs / name[:3]).write_text(name)
        (folder / name).symlink_to(Path("../../blobs", name[:3]))
    return folder


@pytest.mark.parametrize("copy", [True, False])
def test_links_may_lead_anywhere_on_the_volume(fetch: Fetched, tmp_path: Path, copy: bool) -> None:
    volume = tmp_path / "volume"
    assert fetch.run(snapshot(volume), root=volume, copyFiles=copy) == 0
    assert (fetch.target / "model.safetensors").read_text() == "model.safetensors"


@pytest.mark.parametrize("path", ["", "config.json", "inner", "inner/config.json", "away", "away/config.json"])
@pytest.mark.parametrize("copy", [True, False])
def test_a_link_out_of_the_volume_is_refused(fetch: Fetched, tmp_path: Path, path: str, copy: bool) -> None:
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "inner").mkdir(parents=True)
    outside.mkdir()
    (outside / "config.json").write_text("{}")
    (volume / "config.json").symlink_to(outside / "config.json")
    (volume / "inner" / "config.json").symlink_to(outside / "config.json")
    (volume / "away").symlink_to(outside)
    assert fetch.run(volume / path, root=volume, repoType="dataset", copyFiles=copy) == 64
    assert fetch.said["reason"] == "UnsafeFile"
    assert not (fetch.target / "config.json").exists()


@pytest.mark.parametrize(("name", "code"), [("more", 1), ("lost+found", 0)])
def test_a_folder_that_cannot_be_read_is_not_left_out(fetch: Fetched, tmp_path: Path, name: str, code: int) -> None:
    """Half a model would be served. A volume's own lost+found is root's, and nobody's model."""
    (tmp_path / "source" / name).mkdir(parents=True)
    (tmp_path / "source" / "model.safetensors").write_text("x")
    config = fetch.config(tmp_path / "source")
    (tmp_path / "source" / name).chmod(0)
    mortal = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    run = subprocess.run([*mortal, sys.executable, "-m", "pilotboat_fetch", "--config", str(config)], check=False)
    assert run.returncode == code
    if code:
        assert fetch.said["reason"] == "DownloadFailed"
        assert fetch.said["message"] == f"data: cannot read {tmp_path / 'source' / name}: Permission denied"


@pytest.mark.parametrize("name", ["a\nb.json", "a\\b.json", "\udcff.json"])
def test_a_name_that_cannot_be_shown_is_refused(fetch: Fetched, tmp_path: Path, name: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / name).write_text("{}")
    assert fetch.run(tmp_path / "source", repoType="dataset") == 64
    assert fetch.said["reason"] == "UnsafeFile"


def test_a_link_to_itself_is_no_file(fetch: Fetched, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train.jsonl").symlink_to("train.jsonl")
    assert fetch.run(tmp_path / "source", repoType="dataset") == 64
    assert fetch.said["reason"] == "SourceNotFound"


def test_without_a_root_a_folder_is_its_own(fetch: Fetched, tmp_path: Path) -> None:
    assert fetch.run(snapshot(tmp_path / "volume")) == 64
    assert fetch.said["reason"] == "UnsafeFile"


@pytest.mark.parametrize(("copy", "code"), [(True, 1), (False, 0)])
def test_only_copies_need_room(
    fetch: Fetched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: bool, code: int
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(total=1 << 40, used=1 << 40, free=0))
    assert fetch.run(source, copyFiles=copy) == code
    assert fetch.said["reason"] == ("DiskFull" if copy else "Fetched")


def test_what_lies_beside_a_data_set_is_left_out(fetch: Fetched, tmp_path: Path) -> None:
    for name in ("train.jsonl", "prepare.py", "raw.csv", "_SUCCESS"):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / name).write_text("{}")
    assert fetch.run(tmp_path / "source", repoType="dataset") == 0
    assert sorted(p.name for p in fetch.target.iterdir()) == ["MANIFEST.json", "READY", "train.jsonl"]


@pytest.mark.parametrize(("kind", "reason"), [("model", "InvalidModel"), ("dataset", "InvalidDataset")])
@pytest.mark.parametrize("path", ["", "README.md"])
def test_a_source_without_anything_is_no_model_or_no_data_set(
    fetch: Fetched, tmp_path: Path, kind: str, reason: str, path: str
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "README.md").write_text("words")
    assert fetch.run(tmp_path / "source" / path, repoType=kind) == 64
    assert fetch.said["reason"] == reason


def test_what_another_fetch_wrote_is_a_source_without_its_markers(fetch: Fetched, tmp_path: Path) -> None:
    source = config_map(tmp_path / "source")
    assert fetch.run(source, repoType="dataset") == 0
    again = fetch.target.rename(tmp_path / "first")
    assert fetch.run(again, repoType="dataset") == 0
    manifest = json.loads((fetch.target / "MANIFEST.json").read_text())
    assert [file["path"] for file in manifest["files"]] == ["train.jsonl"]


def test_a_config_that_is_none(fetch: Fetched, tmp_path: Path) -> None:
    for text in ("{", '{"items": []}', '{"items": [{"name": "x", "destination": "/d"}]}'):
        (tmp_path / "bad.json").write_text(text)
        assert main(["--config", str(tmp_path / "bad.json")]) == 64
        assert fetch.said["reason"] == "InvalidSpec"
    assert main(["--config", str(tmp_path / "missing.json")]) == 64
