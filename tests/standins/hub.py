#!/usr/bin/env python3
"""A stand-in for a Hugging Face hub: a folder of repositories under the hub's HTTP API, without Xet.

Only the standard library, in one file, so that a ConfigMap can carry it into a pod:
`python3 hub.py --root DIR --port N`.

    DIR/<org>/<name>/...              a model
    DIR/<org>/<name>@<rev>/...        the same at another branch or tag
    DIR/datasets/<org>/<name>/...     a data set
    --repo org/name=FOLDER            a repository that lies elsewhere

A commit id is a digest of the content: it changes when a file does. Faults are made on demand with `Hub.faults` or
`POST /-/faults {"path": regex, "status": 429, "times": 2, "headers": {"Retry-After": "0"}, "cut": bytes}`.

Owns: what huggingface_hub asks of a hub. Must not know: Pilotboat.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LFS_FROM = 10 << 20
LFS_TYPES = (".safetensors", ".gguf", ".bin", ".pt", ".parquet", ".model", ".gz")
BLOCK = 1 << 20


@dataclass(frozen=True)
class File:
    """One file of a repository with both of its names."""

    path: str
    place: Path
    size: int
    sha256: str
    blob: str

    @property
    def lfs(self) -> bool:
        """Whether the hub keeps it as a large file, known by its SHA-256."""
        return self.size >= LFS_FROM or self.path.endswith(LFS_TYPES)

    @property
    def etag(self) -> str:
        """What the hub takes for an ETag."""
        return self.sha256 if self.lfs else self.blob

    def entry(self) -> dict[str, object]:
        """As /tree shows it."""
        shown: dict[str, object] = {"type": "file", "oid": self.blob, "size": self.size, "path": self.path}
        if self.lfs:
            shown["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 134}
        return shown


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit."""

    repo: str
    commit: str
    files: tuple[File, ...]


@dataclass
class Fault:
    """What the next requests whose path matches get; `cut`: the body breaks off after so many bytes."""

    path: str
    status: int = 0
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    flip: bool = False
    """The first byte of the body is another one: a transfer that went wrong unnoticed."""
    hang: bool = False
    """Instead of breaking off, wait until `Hub.release` is set."""


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]


class Refusal(Exception):
    """An answer that is no file: status, the hub's error code, words."""

    def __init__(self, status: int, code: str, words: str) -> None:
        super().__init__(words)
        self.status, self.code, self.words = status, code, words


class Repositories:
    """The folder of repositories; digests are computed once a file."""

    def __init__(self, root: Path | None, extra: dict[str, Path] | None = None) -> None:
        self._root, self._extra = root, extra or {}
        self._known: dict[tuple[str, int, int], tuple[str, str]] = {}
        self._lock = threading.Lock()

    def snapshot(self, kind: str, repo: str, revision: str) -> Snapshot:
        """The repository at a branch, a tag or a commit."""
        folders = self._folders(kind, repo)
        if not folders:
            raise Refusal(404, "RepoNotFound", "Repository not found")
        if revision in folders:
            return self._read(repo, folders[revision])
        for folder in folders.values():
            found = self._read(repo, folder)
            if found.commit == revision:
                return found
        raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def pretend(self, path: Path, sha256: str) -> None:
        """Take a digest as given: for a file larger than anyone wants to read."""
        stat = path.stat()
        self._known[str(path), stat.st_size, stat.st_mtime_ns] = (sha256, sha256[:40])

    def _folders(self, kind: str, repo: str) -> dict[str, Path]:
        if kind == "models" and repo in self._extra:
            return {"main": self._extra[repo]}
        if self._root is None:
            return {}
        base = (self._root / "datasets" if kind == "datasets" else self._root) / repo
        found = {"main": base} if base.is_dir() else {}
        if base.parent.is_dir():
            found |= {p.name.split("@")[1]: p for p in base.parent.iterdir() if p.name.startswith(f"{base.name}@")}
        return found

    def _read(self, repo: str, folder: Path) -> Snapshot:
        names = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".."))
        names = [p for p in names if not any(part.startswith("..") for part in p.relative_to(folder).parts)]
        files = tuple(self._file(folder, path) for path in names)
        content = "".join(f"{file.path}\0{file.sha256}\n" for file in files)
        return Snapshot(repo, hashlib.sha1(content.encode()).hexdigest(), files)

    def _file(self, folder: Path, path: Path) -> File:
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        with self._lock:
            if key not in self._known:
                self._known[key] = _digests(path, stat.st_size)
            sha256, blob = self._known[key]
        return File(path.relative_to(folder).as_posix(), path, stat.st_size, sha256, blob)


