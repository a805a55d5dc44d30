"""The cache's folder: what comes into it, what is recalled, and what of it is not believed."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotboat.api.runtime import FetchCache
from pilotboat_fetch.cache import Cache, links, told_clearly
from pilotboat_fetch.errors import DiskFull, DownloadFailed
from pilotboat_fetch.files import Wanted
from pilotboat_fetch.manifest import Entry, Manifest

COMMIT = "c" * 40
SOURCE = {"huggingFace": "a/b", "revision": "main", "files": None}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    cache = Cache(FetchCache(path=str(tmp_path)))
    cache.open()
    yield cache
    cache.close()


def put(cache: Cache, data: bytes, git_blob: str | None = None) -> str:
    with cache.fetching(Wanted("x", sha256=sha(data))) as part:
        part.write_bytes(data)
        cache.add(part, sha(data), git_blob)
    return sha(data)


def manifest(*files: Entry) -> Manifest:
    return Manifest(SOURCE, COMMIT, files)


def test_a_file_is_there_under_its_digest_and_nobody_writes_to_it(cache: Cache) -> None:
    path = cache.hold(put(cache, b"weights", "b" * 40))
    assert path == cache.blobs / sha(b"weights")
    assert path.read_bytes() == b"weights"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert cache.digest(Wanted("x", git_blob="b" * 40)) == sha(b"weights")
    assert cache.digest(Wanted("x", git_blob="c" * 40)) is None
    assert list(cache.partial.iterdir()) == list(cache.locks.iterdir()) == []


def test_pods_of_other_users_of_the_group_may_write(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        cache = Cache(FetchCache(path=str(tmp_path)))
        cache.open()
        put(cache, b"x", "b" * 40)
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o2775 for path in tmp_path.iterdir())
        assert stat.S_IMODE((cache.git / ("b" * 40)).stat().st_mode) == 0o444
    finally:
        os.umask(before)
        cache.close()


def test_a_source_at_a_commit_is_recalled_by_branch_and_by_commit_while_its_files_are_there(cache: Cache) -> None:
    digest = put(cache, b"weights")
    cache.remember(manifest(Entry("m.gguf", 7, digest)), COMMIT)
    for revision in ("main", COMMIT):
        found = cache.recall({**SOURCE, "revision": revision}, COMMIT)
        assert found
        assert found.files == (Entry("m.gguf", 7, digest),)
    assert cache.recall(SOURCE, "d" * 40) is None
    assert cache.recall({**SOURCE, "files": ["*.gguf"]}, COMMIT) is None
    cache.remove(digest)
    assert cache.recall(SOURCE, COMMIT) is None


@pytest.mark.parametrize("path", ["../../etc/m.gguf", "/m.gguf", "code.py", ".hidden.gguf", "a\nb.gguf"])
def test_a_manifest_with_a_name_that_no_source_may_have_is_none(cache: Cache, path: str) -> None:
    cache.remember(manifest(Entry(path, 7, put(cache, b"weights"))), COMMIT)
    assert len(list(cache.index.iterdir())) == 1
    assert cache.recall(SOURCE, COMMIT) is None


@pytest.mark.parametrize("text", ["", "{", '{"version": 1}', "\udcff"])
def test_a_broken_manifest_is_none_and_is_written_again(cache: Cache, text: str) -> None:
    digest = put(cache, b"weights")
    cache.remember(manifest(Entry("m.gguf", 7, digest)), COMMIT)
    (entry,) = cache.index.iterdir()
    entry.unlink()
    entry.write_text(text, "utf-8", "surrogateescape")
    assert cache.recall(SOURCE, COMMIT) is None
    cache.remember(manifest(Entry("m.gguf", 7, digest)), COMMIT)
    assert cache.recall(SOURCE, COMMIT)


def test_a_manifest_of_another_source_is_not_believed(cache: Cache) -> None:
    cache.remember(manifest(Entry("m.gguf", 7, put(cache, b"weights"))), COMMIT)
    (entry,) = cache.index.iterdir()
    body = json.loads(entry.read_text())
    body["source"]["huggingFace"] = "c/d"
    entry.unlink()
    entry.write_text(json.dumps(body))
    assert cache.recall(SOURCE, COMMIT) is None


def test_an_interrupted_file_leaves_nothing(cache: Cache) -> None:
    def interrupted() -> None:
        with cache.fetching(Wanted("x", sha256="a" * 64)) as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(cache.partial.iterdir()) == []


def test_links_into_the_cache_are_found_dangling_or_not(cache: Cache, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "sub").mkdir(parents=True)
    (folder / "plain.json").write_text("{}")
    (folder / "away.json").symlink_to(tmp_path / "elsewhere")
    (folder / "a.gguf").symlink_to(cache.blobs / ("a" * 64))
    (folder / "sub" / "b.gguf").symlink_to(cache.blobs / put(cache, b"b"))
    found = list(links(folder, cache.root))
    assert found == [(folder / "a.gguf", "a" * 64), (folder / "sub" / "b.gguf", sha(b"b"))]


@pytest.mark.parametrize(
    ("number", "where", "raised", "words"),
    [
        (13, "blobs/x", DownloadFailed, "cannot use the cache {root}: Permission denied ({root}/blobs/x). Its folder"),
        (30, "", DownloadFailed, "and the group 65532 must own it"),
        (28, "partial/x", DiskFull, "no room left in the cache {root} while writing x"),
        (13, "/elsewhere", OSError, "Permission denied"),
    ],
)
def test_what_the_volume_refuses_is_told_with_the_way_out(
    tmp_path: Path, number: int, where: str, raised: type[Exception], words: str
) -> None:
    with pytest.raises(raised) as caught, told_clearly(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path / where))
    assert words.format(root=tmp_path) in str(caught.value)
