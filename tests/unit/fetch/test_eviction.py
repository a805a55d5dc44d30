"""What leaves the cache and what never does, on a real folder with real locks; only the volume's size is made up."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.runtime import FetchCache
from pilotboat_fetch import eviction, locks
from pilotboat_fetch.cache import Cache
from pilotboat_fetch.download import SPARE
from pilotboat_fetch.errors import DiskFull
from pilotboat_fetch.eviction import FREE_FOR, Free, Room, chosen
from pilotboat_fetch.files import Wanted
from pilotboat_fetch.manifest import Entry, Manifest

COMMIT = "c" * 40
MIB = 1 << 20
blobs = st.builds(Free, st.uuids().map(str), st.integers(0, 100), st.floats(0, 10_000))


# --- the choice


@given(st.lists(blobs), st.integers(-10, 500), st.floats(0, 20_000))
def test_only_what_has_long_been_free_goes_oldest_first_and_no_more_than_needed(
    free: list[Free], short: int, now: float
) -> None:
    going = chosen(free, short, now)
    old = [blob for blob in free if blob.since <= now - FREE_FOR]
    assert set(going) <= set(old)
    stay = [blob.since for blob in old if blob not in going]
    assert not going or not stay or max(blob.since for blob in going) <= min(stay)
    if short > 0 and sum(blob.size for blob in old) >= short:
        assert sum(blob.size for blob in going) >= short
        assert sum(blob.size for blob in going[:-1]) < short
    else:
        assert going == []


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({}, 400 - 30),
        ({"keep_free": 10}, 400 - 30 - 100),
        ({"keep_free": 50}, 400 - 30 - 500),
        ({"size": 500}, 500 - 300 - 20 - 30),
        ({"size": 5000}, 400 - 30),
        ({"size": 100}, 100 - 300 - 20 - 30),
    ],
)
def test_the_narrower_limit_counts_and_so_does_what_others_still_write(limits: dict[str, int], left: int) -> None:
    room = Room(1000 * MIB, 400 * MIB + SPARE, 300 * MIB, coming=30 * MIB, arrived=20 * MIB)
    limits = {name: value * MIB if name == "size" else value for name, value in limits.items()}
    assert room.left(FetchCache(path="/cache", **limits)) == left * MIB


# --- on a folder


class Usage(NamedTuple):
    """As shutil.disk_usage has it."""

    total: int
    used: int
    free: int


def no_locks(handle: int, operation: int) -> None:
    """As flock on a volume that has none."""
    raise OSError(errno.ENOLCK, "No locks available")


def digest(number: int) -> str:
    return hashlib.sha256(bytes([number])).hexdigest()


class Store:
    """A cache of blobs of one MiB, by number."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cache = self.of()

    def of(self, **limits: int) -> Cache:
        cache = Cache(FetchCache(path=str(self.root), **limits))
        cache.open()
        return cache

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.cache.blobs.joinpath(digest(number)).touch()
            os.truncate(self.cache.blobs / digest(number), MIB)

    def marked(self, number: int, hours: float) -> None:
        mark = self.cache.free / digest(number)
        mark.touch()
        os.utime(mark, (time.time() - hours * 3600,) * 2)

    def there(self) -> set[int]:
        names = {path.name for path in self.cache.blobs.iterdir()}
        return {number for number in range(20) if digest(number) in names}

    def marks(self) -> set[int]:
        names = {path.name for path in self.cache.free.iterdir()}
        return {number for number in range(20) if digest(number) in names}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.cache.close()


def test_a_sweep_marks_what_nobody_uses_and_keeps_the_first_time(store: Store) -> None:
    store.put(1, 2, 3)
    store.marked(2, hours=5)
    store.marked(3, hours=5)
    before = (store.cache.free / digest(2)).stat().st_mtime
    server = locks.shared(store.cache.blobs / digest(3))
    assert server is not None
    eviction.sweep(store.cache)
    assert store.marks() == {1, 2}, "a server has the third"
    assert (store.cache.free / digest(2)).stat().st_mtime == before
    os.close(server)


def test_to_use_a_blob_takes_its_mark_away(store: Store) -> None:
    store.put(1)
    store.marked(1, hours=5)
    store.cache.hold(digest(1))
    assert store.marks() == set()
    eviction.sweep(store.cache)
    assert store.marks() == set(), "and none is made while it is held"
    store.cache.close()
    eviction.sweep(store.cache)
    assert store.marks() == {1}


