"""Pods that share a cache: what the second asks for, what two do at once, what a bad, full or closed cache comes to."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pilotboat.api.runtime import files_digest
from pilotboat_fetch import report
from pilotboat_fetch.cli import main
from pilotboat_fetch.retry import Backoff
from standins.hub import Fault, Hub
from standins.scripted import Answer, Scripted

ROOT = Path(__file__).parents[2]
REPO = "google/tiny"
MIB = 1 << 20
WEIGHTS = bytes(range(256)) * 12_000
CONFIG = b'{"model_type": "llama"}'
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A model, and another that has one file in common with it."""
    files = {f"{REPO}/{name}": data for name, data in FILES.items()}
    files |= {"google/other/config.json": CONFIG, "google/other/model.safetensors": b"other"}
    for name, data in files.items():
        (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hub" / name).write_bytes(data)
    return tmp_path / "hub"


@pytest.fixture
def hub(root: Path) -> Iterator[Hub]:
    with Hub(root) as hub:
        yield hub


class Node:
    """Pods with one cache: each has a folder of its own, and what it said."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._folder, self._output = folder, capfd
        self.cache = folder / "cache"
        self.cache.mkdir()
        self._log = folder / "log"
        monkeypatch.setenv(report.LOG_VARIABLE, str(self._log))
        self.output = ""

    def config(self, pod: str, hub: Hub | None = None, cache: dict[str, Any] | None = None, **item: Any) -> Path:
        """`fetch.json` of a pod. Without a hub, one that nobody can reach."""
        whole = {
            "hubEndpoint": hub.url if hub else "http://127.0.0.1:9",
            "cache": {"path": str(self.cache), **(cache or {})},
        }
        items = [{"name": "model", "destination": str(self.model(pod)), **item}]
        path = self._folder / f"{pod}.json"
        path.write_text(json.dumps({"items": items, **whole}))
        return path

    def fetch(self, pod: str, hub: Hub | None = None, **item: Any) -> int:
        backoff = Backoff(attempts=2, first=0.001, rest=0.001)
        code = main(["--config", str(self.config(pod, hub, **item))], backoff)
        captured = self._output.readouterr()
        self.output = captured.out + captured.err
        return code

    def model(self, pod: str) -> Path:
        return self._folder / pod / "model"

    @property
    def said(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self._log.read_text())
        return body

    @property
    def item(self) -> dict[str, Any]:
        item: dict[str, Any] = self.said["result"]["items"]["model"]
        return item

    def blob(self, data: bytes) -> Path:
        return self.cache / "blobs" / sha(data)

    def spoil(self, data: bytes) -> None:
        """One byte of a blob turns, as on a bad disk."""
        blob = self.blob(data)
        blob.chmod(0o644)
        blob.write_bytes(b"\1" + data[1:])

    def all_free_for(self, hours: float, but: bytes = b"") -> None:
        """As if sweeps had found nobody at all blobs since then."""
        for blob in (self.cache / "blobs").iterdir():
            mark = self.cache / "free" / blob.name
            mark.touch()
            if blob.name != sha(but):
                os.utime(mark, (time.time() - hours * 3600,) * 2)

    def nothing_is_left_over(self) -> bool:
        return not [*(self.cache / "partial").iterdir(), *(self.cache / "locks").iterdir()]

    def start(self, config: Path, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """A pod as a process of its own, with its log as stdout."""
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "pilotboat_fetch", "--config", str(config), *arguments],
            env=os.environ | {"PYTHONPATH": f"{ROOT}/operator:{ROOT}/images/fetch"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Node:
    return Node(tmp_path, monkeypatch, capfd)


def said_by(process: subprocess.Popen[str], words: str) -> str:
    """The line of its log with these words; waits for it."""
    assert process.stdout
    seen = []
    for line in process.stdout:
        if words in line:
            return line
        seen.append(line)
    raise AssertionError(f"it never said {words!r}: {seen}")


def downloads(hub: Hub, since: int = 0) -> list[str]:
    return [seen.path.rpartition("/")[2] for seen in hub.seen[since:] if "/resolve/" in seen.path]


# --- what a second pod asks for


def test_who_names_the_commit_asks_nobody(node: Node, hub: Hub) -> None:
    assert node.fetch("first", hub, huggingFace={"repo": REPO}) == 0
    item, before = node.item, len(hub.seen)
    assert (item["bytes"], item["cached"]) == (len(WEIGHTS) + len(CONFIG), 0)
    assert node.said["message"] == "model: 2 files, 0.0 MiB of 2.9 MiB from the cache"
    assert ", 0 of them from the cache" in node.output
    assert node.fetch("second", huggingFace={"repo": REPO, "revision": item["revision"]}) == 0
    assert len(hub.seen) == before
    assert node.item["cached"] == item["bytes"]
    assert node.item["digests"] == item["digests"]
    assert node.said["message"] == "model: 2 files, 2.9 MiB of 2.9 MiB from the cache"
    assert f"ready: 2 files, 2.9 MiB, {item['revision']}, 2 of them from the cache" in node.output
    for name, data in FILES.items():
        assert (node.model("second") / name).read_bytes() == data
        assert (node.model("second") / name).readlink() == node.blob(data)
    assert node.nothing_is_left_over()


def test_nor_is_the_hubs_library_loaded(node: Node, hub: Hub) -> None:
    assert node.fetch("first", hub, huggingFace={"repo": REPO}) == 0
    config = node.config("second", huggingFace={"repo": REPO, "revision": node.item["revision"]})
    code = (
        "import sys; from pilotboat_fetch.cli import main; code = main(['--config', sys.argv[1]]); "
        "assert 'huggingface_hub' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(config)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}/operator:{ROOT}/images/fetch"},
        check=False,
    )
    assert done.returncode == 0


def test_a_branch_is_asked_for_its_commit_and_its_files_are_there(node: Node, hub: Hub, root: Path) -> None:
    assert node.fetch("first", hub, huggingFace={"repo": REPO}) == 0
    before = len(hub.seen)
    assert node.fetch("second", hub, huggingFace={"repo": REPO}) == 0
    assert len(hub.seen) > before
    assert downloads(hub, before) == []
    (root / REPO / "config.json").write_bytes(b'{"moved": "on"}')
    assert node.fetch("third", hub, huggingFace={"repo": REPO}) == 0
    assert downloads(hub, before) == ["config.json"], "a file that is the same at another commit is not fetched again"
    assert node.item["cached"] == len(WEIGHTS)


def test_a_small_file_of_another_repository_is_known_by_its_git_blob(node: Node, hub: Hub) -> None:
    assert node.fetch("first", hub, huggingFace={"repo": REPO}) == 0
    before = len(hub.seen)
    assert node.fetch("second", hub, huggingFace={"repo": "google/other"}) == 0
    assert downloads(hub, before) == ["model.safetensors"]


def test_a_git_blob_that_leads_to_another_file_is_not_believed(node: Node, hub: Hub) -> None:
    assert node.fetch("first", hub, huggingFace={"repo": REPO}) == 0
    (alias,) = [path for path in (node.cache / "git").iterdir() if path.read_text() == sha(CONFIG)]
    alias.unlink()
    alias.write_text(sha(WEIGHTS))
    before = len(hub.seen)
    assert node.fetch("second", hub, huggingFace={"repo": REPO}) == 0
    assert downloads(hub, before) == ["config.json"]
    assert (node.model("second") / "config.json").read_bytes() == CONFIG
    assert node.blob(WEIGHTS).exists()
    assert alias.read_text() == sha(CONFIG)


def test_a_file_known_by_its_digest_is_asked_for_once(node: Node) -> None:
    with Scripted(lambda asked: Answer(body=WEIGHTS)) as server:
        spec = {"urls": [f"{server.url}/m.gguf"], "sha256": sha(WEIGHTS)}
        for pod, cached in (("first", 0), ("second", len(WEIGHTS))):
            assert node.fetch(pod, http=spec) == 0
            assert (node.model(pod) / "m.gguf").read_bytes() == WEIGHTS
            assert node.item["cached"] == cached
        assert len(server.seen) == 1


def test_what_is_local_is_not_kept_a_second_time(node: Node, root: Path) -> None:
    assert node.fetch("pod", local={"path": str(root / REPO)}) == 0
    assert "cached" not in node.item
    assert "cache" not in node.said["message"]
    assert list((node.cache / "blobs").iterdir()) == []


def test_a_container_that_is_started_again_verifies_and_asks_nobody(node: Node, hub: Hub) -> None:
    assert node.fetch("pod", hub, huggingFace={"repo": REPO}) == 0
    item, before = node.item, len(hub.seen)
    node.all_free_for(hours=3)
    assert node.fetch("pod", huggingFace={"repo": REPO}) == 0
    assert node.item == {**item, "cached": item["bytes"]}
    assert len(hub.seen) == before
    assert list((node.cache / "free").iterdir()) == [], "what it uses is not free"


# --- what is bad, and what has gone


@pytest.mark.parametrize("again", ["first", "second"])
def test_a_bad_file_is_fetched_again_alone(node: Node, hub: Hub, again: str) -> None:
    """By the pod that has it, and by another."""
    assert node.fetch("first", hub, huggingFace={"repo": REPO}) == 0
    revision, before = node.item["revision"], len(hub.seen)
    node.spoil(WEIGHTS)
    assert node.fetch(again, hub, huggingFace={"repo": REPO, "revision": revision}) == 0
    assert downloads(hub, before) == ["model.safetensors"]
    assert node.blob(WEIGHTS).read_bytes() == WEIGHTS
    assert (node.model(again) / "model.safetensors").read_bytes() == WEIGHTS
    assert node.item["cached"] == len(CONFIG)
    assert "model.safetensors is not as it was in the cache" in node.output


def test_a_bad_file_that_cannot_be_had_again_is_not_handed_out(node: Node, hub: Hub) -> None:
    assert node.fetch("first", hub, huggingFace={"repo": REPO}) == 0
    node.spoil(CONFIG)
    hub.faults.append(Fault(r"resolve.*json", status=503, times=9))
    assert node.fetch("second", hub, huggingFace={"repo": REPO, "revision": node.item["revision"]}) == 1
    assert node.said["reason"] == "DownloadFailed"
    assert not (node.model("second") / "config.json").exists()
    assert not node.blob(CONFIG).exists()
    assert node.nothing_is_left_over()


def test_a_file_that_has_gone_leaves_a_link_to_nothing_which_is_no_file(node: Node, hub: Hub) -> None:
    assert node.fetch("pod", hub, huggingFace={"repo": REPO}) == 0
    before = len(hub.seen)
    node.blob(WEIGHTS).unlink()
    assert node.fetch("pod", hub, huggingFace={"repo": REPO}) == 0
    assert downloads(hub, before) == ["model.safetensors"]
    assert (node.model("pod") / "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_that_arrives_wrong_does_not_come_into_the_cache(node: Node, hub: Hub) -> None:
    hub.faults.append(Fault(r"resolve.*safetensors", flip=True))
    assert node.fetch("pod", hub, huggingFace={"repo": REPO}) == 64
    assert node.said["reason"] == "ChecksumMismatch"
    assert [path.name for path in (node.cache / "blobs").iterdir()] == [sha(CONFIG)]
    assert node.nothing_is_left_over()


def test_pins_hold_for_what_the_cache_has(node: Node, hub: Hub) -> None:
    assert node.fetch("first", hub, huggingFace={"repo": REPO}) == 0
    spec = {"repo": REPO, "revision": node.item["revision"]}
    right = {name: sha(data) for name, data in FILES.items()}
    assert node.fetch("second", huggingFace=spec, digests=right, filesSha256=files_digest(right)) == 0
    assert node.fetch("third", huggingFace=spec, digests={"config.json": "0" * 64}) == 64
    assert node.said["reason"] == "ChecksumMismatch"
    assert node.fetch("fourth", huggingFace=spec, filesSha256="0" * 64) == 64
    assert node.said["reason"] == "ChecksumMismatch"
    assert node.fetch("fifth", huggingFace=spec, digests={"more.json": "0" * 64}) == 64
    assert node.said["reason"] == "SourceNotFound"


# --- two at once


def test_of_two_pods_at_once_one_fetches_and_the_other_waits(node: Node, hub: Hub) -> None:
    """In a cache that could not take it twice."""
    item = {"huggingFace": {"repo": REPO}, "cache": {"size": len(WEIGHTS) + len(CONFIG)}}
    hub.faults.append(Fault(r"resolve.*safetensors", cut=1000, hang=True))
    with node.start(node.config("first", hub, **item)) as first:
        assert hub.hanging.wait(60)
        with node.start(node.config("second", hub, **item)) as second:
            said_by(second, "another pod fetches model.safetensors into the cache")
            hub.release.set()
            assert (first.wait(60), second.wait(60)) == (0, 0)
            said_by(second, "2 of them from the cache")
    asked = [seen.headers.get("range") for seen in hub.seen if "/resolve/" in seen.path]
    assert asked == [None, None, "bytes=1000-"], "each file once, of which one broke off"
    assert node.nothing_is_left_over()


def test_who_waits_for_another_pod_ends_at_once_when_told(node: Node, hub: Hub) -> None:
    hub.faults.append(Fault(r"resolve.*safetensors", cut=1000, hang=True))
    with node.start(node.config("first", hub, huggingFace={"repo": REPO})) as first:
        assert hub.hanging.wait(60)
        with node.start(node.config("second", hub, huggingFace={"repo": REPO})) as second:
            said_by(second, "another pod fetches")
            second.send_signal(signal.SIGTERM)
            assert second.wait(60) == 143
        hub.release.set()
        assert first.wait(60) == 0


def test_what_a_killed_pod_began_is_begun_anew_and_nobody_waits_for_it(node: Node, hub: Hub) -> None:
    hub.faults.append(Fault(r"resolve.*safetensors", cut=1000, hang=True))
    config = node.config("first", hub, huggingFace={"repo": REPO})
    with node.start(config) as process:
        assert hub.hanging.wait(60)
        process.kill()
    hub.release.set()
    assert all(half.stat().st_size <= 1000 for half in (node.cache / "partial").iterdir())
    assert [path.name for path in (node.cache / "blobs").iterdir()] == [sha(CONFIG)]
    assert node.fetch("second", hub, huggingFace={"repo": REPO}) == 0
    assert node.blob(WEIGHTS).read_bytes() == WEIGHTS
    assert node.nothing_is_left_over()


# --- room


def gguf(node: Node, pod: str, data: bytes, most: float) -> int:
    """A pod with a model of one file, of a server that says how long it is, in a cache of so many MiB."""
    with Scripted(lambda asked: Answer(body=data)) as server:
        spec = {"urls": [f"{server.url}/m.gguf"], "sha256": sha(data)}
        return node.fetch(pod, http=spec, cache={"size": int(most * MIB)})


ONE, TWO, THREE = (bytes([number]) * MIB for number in (1, 2, 3))


def test_a_full_cache_gives_up_what_was_used_last_longest_ago(node: Node) -> None:
    assert (gguf(node, "one", ONE, 2), gguf(node, "two", TWO, 2)) == (0, 0)
    node.all_free_for(hours=2, but=TWO)
    assert gguf(node, "three", THREE, 2) == 0
    assert [node.blob(data).exists() for data in (ONE, TWO, THREE)] == [False, True, True]


def test_and_never_what_a_server_has_nor_what_was_just_used(node: Node) -> None:
    assert (gguf(node, "one", ONE, 2), gguf(node, "two", TWO, 2)) == (0, 0)
    server = os.open(node.blob(ONE), os.O_RDONLY)
    fcntl.flock(server, fcntl.LOCK_SH)
    assert gguf(node, "three", THREE, 2) == 1, "the second is free for no hour"
    assert node.said["reason"] == "DiskFull"
    assert node.said["message"].startswith(f"model: 1.0 MiB to fetch, and the cache {node.cache} (at most 2.0 MiB")
    assert node.said["message"].endswith("2.0 MiB stay: pods use them, or did so less than an hour ago")
    node.all_free_for(hours=2)
    os.utime(node.cache / "free" / sha(ONE), (0, 0))
    assert gguf(node, "three", THREE, 2) == 0
    assert [node.blob(data).exists() for data in (ONE, TWO, THREE)] == [True, False, True]
    os.close(server)


def test_a_pod_that_is_started_again_keeps_what_it_has_and_what_it_still_wants(node: Node, hub: Hub) -> None:
    """Room is made for one of its files while the cache has the other, which nobody else uses."""
    assert node.fetch("first", hub, huggingFace={"repo": REPO}) == 0
    node.blob(WEIGHTS).unlink()
    node.all_free_for(hours=9)
    spec = {"repo": REPO, "revision": node.item["revision"]}
    assert node.fetch("second", hub, huggingFace=spec, cache={"size": len(WEIGHTS)}) == 1
    assert node.said["reason"] == "DiskFull"
    assert node.blob(CONFIG).exists()


def test_what_does_not_fit_is_told_before_a_byte_is_fetched_and_nothing_is_given_up_for_it(
    node: Node, hub: Hub
) -> None:
    assert gguf(node, "one", ONE, 2) == 0
    node.all_free_for(hours=9)
    assert node.fetch("pod", hub, huggingFace={"repo": REPO}, cache={"size": 2 * MIB}) == 1
    assert node.said["reason"] == "DiskFull"
    assert downloads(hub) == []
    assert node.blob(ONE).exists()
    assert node.nothing_is_left_over()


def test_a_file_on_its_way_is_counted_whole_though_only_its_server_knew_its_size(node: Node, tmp_path: Path) -> None:
    """Else two of them take more than the cache may have."""
    (tmp_path / "web" / "a" / "b").mkdir(parents=True)
    (tmp_path / "web" / "a" / "b" / "m.gguf").write_bytes(ONE)
    with Hub(tmp_path / "web") as web:
        web.faults.append(Fault("m.gguf", cut=1000, hang=True))
        spec = {"urls": [f"{web.url}/a/b/resolve/main/m.gguf"], "sha256": sha(ONE)}
        with node.start(node.config("first", http=spec, cache={"size": 2 * MIB})) as first:
            assert web.hanging.wait(60)
            assert gguf(node, "second", TWO, 1.5) == 1
            assert node.said["reason"] == "DiskFull"
            web.release.set()
            assert first.wait(60) == 0
    assert node.nothing_is_left_over()


class Endless(BaseHTTPRequestHandler):
    """Says no length, and goes on for far longer than any cache here is large."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            for _ in range(200):
                self.wfile.write(ONE)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_an_answer_without_a_length_does_not_grow_beyond_the_cache(node: Node) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    spec = {"urls": [f"http://127.0.0.1:{server.server_address[1]}/m.gguf"], "sha256": "0" * 64}
    assert node.fetch("pod", http=spec, cache={"size": 40 * MIB}) == 1
    server.shutdown()
    server.server_close()
    assert node.said["reason"] == "DiskFull"
    assert node.nothing_is_left_over()


def test_what_others_left_in_the_cache_holds_nobody_up(node: Node, hub: Hub) -> None:
    """NFS keeps a file that was removed while it was open under a name of its own."""
    assert node.fetch("first", hub, huggingFace={"repo": REPO}) == 0
    strange = node.cache / "partial" / ".nfs00000000012c5b8a00000003"
    strange.touch()
    (node.cache / "index" / ("a" * 64)).write_text('{"version": 1, "files": [{"path": "x", "size": Infinity}]}')
    (node.cache / "index" / ("b" * 64)).write_text("[" * 100_000)
    assert node.fetch("second", hub, huggingFace={"repo": "google/other"}) == 0
    assert strange.exists()


# --- a cache that cannot be used


@pytest.mark.parametrize("made", [True, False])
def test_a_cache_that_cannot_be_written_is_one_clear_error(node: Node, hub: Hub, made: bool) -> None:
    if made:
        assert node.fetch("first", hub, huggingFace={"repo": REPO}) == 0
    folders = [node.cache, *(path for path in node.cache.iterdir() if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    mortal = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    with node.start(node.config("second", hub, huggingFace={"repo": REPO}), prefix=mortal) as process:
        assert process.wait(60) == 1
    for folder in folders:
        folder.chmod(0o755)
    assert node.said["reason"] == "DownloadFailed"
    assert node.said["message"].startswith(f"cannot use the cache {node.cache}: Permission denied ({node.cache}/")
    assert "the group 65532 must own it" in node.said["message"]


def test_a_cache_that_is_not_there_is_one_clear_error(node: Node, hub: Hub) -> None:
    node.cache.rmdir()
    assert node.fetch("pod", hub, huggingFace={"repo": REPO}) == 1
    assert node.said["message"].startswith(f"cannot use the cache {node.cache}: No such file or directory")


# --- held


def test_what_a_pod_holds_stays_until_it_is_stopped(node: Node, hub: Hub) -> None:
    config = node.config("seed", hub, huggingFace={"repo": REPO})
    assert main(["--config", str(config)]) == 0
    with node.start(config, "--hold") as seed:
        assert said_by(seed, "holds") == "fetch: holds 2 files, 2.9 MiB, until it is stopped\n"
        node.all_free_for(hours=9)
        assert gguf(node, "pod", ONE, 3) == 1
        assert node.said["reason"] == "DiskFull"
        seed.send_signal(signal.SIGTERM)
        assert seed.wait(60) == 0
    node.all_free_for(hours=9)
    assert gguf(node, "pod", ONE, 3) == 0
    assert not node.blob(WEIGHTS).exists()


def test_there_is_nothing_to_hold_of_what_was_not_fetched_or_has_gone(node: Node, hub: Hub) -> None:
    config = node.config("seed", hub, huggingFace={"repo": REPO})
    assert main(["--config", str(config), "--hold"]) == 1
    assert node.said["message"] == f"{node.model('seed')} is not ready: nothing was fetched into it"
    assert main(["--config", str(config)]) == 0
    node.blob(CONFIG).unlink()
    assert main(["--config", str(config), "--hold"]) == 1
    assert "config.json leads to" in node.said["message"]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"cache": None}))
    assert main(["--config", str(config), "--hold"]) == 64
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ()), "it ends as any other program"


def test_a_seed_leaves_out_what_no_cache_keeps(node: Node, hub: Hub, tmp_path: Path) -> None:
    """An adapter lies on a claim, which the node of a seed may not be able to mount."""
    config = node.config("seed", hub, huggingFace={"repo": REPO})
    adapter = {"name": "adapter", "destination": str(tmp_path / "adapter"), "local": {"path": "/nowhere"}}
    whole = json.loads(config.read_text())
    config.write_text(json.dumps(whole | {"items": [*whole["items"], adapter]}))
    assert main(["--config", str(config)]) == 64, "the claim is not there"
    assert main(["--config", str(config), "--only-cached"]) == 0
    assert node.item["cached"] == len(WEIGHTS) + len(CONFIG), "the model was fetched before the adapter failed"
    with node.start(config, "--hold") as seed:
        assert said_by(seed, "holds") == "fetch: holds 2 files, 2.9 MiB, until it is stopped\n"
        seed.send_signal(signal.SIGTERM)
        assert seed.wait(60) == 0
    config.write_text(json.dumps(whole | {"items": [adapter]}))
    assert main(["--config", str(config), "--only-cached"]) == 64
    assert "comes over a network" in node.said["message"]
