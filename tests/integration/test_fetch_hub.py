"""The init container against a hub and plain HTTP servers, over real sockets and with the real huggingface_hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from pilotboat_fetch import report
from pilotboat_fetch.cli import main
from pilotboat_fetch.retry import Backoff
from standins.hub import Fault, Hub

ROOT = Path(__file__).parents[2]
TOKEN = "hf_test_token_which_must_never_be_printed"
WEIGHTS = bytes(range(256)) * 12_000
REPO = "google/tiny"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Repositories: a model on `main` and on `v1`, a gated one, one of pickles only, and a data set."""
    root = tmp_path / "hub"
    files = {
        f"{REPO}/config.json": b'{"model_type": "llama"}',
        f"{REPO}/model.safetensors": WEIGHTS,
        f"{REPO}/README.md": b"words",
        f"{REPO}/pytorch_model.bin": b"pickle",
        f"{REPO}@v1/config.json": b"{}",
        f"{REPO}@v1/model.safetensors": b"older",
        "meta/gated/model.safetensors": b"gated",
        "me/private/model.safetensors": b"private",
        "old/pickles/pytorch_model.bin": b"pickle",
        "old/pickles/config.json": b"{}",
        "datasets/me/chats/train.jsonl": b'{"text": "x"}\n',
    }
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def hub(root: Path) -> Iterator[Hub]:
    with Hub(
        root, tokens=frozenset({TOKEN}), gated=frozenset({"meta/gated"}), private=frozenset({"me/private"})
    ) as hub:
        yield hub


