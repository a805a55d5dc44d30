"""Images of the lab: imported once into a template store in the cache, from where every node has them for nothing.

    lab.images.load({"localhost/pilotboat-server:dev": Path("…/an-oci-layout")})

There is no registry: what is not loaded cannot be pulled.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import build, configs, nodes, oci, procs, runtime
from lab.configs import PAUSE_IMAGE
from lab.layout import Lab, Node, cache, current
from lab.runtime import Containerd
from tools.steps import StepFailed, step

PROBE_IMAGE = "localhost/lab-probe:1"
REPLACE_ABOVE = 256 << 20  # unpacking more than this on every node takes longer than giving it the template's store


def folder() -> Path:
    return cache() / "images"


def template() -> Containerd:
    base = folder()
    log = cache() / "logs" / "lab-images.log"
    return Containerd("containerd", base / "store", base / "run", base / "containerd.sock", log, _processes())


def _processes() -> procs.Processes:
    return procs.Processes(folder() / "processes")


def full_name(reference: str) -> str:
    """The name by which kubelet will ask for it: with a registry's host, and a tag."""
    name, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        name, tag = reference, "latest"
    first, slash, _ = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return f"{name}:{tag}"
    return f"docker.io/{name if slash else f'library/{name}'}:{tag}"


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def known() -> dict[str, str]:
    """Name to manifest digest of what the template holds."""
    try:
        found: dict[str, str] = json.loads((folder() / "images.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


@contextlib.contextmanager
def _running_template() -> Iterator[Containerd]:
    """The template's containerd. A store that was left in the middle of an import is not trusted: it is made anew."""
    unfinished = folder() / "unfinished"
    _processes().stop("containerd")
    if unfinished.exists():
        discard()
    unfinished.touch()
    store = template()
    none = Path("/nonexistent")
    store.start(configs.containerd(store.root, store.state, store.socket, cri=None, cni_bin=none, restrict_oom=False))
    try:
        yield store
    finally:
        store.stop()
    unfinished.unlink()


def forget() -> None:
    """Empties the template. A lab started later has only what is loaded again."""
    with _locked():
        discard()


def discard() -> None:
    """Running nodes point at the template's layers, so it goes only where there are none."""
    if users := _users():
        raise StepFailed(f"The lab {users[0]} runs on these images: take it down first (LAB={users[0]} make lab-down).")
    _processes().stop("containerd")
    for name in ("store", "run"):
        nodes.unmount(folder() / name)
        shutil.rmtree(folder() / name, ignore_errors=True)
    for name in ("images.json", "unfinished"):
        (folder() / name).unlink(missing_ok=True)


def _users() -> list[str]:
    """Labs with nodes that point at the template's layers."""
    return sorted({path.parent.parent.name for path in (cache() / "lab").glob("*/n*/containerd")})


def _into_template(images: Mapping[str, oci.Image]) -> None:
    have = {} if (folder() / "unfinished").exists() else known()
    new = {name: image for name, image in images.items() if have.get(name) != image.manifest["digest"]}
    if not new:
        return
    with _running_template() as store:
        if _users():
            store.keep(new)
        else:
            store.release()
        store.load(new)
    digests = {name: image.manifest["digest"] for name, image in new.items()}
    (folder() / "images.json").write_text(json.dumps({**known(), **digests}, indent=1))


def own_images() -> dict[str, oci.Image]:
    """The images the lab itself needs: what holds a pod's namespaces, and a small application for its tests."""
    programs = build.ensure()
    base = folder() / f"own-{programs.name}"
    found = {}
    for name, program in ((PAUSE_IMAGE, "pause"), (PROBE_IMAGE, "probe")):
        if not (base / program / "oci-layout").exists():  # written last
            oci.write_image(base / program, {program: programs / program}, [f"/{program}"])
        found[name] = oci.open_image(base / program)
    return found


def prepare() -> None:
    """Makes sure the template holds the lab's own images."""
    with _locked():
        _into_template(own_images())


def give_all(node: Node) -> None:
    """A new node's store."""
    with _locked():
        runtime.clone(template().root, node.containerd_root)


def load(images: Mapping[str, Path], lab: Lab | None = None) -> None:
    """Loads OCI layouts (folders, or archives of one) under these names into the template, and into a running lab."""
    lab = lab or current()
    with contextlib.ExitStack() as stack:
        opened = {full_name(name): stack.enter_context(_open(path)) for name, path in images.items()}
        stack.enter_context(_locked())
        with step(f"Importing {len(opened)} images", usual="4 s, at first 2 min", log=template().log):
            _into_template({**own_images(), **opened})
        if running := [node for node in lab.nodes if nodes.processes(node).running("containerd")]:
            with step(f"Giving them to {', '.join(node.name for node in running)}"):
                on_all(running, lambda node: _into_node(node, opened))


@contextlib.contextmanager
def _open(path: Path) -> Iterator[oci.Image]:
    if path.is_dir():
        yield oci.open_image(path)
        return
    if not path.is_file() or not tarfile.is_tarfile(path):
        raise StepFailed(f"{path} is neither an OCI layout's folder nor an archive of one.")
    with tempfile.TemporaryDirectory(dir=folder()) as extracted:
        with tarfile.open(path) as tar:
            tar.extractall(extracted, filter="data")
        yield oci.open_image(Path(extracted))


def _into_node(node: Node, images: Mapping[str, oci.Image]) -> None:
    store = nodes.containerd(node)
    have = store.images()
    new = {name: image for name, image in images.items() if have.get(name) != image.manifest["digest"]}
    missing = {blob for image in new.values() for blob in image.blobs if not store.has_blob(blob)}
    if sum(blob.size for blob in missing) > REPLACE_ABOVE:
        nodes.replace_images(node, template().root)
    elif new:
        store.load(new)


def on_all(items: list[Node], action: Callable[[Node], None]) -> None:
    """The same for every node at once; the first failure is raised."""
    with ThreadPoolExecutor(max_workers=max(1, len(items))) as pool:
        list(pool.map(action, items))
