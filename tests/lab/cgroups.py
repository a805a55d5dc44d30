"""A control group for each node: kubelet puts its pods under it, and what is left in it at the end is ended by it.

Owns: what of control groups a machine has, and ours in them. It must not know what runs in them. cgroup v1 is what the
lab was developed on; with v2 it runs in a virtual machine (`lab.vm`).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import procs
from tools.steps import StepFailed

CGROUPS = Path("/sys/fs/cgroup")
V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
V2_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io")
V2_WHERE_THERE = ("hugetlb",)  # kubelet wants it in its group where the machine has it at all


@dataclass(frozen=True)
class Found:
    """What a machine has of control groups, and what keeps us from making some."""

    v2: bool
    controllers: frozenset[str]
    closed: tuple[str, ...] = ()
    """Hierarchies in which nobody can make a group: mounted read-only, or another's."""
    occupied: bool = False
    """v2: processes of its own keep the topmost group from handing its controllers down."""


def look(root: Path = CGROUPS) -> Found:
    """Changes nothing."""
    if is_cgroup_v2(root):
        offered = frozenset((root / "cgroup.controllers").read_text().split())
        open_ = all(os.access(path, os.W_OK) for path in (root, root / "cgroup.subtree_control"))
        return Found(True, offered, () if open_ else (root.name,), occupied(root))
    there = frozenset(name for name in V1_CONTROLLERS if (root / name / "cgroup.procs").exists())
    return Found(False, there, tuple(path.name for path in hierarchies(root) if not os.access(path, os.W_OK)))


def occupied(root: Path) -> bool:
    """The kernel lets a group with processes of its own hand nothing down, save the very first, which has no type."""
    if not (root / "cgroup.type").exists():
        return False
    wanted = handed_down((root / "cgroup.controllers").read_text()).replace("+", "").split()
    if set(wanted) <= set((root / "cgroup.subtree_control").read_text().split()):
        return False
    try:
        return bool((root / "cgroup.procs").read_text().split())
    except OSError:  # a threaded group, which hands down neither memory nor io
        return True


def lacks(found: Found) -> Iterator[str]:
    """One sentence where a lab's groups cannot be made there; the first reason, for others may follow from it."""
    version, needed = ("v2", V2_CONTROLLERS) if found.v2 else ("v1", V1_CONTROLLERS)
    if lacking := sorted(set(needed) - found.controllers):
        yield (
            f"The cgroup {version} controllers {', '.join(lacking)} are not there under {CGROUPS}: "
            "run on the host itself, or in a container that has the host's cgroups mounted writable."
        )
    elif found.closed:
        yield (
            f"No control group can be made in {', '.join(found.closed)} of cgroup {version} under {CGROUPS}, "
            "which is mounted read-only: run on the host itself, or in a container that has it mounted writable."
        )
    elif found.occupied:
        yield CANNOT_HAND_DOWN.format(group=CGROUPS, why="it has processes of its own")


CANNOT_HAND_DOWN = (
    "The control group {group} cannot hand its controllers down ({why}): run on the host itself, "
    "or in a container whose own processes are in a child group."
)


def is_cgroup_v2(root: Path = CGROUPS) -> bool:
    return (root / "cgroup.controllers").exists()


def hierarchies(root: Path = CGROUPS) -> list[Path]:
    """The roots under which a node's group is: one with v2, one for every controller with v1 (and runc's `unified`)."""
    if is_cgroup_v2(root):
        return [root]
    return [path for path in sorted(root.glob("*")) if (path / "cgroup.procs").exists()]


def create(name: str) -> None:
    if is_cgroup_v2():
        delegate(CGROUPS)
        (CGROUPS / name).mkdir(exist_ok=True)
        delegate(CGROUPS / name)
        return
    for root in {path.resolve() for path in hierarchies()}:
        group = root / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group, and an empty one admits no process
            if (root / setting).exists():
                (group / setting).write_text((root / setting).read_text())


def delegate(group: Path) -> None:
    """v2: a group's children have the controllers it hands down; one with processes of its own may not hand down."""
    try:
        (group / "cgroup.subtree_control").write_text(handed_down((group / "cgroup.controllers").read_text()))
    except OSError as error:
        raise StepFailed(CANNOT_HAND_DOWN.format(group=group, why=error.strerror)) from error


def handed_down(offered: str) -> str:
    """What is written to hand down all that kubelet wants of what is offered: it does not start without any of them."""
    there = [name for name in V2_WHERE_THERE if name in offered.split()]
    return " ".join(f"+{name}" for name in (*V2_CONTROLLERS, *there))


def groups(name: str) -> list[Path]:
    """Every group under this name, the innermost first, as they must be removed."""
    found: list[Path] = []
    for root in {path.resolve() for path in hierarchies()}:
        for folder, _, _ in os.walk(root / name, topdown=False):
            found.append(Path(folder))
    return found


def pids(name: str) -> set[int]:
    found: set[int] = set()
    for group in groups(name):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    return found


def empty(name: str) -> None:
    """Ends every process in the group: with no container runtime left to do it, nobody else will."""
    for _ in range(50):
        found = [identity for pid in pids(name) if (identity := procs.identify(pid))]
        if not found:
            return
        procs.end(found, grace=0)


def remove(name: str) -> None:
    """The kernel lets go of a group a moment after its last process: patience, then the truth."""
    for _ in range(50):
        for group in groups(name):
            with contextlib.suppress(OSError):
                group.rmdir()
        if not groups(name):
            return
        time.sleep(0.1)
    raise StepFailed(f"The control groups {', '.join(map(str, groups(name)))} cannot be removed.")