class Container:
    """Runs of the init container in one volume."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._folder, self._env, self._output = folder, monkeypatch, capfd
        self.model = folder / "models" / "model"
        self._log = folder / "termination-log"
        monkeypatch.setenv(report.LOG_VARIABLE, str(self._log))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        self.output = ""

    def config(self, **item: Any) -> Path:
        whole = {"hubEndpoint": item.pop("hub", None), "patience": item.pop("patience", None)}
        body = {"items": [{"name": "model", "destination": str(self.model), **item}]} | whole
        path = self._folder / "fetch.json"
        path.write_text(json.dumps(body))
        return path

    def run(self, token: str | None = None, attempts: int = 4, **item: Any) -> int:
        if token:
            self._env.setenv("HF_TOKEN", token)
        backoff = Backoff(attempts=attempts, first=0.001, bearable=30, rest=0.001)
        code = main(["--config", str(self.config(**item))], backoff)
        captured = self._output.readouterr()
        self.output = captured.out + captured.err
        return code

    @property
    def said(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self._log.read_text())
        return body

    @property
    def reason(self) -> tuple[str, str]:
        return self.said["reason"], self.said["message"]

    def names(self) -> list[str]:
        return sorted(path.relative_to(self.model).as_posix() for path in self.model.rglob("*"))


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Container:
    return Container(tmp_path, monkeypatch, capfd)


# --- the stand-in is what the library expects of a hub


def test_the_librarys_own_download_works_against_the_standin(hub: Hub, root: Path, tmp_path: Path) -> None:
    for local in (tmp_path / "a", None):
        got = huggingface_hub.snapshot_download(REPO, endpoint=hub.url, local_dir=local, cache_dir=tmp_path / "cache")
        assert (Path(got) / "model.safetensors").read_bytes() == WEIGHTS
        assert (Path(got) / "README.md").exists()
    data = huggingface_hub.hf_hub_download(
        "me/chats", "train.jsonl", repo_type="dataset", endpoint=hub.url, cache_dir=tmp_path / "cache"
    )
    assert Path(data).read_bytes() == b'{"text": "x"}\n'


def test_the_librarys_metadata_and_errors(hub: Hub) -> None:
    api = huggingface_hub.HfApi(endpoint=hub.url, token=False)
    info = api.model_info(REPO, files_metadata=True)
    assert info.sha
    assert info.siblings
    assert "config.json" in [sibling.rfilename for sibling in info.siblings]
    (weights,) = api.get_paths_info(REPO, ["model.safetensors"], revision=info.sha)
    assert weights.lfs.sha256 == sha(WEIGHTS)
    with pytest.raises(RevisionNotFoundError):
        api.model_info(REPO, revision="nothing")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("no/such")
    with pytest.raises(GatedRepoError):
        api.hf_hub_download("meta/gated", "model.safetensors")
    with pytest.raises(HfHubHTTPError) as error:
        huggingface_hub.HfApi(endpoint=hub.url, token="wrong").hf_hub_download("meta/gated", "model.safetensors")
    assert error.value.response.status_code == 401


# --- revisions


def test_a_branch_is_pinned_to_its_commit_and_offline_from_then_on(container: Container, hub: Hub, root: Path) -> None:
    spec = {"repo": REPO}
    assert container.run(huggingFace=spec, hub=hub.url) == 0
    item = container.said["result"]["items"]["model"]
    assert len(item["revision"]) == 40
    assert item["digests"]["model.safetensors"] == sha(WEIGHTS)
    assert container.names() == ["MANIFEST.json", "READY", "config.json", "model.safetensors"]
    assert any(f"/resolve/{item['revision']}/" in seen.path for seen in hub.seen)
    assert not any("/resolve/main/" in seen.path for seen in hub.seen)
    (root / REPO / "model.safetensors").write_bytes(b"main has moved on")
    before = len(hub.seen)
    assert container.run(huggingFace=spec, hub=hub.url) == 0
    assert len(hub.seen) == before, "a ready folder is verified without the hub"
    assert container.said["result"]["items"]["model"] == item
    assert container.run(huggingFace={**spec, "revision": item["revision"]}, hub=hub.url) == 0
    assert len(hub.seen) == before, "nor is it another folder where the operator names the commit that was found"
    assert container.run(huggingFace={**spec, "revision": "v1"}, hub=hub.url) == 0
    assert container.said["result"]["items"]["model"]["revision"] != item["revision"]


def test_a_tag_and_a_commit(container: Container, hub: Hub) -> None:
    assert container.run(huggingFace={"repo": REPO, "revision": "v1"}, hub=hub.url) == 0
    commit = container.said["result"]["items"]["model"]["revision"]
    assert (container.model / "model.safetensors").read_bytes() == b"older"
    assert container.run(huggingFace={"repo": REPO, "revision": commit}, hub=hub.url) == 0
    assert container.said["result"]["items"]["model"]["revision"] == commit


def test_what_does_not_exist_is_named(container: Container, hub: Hub) -> None:
    assert container.run(huggingFace={"repo": REPO, "revision": "v9"}, hub=hub.url) == 64
    assert container.reason == ("SourceNotFound", f"model: {REPO} has no revision v9 at {hub.url}")
    assert container.run(huggingFace={"repo": REPO, "revision": "0" * 40}, hub=hub.url) == 64
    assert container.reason[0] == "SourceNotFound"
    assert container.run(token=TOKEN, huggingFace={"repo": "no/such"}, hub=hub.url) == 64
    assert container.reason == ("SourceNotFound", f"model: {hub.url} has no model no/such")
    assert container.run(huggingFace={"repo": REPO, "files": ["*.gguf"]}, hub=hub.url) == 64
    assert container.reason[0] == "SourceNotFound"


def test_globs_datasets_and_an_endpoint_of_the_items_own(container: Container, hub: Hub) -> None:
    spec = {"repo": REPO, "files": ["config.*"], "endpoint": hub.url}
    assert container.run(huggingFace=spec, hub="http://127.0.0.1:9") == 0
    assert container.names() == ["MANIFEST.json", "READY", "config.json"]
    assert container.run(huggingFace={"repo": "me/chats", "endpoint": hub.url}, repoType="dataset") == 0
    assert container.names() == ["MANIFEST.json", "READY", "train.jsonl"]


def test_pickles_are_refused(container: Container, hub: Hub) -> None:
    assert container.run(huggingFace={"repo": "old/pickles"}, hub=hub.url) == 64
    reason, message = container.reason
    assert reason == "UnsafeFile"
    assert "pytorch_model.bin" in message
    assert not any("/resolve/" in seen.path for seen in hub.seen)


# --- tokens


def test_a_gated_repository_needs_the_right_token(container: Container, hub: Hub) -> None:
    spec = {"repo": "meta/gated"}
    assert container.run(huggingFace=spec, hub=hub.url) == 64
    assert container.reason[0] == "HubAuthFailed"
    assert container.run(token="hf_wrong", huggingFace=spec, hub=hub.url) == 64
    assert container.reason[0] == "HubAuthFailed"
    assert container.run(token=TOKEN, huggingFace=spec, hub=hub.url) == 0
    assert container.said["reason"] == "Fetched"
    everything = container.output + json.dumps(container.said) + (container.model / "MANIFEST.json").read_text()
    assert TOKEN not in everything


def test_the_line_break_at_the_end_of_a_tokens_file_does_no_harm(container: Container, hub: Hub) -> None:
    assert container.run(token=f"{TOKEN}\n", huggingFace={"repo": "meta/gated"}, hub=hub.url) == 0


@pytest.mark.parametrize("wrong", ["\n", " ", "\u00e9", "\u2013"])
def test_a_token_that_is_none_is_told_and_not_shown(container: Container, hub: Hub, wrong: str) -> None:
    spec = {"repo": "meta/gated"}
    assert container.run(token=f"{TOKEN}{wrong}{TOKEN}", huggingFace=spec, hub=hub.url) == 64
    assert container.reason[0] == "HubAuthFailed"
    assert "HF_TOKEN has blanks" in container.reason[1]
    assert TOKEN not in str(container.said) + container.output
    assert hub.seen == []


def test_each_item_has_a_token_of_its_own_and_takes_no_other(
    container: Container, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = {"huggingFace": {"repo": "meta/gated"}, "tokenEnv": "HF_TOKEN_MODEL", "hub": hub.url}
    monkeypatch.setenv("HF_TOKEN_BASE", TOKEN)
    assert container.run(token=TOKEN, **item) == 64
    assert container.reason[0] == "HubAuthFailed"
    assert not any("authorization" in seen.headers for seen in hub.seen)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN_MODEL", TOKEN)
    assert container.run(**item) == 0
    assert container.said["reason"] == "Fetched"


def test_a_private_repository_says_that_a_token_may_help(container: Container, hub: Hub) -> None:
    assert container.run(huggingFace={"repo": "me/private"}, hub=hub.url) == 64
    reason, message = container.reason
    assert reason == "HubAuthFailed"
    assert "it does not exist, or needs a token" in message


def test_a_token_never_follows_a_redirect_to_another_host(container: Container, hub: Hub, root: Path) -> None:
    with Hub(root) as storage:
        hub.storage = storage.url
        storage.faults.append(Fault("/-/stored/", status=403))
        assert container.run(token=TOKEN, huggingFace={"repo": REPO}, hub=hub.url) == 0
        refused, download = storage.seen
    for seen in (refused, download):
        assert "/-/stored/" in seen.path
        assert "authorization" not in seen.headers
    asked = [seen for seen in hub.seen if seen.path.endswith("/model.safetensors")]
    assert [seen.headers["authorization"] for seen in asked] == [f"Bearer {TOKEN}"] * 2, "the hub gave the link anew"
    assert "s3cret" not in container.output + json.dumps(container.said)


# --- faults


def test_429_is_waited_out_as_asked(container: Container, hub: Hub) -> None:
    hub.faults += [
        Fault("^/api/", status=429, times=2, headers={"Retry-After": "0"}),
        Fault("/resolve/", status=429, times=2, headers={"Retry-After": "0"}),
        Fault("/resolve/", status=503),
    ]
    assert container.run(huggingFace={"repo": REPO}, hub=hub.url) == 0


@pytest.mark.parametrize("where", ["^/api/", "/resolve/"])
def test_429_without_end_is_a_reason_that_a_retry_may_mend(container: Container, hub: Hub, where: str) -> None:
    hub.faults.append(Fault(where, status=429, times=99, headers={"Retry-After": "0"}))
    assert container.run(huggingFace={"repo": REPO}, hub=hub.url) == 1
    assert container.reason[0] == "HubRateLimited"
    asked = [seen for seen in hub.seen if seen.path.startswith("/api/" if "api" in where else f"/{REPO}")]
    assert len(asked) == 4


def test_a_wait_longer_than_our_patience_is_told_and_not_waited(container: Container, hub: Hub) -> None:
    hub.faults.append(Fault("^/api/", status=429, times=99, headers={"Retry-After": "3600"}))
    assert container.run(huggingFace={"repo": REPO}, hub=hub.url) == 1
    assert "it asks to wait 3600 s" in container.reason[1]
    assert len(hub.seen) == 1


def test_with_patience_a_rate_limit_is_waited_out_and_told(container: Container, hub: Hub) -> None:
    """As in a Job, where nobody would start it again."""
    hub.faults += [Fault("^/api/", status=429, times=10), Fault("/resolve/", status=503, times=10)]
    assert container.run(attempts=2, huggingFace={"repo": REPO}, hub=hub.url, patience=3600) == 0
    assert f"fetch model: 429 Too Many Requests from {hub.url}; waits" in container.output
    assert "config.json; waits" in container.output


def test_a_hub_that_is_away(container: Container) -> None:
    assert container.run(huggingFace={"repo": REPO}, hub="http://127.0.0.1:9") == 1
    assert container.reason[0] == "HubUnreachable"


def test_a_broken_transfer_goes_on_where_it_broke(container: Container, hub: Hub) -> None:
    third = len(WEIGHTS) // 3
    hub.faults += [Fault(r"resolve.*safetensors", cut=third), Fault(r"resolve.*safetensors", cut=third)]
    assert container.run(huggingFace={"repo": REPO}, hub=hub.url) == 0
    asked = [seen for seen in hub.seen if seen.path.endswith("model.safetensors")]
    assert [seen.headers.get("range") for seen in asked] == [None, f"bytes={third}-", f"bytes={2 * third}-"]
    assert all("if-range" in seen.headers for seen in asked[1:])
    assert (container.model / "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_that_arrives_wrong_is_deleted_and_named(container: Container, hub: Hub) -> None:
    hub.faults.append(Fault(r"resolve.*safetensors", flip=True))
    assert container.run(huggingFace={"repo": REPO}, hub=hub.url) == 64
    reason, message = container.reason
    assert reason == "ChecksumMismatch"
    assert sha(WEIGHTS) in message
    assert sha(b"\1" + WEIGHTS[1:]) in message
    assert container.names() == ["config.json"], "the good file stays for the next run, the bad one does not"
    assert container.run(huggingFace={"repo": REPO}, hub=hub.url) == 0
    assert [seen.path.rpartition("/")[2] for seen in hub.seen if "/resolve/" in seen.path] == [
        "config.json",
        "model.safetensors",
        "model.safetensors",
    ]


def test_a_small_file_is_checked_by_its_git_blob(container: Container, hub: Hub) -> None:
    hub.faults.append(Fault(r"resolve.*config\.json", flip=True))
    assert container.run(huggingFace={"repo": REPO}, hub=hub.url) == 64
    assert container.reason[0] == "ChecksumMismatch"


def test_a_pinned_digest_that_the_hub_contradicts_costs_no_download(container: Container, hub: Hub) -> None:
    pins = {"model.safetensors": "0" * 64}
    assert container.run(huggingFace={"repo": REPO}, hub=hub.url, digests=pins) == 64
    assert container.reason[0] == "ChecksumMismatch"
    assert not any("/resolve/" in seen.path for seen in hub.seen)


def test_only_the_bad_file_is_fetched_again_at_the_same_commit(container: Container, hub: Hub, root: Path) -> None:
    shutil.copytree(root / REPO, root / f"{REPO}@copy")
    assert container.run(huggingFace={"repo": REPO}, hub=hub.url) == 0
    commit = container.said["result"]["items"]["model"]["revision"]
    (root / REPO / "config.json").write_bytes(b"main has moved on")
    (container.model / "config.json").write_bytes(b"rotten")
    before = len(hub.seen)
    assert container.run(huggingFace={"repo": REPO}, hub=hub.url) == 0
    fetched = [seen.path for seen in hub.seen[before:] if "/resolve/" in seen.path]
    assert fetched == [f"/{REPO}/resolve/{commit}/config.json"]
    assert (container.model / "config.json").read_bytes() == b'{"model_type": "llama"}'


def test_a_run_that_was_killed_is_completed(container: Container, hub: Hub, tmp_path: Path) -> None:
    """SIGKILL with one file in place and one half there."""
    config = container.config(huggingFace={"repo": REPO}, hub=hub.url)
    hub.faults.append(Fault(r"resolve.*safetensors", cut=1000, hang=True))
    process = subprocess.Popen(
        [sys.executable, "-m", "pilotboat_fetch", "--config", str(config)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}/operator:{ROOT}/images/fetch"},
    )
    assert hub.hanging.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hub.release.set()
    assert "READY" not in container.names()
    before = len(hub.seen)
    assert container.run(huggingFace={"repo": REPO}, hub=hub.url) == 0
    assert [seen.path.rpartition("/")[2] for seen in hub.seen[before:] if "/resolve/" in seen.path] == [
        "model.safetensors"
    ]
    assert container.names() == ["MANIFEST.json", "READY", "config.json", "model.safetensors"]


def test_a_volume_without_room_is_told_before_a_byte_is_fetched(container: Container, hub: Hub, root: Path) -> None:
    huge = root / REPO / "model.safetensors"
    with huge.open("wb") as file:
        file.truncate(shutil.disk_usage(root).free + (1 << 30))
    hub.repositories.pretend(huge, "a" * 64)
    assert container.run(huggingFace={"repo": REPO}, hub=hub.url) == 1
    assert container.reason[0] == "DiskFull"
    assert not any("safetensors" in seen.path for seen in hub.seen)


# --- plain HTTP


def file_url(hub: Hub, name: str = "model.safetensors") -> str:
    return f"{hub.url}/{REPO}/resolve/main/{name}"


def test_http_with_its_digest(container: Container, hub: Hub) -> None:
    spec = {"urls": [file_url(hub) + "?signature=s3cret"], "sha256": sha(WEIGHTS)}
    assert container.run(token=TOKEN, http=spec) == 0
    assert (container.model / "model.safetensors").read_bytes() == WEIGHTS
    assert all("authorization" not in seen.headers for seen in hub.seen)
    assert "s3cret" not in container.output + (container.model / "MANIFEST.json").read_text()


def test_http_takes_the_next_mirror(container: Container, hub: Hub) -> None:
    urls = ["http://127.0.0.1:9/model.safetensors", file_url(hub, "nothing.safetensors"), file_url(hub)]
    assert container.run(attempts=2, http={"urls": urls, "sha256": sha(WEIGHTS)}) == 0
    assert "trying the next mirror" in container.output


def test_http_with_a_wrong_digest(container: Container, hub: Hub) -> None:
    assert container.run(http={"urls": [file_url(hub)], "sha256": "0" * 64}) == 64
    reason, message = container.reason
    assert reason == "ChecksumMismatch"
    assert "0" * 64 in message
    assert sha(WEIGHTS) in message
    assert container.names() == []


def test_http_that_is_not_there_or_not_allowed(container: Container, hub: Hub) -> None:
    assert container.run(http={"urls": [file_url(hub, "no.gguf")], "sha256": "0" * 64}) == 64
    assert container.reason[0] == "SourceNotFound"
    assert container.run(http={"urls": [file_url(hub, "pytorch_model.bin")], "sha256": "0" * 64}) == 64
    assert container.reason[0] == "UnsafeFile"
    assert container.run(http={"urls": [file_url(hub, "README.md")], "sha256": "0" * 64}, repoType="dataset") == 64
    assert container.reason[0] == "InvalidDataset"
    assert container.run(attempts=2, http={"urls": ["http://127.0.0.1:9/m.gguf"], "sha256": "0" * 64}) == 1
    assert container.reason[0] == "HubUnreachable"


# --- as a container runs it


def test_a_process_without_a_home_and_with_its_report(container: Container, hub: Hub, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pilotboat_fetch", "--config", str(container.config(huggingFace={"repo": REPO}))],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "HF_ENDPOINT": hub.url,
            "PYTHONPATH": f"{ROOT}/operator:{ROOT}/images/fetch",
            "PILOTBOAT_TERMINATION_LOG": str(tmp_path / "log"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "log").read_text())["reason"] == "Fetched"
    assert "fetch model: ready: 2 files" in done.stdout
