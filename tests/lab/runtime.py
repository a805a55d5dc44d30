"""containerd: started on a root of its own, fed with images, given another store's images, stopped.

An image's blobs are hard-linked into the content store and then announced to containerd, which finds them there and
copies nothing. So an import costs what unpacking costs, and where the layers are known already, a second.
It must not know nodes or Kubernetes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab import oci, procs
from tools.steps import StepFailed, run, tail

CONTENT = "io.containerd.content.v1.content/blobs/sha256"
SNAPSHOTS = Path("io.containerd.snapshotter.v1.overlayfs/snapshots")
NAMESPACE = "k8s.io"
KEPT = "localhost/lab-kept:"
"""How names begin that only keep what nodes still point at."""
STAGING = ".staging"


@dataclass(frozen=True)
class Containerd:
    """One containerd, by where it keeps things."""

    name: str
    root: Path
    state: Path
    socket: Path
    log: Path
    processes: procs.Processes

    def start(self, config: str, *, netns: str | None = None) -> None:
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        path = self.socket.with_suffix(".toml")
        path.write_text(config)
        self.processes.spawn(self.name, ["containerd", "--config", path], log=self.log, netns=netns)
        procs.wait_until(self._answers, what=f"containerd's answer ({self.log})", timeout=30)

    def _answers(self) -> bool:
        if not self.processes.running(self.name):
            raise StepFailed(f"containerd ended while starting. The end of {self.log}:\n{tail(self.log)}")
        return self.socket.exists() and self.ctr("version").returncode == 0

    def stop(self) -> None:
        self.processes.stop(self.name)

    def ctr(self, *arguments: str | Path, stdin: Path = Path("/dev/null")) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", str(self.socket), "--namespace", NAMESPACE, *map(str, arguments)]
        with stdin.open("rb") as file:
            return subprocess.run(command, capture_output=True, text=True, check=False, stdin=file)

    def has_blob(self, blob: oci.Blob) -> bool:
        return (self.root / CONTENT / blob.hex).exists()

    def images(self) -> dict[str, str]:
        """Name to digest of what is there."""
        lines = self.ctr("images", "list").stdout.splitlines()[1:]
        return {fields[0]: fields[2] for line in lines if len(fields := line.split()) > 2}

    def keep(self, names: Iterable[str]) -> None:
        """Gives these images another name each: their layers stay when others come under the names they have."""
        have = self.images()
        for name in sorted(have.keys() & set(names)):
            self._demand("images", "tag", "--force", name, KEPT + have[name].removeprefix("sha256:"))

    def release(self) -> None:
        """Takes those names away again."""
        if kept := [name for name in self.images() if name.startswith(KEPT)]:
            self._demand("images", "remove", *kept)

    def _demand(self, *arguments: str) -> None:
        done = self.ctr(*arguments)
        if done.returncode:
            raise StepFailed(f"ctr {' '.join(arguments)}: {done.stderr.strip()}")

    def load(self, images: Mapping[str, oci.Image]) -> None:
        """Imports images under these full names. The blobs must lie on the same disk as the store, else are copied.

        Where a container ends meanwhile, its node collects garbage, and what was announced is garbage until it is
        imported: then once more."""
        try:
            self._announce_and_import(images)
        except StepFailed:
            self._announce_and_import(images)

    def _announce_and_import(self, images: Mapping[str, oci.Image]) -> None:
        for image in images.values():
            for blob in image.blobs:
                self._announce(blob, image.path(blob))
        self._import(images)

    def _announce(self, blob: oci.Blob, source: Path) -> None:
        target = self.root / CONTENT / blob.hex
        if not target.exists():
            link_or_copy(source, target)
        told = self._ingest(blob, target)
        if told.returncode != 0:
            raise StepFailed(f"containerd does not take the blob {blob.digest}: {told.stderr.strip()}")

    def _ingest(self, blob: oci.Blob, content: Path) -> subprocess.CompletedProcess[str]:
        """Sends nothing: containerd sees that the blob is there whole, and only notes that this namespace has it."""
        expected = ["--expected-digest", blob.digest, "--expected-size", str(blob.size)]
        return self.ctr("content", "ingest", *expected, f"lab-{blob.hex}", stdin=content)

    def _import(self, images: Mapping[str, oci.Image]) -> None:
        manifests = [
            (f"blobs/sha256/{blob.hex}", image.path(blob).read_bytes(), 0o644)
            for image in images.values()
            for blob in image.blobs
            if blob.digest == image.manifest["digest"]
        ]
        index = [("oci-layout", oci.LAYOUT.encode(), 0o644), ("index.json", oci.index(images).encode(), 0o644)]
        tar = self.root / f"{STAGING}.tar"
        tar.write_bytes(oci.files_of([*index, *dict.fromkeys(manifests)]))
        try:
            base: list[str | Path] = ["ctr", "--address", self.socket, "--namespace", NAMESPACE]
            run([*base, "images", "import", tar], log=self.log.with_name(f"{self.log.stem}-import.log"))
        finally:
            tar.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Appears whole or not at all: a half-written blob would be taken for the real one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f"{target.name}{STAGING}")
    staged.unlink(missing_ok=True)
    try:
        os.link(source, staged)
    except OSError:
        shutil.copyfile(source, staged)
    staged.rename(target)


def clone(source: Path, target: Path) -> None:
    """A store with the same images that shares every byte with the first. Neither containerd may run meanwhile.

    A layer is never changed once it is written, so the new store points at the first one's: tens of thousands of files
    cost nothing to give and nothing to take back. Blobs are hard-linked. The databases are changed, so they are copied.
    The first store must outlive the second.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for part in source.iterdir():
        if part.name == SNAPSHOTS.parent.name:
            _point_at_layers(source, target)
        else:
            subprocess.run(["cp", "-al", part, target], check=True)
    for database in target.glob("*/*.db"):
        database.unlink()
    for database in source.glob("*/*.db"):
        shutil.copyfile(database, target / database.relative_to(source))


def _point_at_layers(source: Path, target: Path) -> None:
    (target / SNAPSHOTS).mkdir(parents=True)
    for layer in (source / SNAPSHOTS).iterdir():
        (target / SNAPSHOTS / layer.name).symlink_to(layer.resolve())


def shims(socket: Path) -> list[procs.Identity]:
    """The containers' keepers that belong to this containerd. They outlive it by design."""
    found = []
    for pid in procs.all_pids():
        words = procs.cmdline(pid)
        if words and "containerd-shim" in words[0] and str(socket) in words and (who := procs.identify(pid)):
            found.append(who)
    return found


def shim_sockets(state: Path) -> list[Path]:
    """Shims listen outside our folders; a shim that is killed leaves its socket behind."""
    addresses = state.glob("io.containerd.runtime.v2.task/*/*/address")
    return [Path(path.read_text().removeprefix("unix://")) for path in addresses]