def test_the_longest_free_go_first_and_one_in_use_never(store: Store) -> None:
    store.put(1, 2, 3, 4)
    for number, hours in ((1, 9), (2, 3), (3, 7), (4, 0.9)):
        store.marked(number, hours)
    server = locks.shared(store.cache.blobs / digest(1))
    assert server is not None
    eviction.make_room(store.of(size=4 * MIB), MIB)
    assert store.there() == {1, 2, 4}
    assert store.marks() == {1, 2, 4}
    eviction.make_room(store.of(size=4 * MIB), MIB)
    assert store.there() == {1, 2, 4}, "there is room"
    os.close(server)


def test_where_not_enough_may_go_nothing_does_and_the_message_says_why(store: Store) -> None:
    store.put(*range(8))
    store.marked(1, hours=2)
    store.marked(2, hours=0.5)
    with pytest.raises(DiskFull) as caught:
        eviction.make_room(store.of(size=9 * MIB), 3 * MIB)
    assert store.there() == set(range(8))
    assert str(caught.value) == (
        f"3.0 MiB to fetch, and the cache {store.root} (at most 9.0 MiB, 0 % of its volume kept free) has 1.0 MiB left "
        "and could give up 1.0 MiB; 7.0 MiB stay: pods use them, or did so less than an hour ago"
    )


def test_a_mark_without_a_lock_to_be_had_is_not_enough(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a volume without locks: nothing is known, and so nothing goes."""
    store.put(1)
    store.marked(1, hours=9)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(DiskFull):
        eviction.make_room(store.of(size=MIB), MIB)
    eviction.sweep(store.cache)
    assert store.there() == {1}
    assert store.marks() == set()


@pytest.mark.parametrize(("keep_free", "stays"), [(0, {1, 2}), (10, {2}), (20, set())])
def test_a_part_of_the_volume_stays_free(
    store: Store, monkeypatch: pytest.MonkeyPatch, keep_free: int, stays: set[int]
) -> None:
    store.put(1, 2)
    store.marked(1, hours=3)
    store.marked(2, hours=2)
    usage = Usage(total=10 * MIB, used=0, free=SPARE + MIB)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    eviction.make_room(store.of(keep_free=keep_free), MIB)
    assert store.there() == stays


def test_what_others_are_about_to_write_is_no_room_and_ones_own_is(store: Store) -> None:
    cache = store.of(size=4 * MIB)
    ours, theirs, third = (Wanted(name, 2 * MIB, name * 64) for name in "abc")
    with cache.fetching(ours) as one, cache.fetching(theirs) as two:
        eviction.make_room(cache, 2 * MIB, one)
        eviction.make_room(cache, 2 * MIB, two)
        with pytest.raises(DiskFull), cache.fetching(third) as three:
            eviction.make_room(cache, 2 * MIB, three)
        os.truncate(one, MIB)
        eviction.make_room(cache, MIB, one)
    assert list(cache.partial.iterdir()) == []


def test_what_a_dead_writer_left_goes_and_what_a_living_one_has_stays(store: Store) -> None:
    cache = store.cache
    dead, living = (Wanted(name, 1, name * 64) for name in "ab")
    paths = {file: cache.partial / f"{file.sha256}.1.x" for file in (dead, living)}
    for path in paths.values():
        path.touch()
    cache.lock(dead).touch()
    with locks.alone(cache.lock(living)):
        eviction.sweep(cache)
        assert list(cache.partial.iterdir()) == [paths[living]]
        assert [path.name for path in cache.locks.iterdir()] == [living.sha256]


@pytest.mark.parametrize(("hours", "stays"), [(0.5, 1), (2, 0)])
def test_without_locks_a_file_that_grows_no_more_is_a_dead_writers(
    store: Store, monkeypatch: pytest.MonkeyPatch, hours: float, stays: int
) -> None:
    path = store.cache.partial / f"{'a' * 64}.1.x"
    path.touch()
    os.utime(path, (time.time() - hours * 3600,) * 2)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    eviction.sweep(store.cache)
    assert len(list(store.cache.partial.iterdir())) == stays


def test_what_leads_to_no_file_any_more_is_removed(store: Store) -> None:
    cache = store.cache
    store.put(1)
    files = {
        name: Manifest({"name": name}, COMMIT, tuple(Entry(f"{n}.json", 1, digest(n)) for n in numbers))
        for name, numbers in {"partly": (1, 2), "gone": (2, 3)}.items()
    }
    for manifest in files.values():
        cache.remember(manifest, COMMIT)
    (cache.index / "junk").write_bytes(b"\xff{")
    for number in (1, 2):
        (cache.git / str(number)).write_text(digest(number))
        (cache.free / digest(number)).touch()
    eviction.sweep(cache)
    assert len(list(cache.index.iterdir())) == 1
    assert [path.name for path in cache.git.iterdir()] == ["1"]
    assert store.marks() == {1}