def _digests(path: Path, size: int) -> tuple[str, str]:
    sha256, blob = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            sha256.update(block)
            blob.update(block)
    return sha256.hexdigest(), blob.hexdigest()


class Hub:
    """The server. `with Hub(root) as hub: ... hub.url`."""

    def __init__(
        self,
        root: Path | None,
        host: str = "127.0.0.1",
        port: int = 0,
        tokens: frozenset[str] = frozenset(),
        gated: frozenset[str] = frozenset(),
        private: frozenset[str] = frozenset(),
        repos: dict[str, Path] | None = None,
        storage: str | None = None,
    ) -> None:
        self.repositories = Repositories(root, repos)
        self.tokens, self.gated, self.private, self.storage = tokens, gated, private, storage
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        self.hanging, self.release = threading.Event(), threading.Event()
        self._server = _Server((host, port), _Handler)
        self._server.hub = self
        self.port = int(self._server.server_address[1])
        self.url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self.port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve_forever(self) -> None:
        """Serve until the process ends."""
        self._server.serve_forever()

    def allow(self, repo: str, authorization: str) -> None:
        """Raise as the hub does where the token is missing or is not enough."""
        token = authorization.removeprefix("Bearer ").strip()
        if token and self.tokens and token not in self.tokens:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        if token:
            if repo in self.gated and token not in self.tokens:
                raise Refusal(403, "GatedRepo", f"Access to model {repo} is restricted")
        elif repo in self.gated:
            raise Refusal(401, "GatedRepo", f"Access to model {repo} is restricted. You must be authenticated")
        elif repo in self.private:
            raise Refusal(401, "RepoNotFound", "Repository not found")

    def fault(self, path: str) -> Fault | None:
        """The fault that this request meets, if any."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None


_API = re.compile(r"^/api/(models|datasets)/(.+?)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?$")
_RESOLVE = re.compile(r"^/(?:(datasets)/)?(.+?)/resolve/([^/]+)/(.+)$")
_STORED = re.compile(r"^/-/stored/([0-9a-f]{64})/(models|datasets)/(.+)/at/([^/]+)/(.+)$")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        if os.environ.get("HUB_LOG"):
            print(self.address_string(), format % args, flush=True)

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        self.server.hub.seen.append(Seen(self.command, path, {k.lower(): v for k, v in self.headers.items()}))
        fault = self.server.hub.fault(path)
        try:
            if fault and fault.status:
                self._json({"error": "made on demand"}, fault.status, fault.headers)
            elif path == "/-/faults" and self.command == "POST":
                self.server.hub.faults.append(Fault(**json.loads(body)))
                self._json({})
            elif path == "/healthz":
                self._json({"status": "ok"})
            else:
                self._route(path, body, fault)
        except Refusal as refusal:
            headers = {"X-Error-Message": refusal.words}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            self._json({"error": refusal.words}, refusal.status, headers)

    def _route(self, path: str, body: bytes, fault: Fault | None) -> None:
        if match := _STORED.match(path):
            _, kind, repo, revision, name = match.groups()
            self._send(
                self._find(self.server.hub.repositories.snapshot(kind, repo, revision), unquote(name)), {}, fault
            )
        elif match := _RESOLVE.match(path):
            self._resolve(match[1] or "models", match[2], unquote(match[3]), unquote(match[4]), fault)
        elif match := _API.match(path):
            self._api(match, body)
        else:
            raise Refusal(404, "", "no such address")

    def _api(self, match: re.Match[str], body: bytes) -> None:
        kind, repo, what, revision, below = match.groups()
        if what is None or what == "revision":
            if repo in self.server.hub.private:  # a gated repository still shows its information and its files' names
                self._allow(repo)
            snapshot = self.server.hub.repositories.snapshot(kind, repo, unquote(revision or "main"))
            return self._json(_info(snapshot, repo in self.server.hub.gated))
        if repo in self.server.hub.private:
            self._allow(repo)
        snapshot = self.server.hub.repositories.snapshot(kind, repo, unquote(revision))
        if what == "tree":
            query = parse_qs(urlsplit(self.path).query)
            recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            return self._json(_tree(snapshot, unquote(below or ""), recursive))
        names = set(parse_qs(body.decode()).get("paths", []))
        return self._json([file.entry() for file in snapshot.files if file.path in names])

    def _resolve(self, kind: str, repo: str, revision: str, name: str, fault: Fault | None) -> None:
        self._allow(repo)
        snapshot = self.server.hub.repositories.snapshot(kind, repo, revision)
        file = self._find(snapshot, name)
        headers = {"X-Repo-Commit": snapshot.commit, "Accept-Ranges": "bytes"}
        if file.lfs:
            headers |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.sha256}"'}
        if file.lfs and self.server.hub.storage:
            stored = f"/-/stored/{file.sha256}/{kind}/{repo}/at/{snapshot.commit}/{name}?signature=s3cret"
            return self._empty(302, headers | {"Location": self.server.hub.storage + stored})
        return self._send(file, headers, fault)

    def _allow(self, repo: str) -> None:
        self.server.hub.allow(repo, self.headers.get("authorization", ""))

    def _find(self, snapshot: Snapshot, name: str) -> File:
        for file in snapshot.files:
            if file.path == name:
                return file
        raise Refusal(404, "EntryNotFound", "Entry not found")

    def _send(self, file: File, headers: dict[str, str], fault: Fault | None) -> None:
        first, last = self._range(file)
        partial = (first, last) != (0, file.size - 1)
        headers |= {"ETag": f'"{file.etag}"', "Content-Type": "application/octet-stream"}
        if partial:
            headers["Content-Range"] = f"bytes {first}-{last}/{file.size}"
        self.send_response(206 if partial else 200)
        for name, value in (headers | {"Content-Length": str(last - first + 1)}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        end = last + 1 if fault is None or fault.cut is None else min(last + 1, first + fault.cut)
        self._copy(file, first, end, flip=bool(fault and fault.flip))
        if end <= last:
            self.close_connection = True
        if fault and fault.hang:
            self.wfile.flush()
            self.server.hub.hanging.set()
            self.server.hub.release.wait(60)

    def _copy(self, file: File, first: int, end: int, flip: bool) -> None:
        with file.place.open("rb") as source:
            source.seek(first)
            while first < end and (block := source.read(min(BLOCK, end - first))):
                self.wfile.write(bytes([block[0] ^ 1]) + block[1:] if flip else block)
                first, flip = first + len(block), False

    def _range(self, file: File) -> tuple[int, int]:
        whole = (0, file.size - 1)
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if not match or self.headers.get("if-range", f'"{file.etag}"') != f'"{file.etag}"':
            return whole
        first, last = int(match[1]), min(int(match[2] or file.size), file.size - 1)
        if first > last:
            raise Refusal(416, "", "range not satisfiable")
        return first, last

    def _empty(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": "0"}).items():
            self.send_header(name, value)
        self.end_headers()

    def _json(self, body: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        sent = {"Content-Type": "application/json", "Content-Length": str(len(text))} | (headers or {})
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)


def _info(snapshot: Snapshot, gated: bool) -> dict[str, object]:
    siblings = [{"rfilename": file.path, "size": file.size, "blobId": file.blob} for file in snapshot.files]
    return {
        "_id": snapshot.commit[:24],
        "id": snapshot.repo,
        "sha": snapshot.commit,
        "private": False,
        "gated": "manual" if gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "lastModified": "2026-01-01T00:00:00.000Z",
        "createdAt": "2026-01-01T00:00:00.000Z",
        "siblings": siblings,
    }


def _tree(snapshot: Snapshot, below: str, recursive: bool) -> list[dict[str, object]]:
    prefix = f"{below.rstrip('/')}/" if below else ""
    files = [file for file in snapshot.files if file.path.startswith(prefix)]
    if below and not files:
        raise Refusal(404, "EntryNotFound", f"{below} does not exist on {snapshot.commit}")
    folders = {
        file.path[: len(prefix) + file.path[len(prefix) :].index("/")]
        for file in files
        if "/" in file.path[len(prefix) :]
    }
    shown: list[dict[str, object]] = [
        {"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}
        for name in sorted(folders)
    ]
    return shown + [file.entry() for file in files if recursive or "/" not in file.path[len(prefix) :]]


def main() -> None:
    """Serve until killed."""
    arguments = argparse.ArgumentParser(description="A stand-in for a Hugging Face hub.")
    arguments.add_argument("--root", type=Path, help="folder of repositories")
    arguments.add_argument("--repo", action="append", default=[], metavar="ORG/NAME=FOLDER")
    arguments.add_argument("--host", default="0.0.0.0")
    arguments.add_argument("--port", type=int, default=8080)
    arguments.add_argument("--gated", action="append", default=[], metavar="ORG/NAME", help="needs HUB_TOKEN")
    options = arguments.parse_args()
    token = os.environ.get("HUB_TOKEN", "")
    hub = Hub(
        options.root,
        options.host,
        options.port,
        tokens=frozenset({token} - {""}),
        gated=frozenset(options.gated),
        repos={name: Path(folder) for name, _, folder in (pair.partition("=") for pair in options.repo)},
    )
    print(f"hub: {hub.url}", flush=True)
    hub.serve_forever()


if __name__ == "__main__":
    main()
