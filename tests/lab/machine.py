"""What the lab needs of the machine: checked before anything is changed, each lack one sentence with its way out.

It must not know the lab's own names and processes.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import cgroups
from lab.layout import cache
from tools import host
from tools.steps import StepFailed, step

NEEDED_GIB = 6  # programs and build cache take about 4; whoever builds images as well asks for more
CAP_SYS_RESOURCE = 24
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))

# Command to look for, and the Debian package that brings it.
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "mount": "mount",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
}


@dataclass(frozen=True)
class Facts:
    """What was found out about the machine; the checks are pure."""

    system: str
    root: bool
    free_gib: float
    groups: cgroups.Found
    can_make_netns: bool
    missing: tuple[str, ...]
    has_apt: bool


def has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def cni_folder() -> Path | None:
    return next((folder for folder in CNI_FOLDERS if (folder / "ptp").exists()), None)


def missing_packages() -> tuple[str, ...]:
    missing = [package for command, package in PACKAGES.items() if not shutil.which(command)]
    return tuple(missing if cni_folder() else [*missing, "containernetworking-plugins"])


def can_make_netns() -> bool:
    tried = ["unshare", "--net", "true"]
    return shutil.which(tried[0]) is not None and subprocess.run(tried, capture_output=True).returncode == 0


def free_gib(path: Path) -> float:
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    return shutil.disk_usage(existing).free / 2**30


def facts() -> Facts:
    linux = platform.system() == "Linux"
    return Facts(
        system=platform.system(),
        root=os.geteuid() == 0,
        free_gib=free_gib(cache()),
        groups=cgroups.look(),
        can_make_netns=linux and can_make_netns(),
        missing=missing_packages(),
        has_apt=shutil.which("apt-get") is not None,
    )


def want_of_disk(free: float, needed: float) -> Iterator[str]:
    """The sentence where there is too little; both in GiB."""
    if free < needed:
        yield (
            f"{needed:.0f} GiB of free disk are needed at {cache()} and there are {free:.1f}: "
            "free some, or set PILOTBOAT_CACHE to a folder on a larger disk."
        )


def wrong_place(system: str, root: bool) -> Iterator[str]:
    """The sentences where a lab can be neither made nor ended."""
    if system != "Linux":
        yield f"The lab needs Linux and this is {system}: name a cluster instead (CONTEXT=name make demo)."
    if not root:
        yield "The lab needs root, for namespaces, mounts and cgroups: run it with sudo -E."


def check_place() -> None:
    """StepFailed where a lab can be neither made nor ended."""
    for problem in wrong_place(platform.system(), os.geteuid() == 0):
        raise StepFailed(problem)


def problems(found: Facts, needed_gib: float = NEEDED_GIB) -> Iterator[str]:
    """One sentence a lack, the first one first: the later ones may follow from it."""
    yield from wrong_place(found.system, found.root)
    yield from want_of_disk(found.free_gib, needed_gib)
    yield from cgroups.lacks(found.groups)
    if found.root and not found.can_make_netns:
        yield "This machine does not allow new network namespaces: run as a privileged container or on the host itself."
    if found.missing and not found.has_apt:
        yield f"Install {', '.join(found.missing)} with this machine's package manager: apt-get is not there to do it."


def check(needed_gib: float = NEEDED_GIB) -> Facts:
    found = facts()
    for problem in problems(found, needed_gib):
        raise StepFailed(problem)
    return found


def install(missing: tuple[str, ...]) -> None:
    """Installs the Debian packages that are missing; the package lists are fetched only where something is."""
    if not missing:
        return
    with step(f"Installing {', '.join(missing)}", usual="1 min"):
        host.install(*missing)
    if still := missing_packages():
        raise StepFailed(f"apt-get did its work, but {', '.join(still)} is still missing: see {host.apt_log()}.")


def prepare() -> None:
    install(check().missing)
