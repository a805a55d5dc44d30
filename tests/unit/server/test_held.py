"""Files of a cache that a server's model consists of: nobody may remove them while it lives."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from pilotboat_server import held
from pilotboat_server.errors import InvalidModel


def in_use(path: Path) -> bool:
    """As fetch finds it that looks for what may go."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "cache" / "blobs").mkdir(parents=True)
    for name in "abc":
        (tmp_path / "cache" / "blobs" / name).write_text(name)
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path, cache: Path) -> Path:
    """Two links into the cache, one of them deeper; a file of its own; a link to elsewhere."""
    model = tmp_path / "model"
    (model / "Q4").mkdir(parents=True)
    (model / "config.json").symlink_to(cache / "blobs" / "a")
    (model / "Q4" / "m.gguf").symlink_to(cache / "blobs" / "b")
    (model / "MANIFEST.json").write_text("{}")
    (tmp_path / "elsewhere").write_text("x")
    (model / "linked.json").symlink_to(tmp_path / "elsewhere")
    return model


def test_every_link_into_the_cache_is_held_and_no_child_inherits_that(cache: Path, model: Path) -> None:
    descriptors = held.hold([model], cache)
    assert [in_use(cache / "blobs" / name) for name in "abc"] == [True, True, False]
    assert not in_use(cache.parent / "elsewhere")
    assert not any(os.get_inheritable(descriptor) for descriptor in descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    assert not in_use(cache / "blobs" / "a")


def test_a_model_of_one_file_may_have_others_beside_it(cache: Path, model: Path) -> None:
    (model / "Q4" / "m-2.gguf").symlink_to(cache / "blobs" / "c")
    descriptors = held.hold([model / "Q4" / "m.gguf"], cache)
    assert [in_use(cache / "blobs" / name) for name in "abc"] == [False, True, True]
    for descriptor in descriptors:
        os.close(descriptor)


def test_without_a_cache_or_a_model_there_is_nothing_to_hold(model: Path, tmp_path: Path) -> None:
    assert held.hold([model, model / "nothing", tmp_path / "no" / "such"], tmp_path / "other") == []


@pytest.mark.parametrize("name", [".", "Q4/m.gguf"])
def test_a_file_that_has_gone_is_named_with_what_to_do(cache: Path, model: Path, name: str) -> None:
    (cache / "blobs" / "b").unlink()
    with pytest.raises(InvalidModel, match=r"m\.gguf leads to .*blobs/b\): delete the pod"):
        held.hold([model / name], cache)


def test_a_volume_without_locks_is_no_reason_not_to_serve(
    cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    descriptors = held.hold([model], cache)
    assert len(descriptors) == 2
    for descriptor in descriptors:
        os.close(descriptor)
