"""A control group for each node: kubelet puts its pods under it, and what is left in it at the end is ended by it.

cgroup v1 is what the lab was developed on; with v2 it runs in a virtual machine (`lab.vm`).
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from lab import procs
from lab.machine import CGROUPS, V2_CONTROLLERS, V2_WHERE_THERE, is_cgroup_v2
from tools.steps import StepFailed


def hierarchies() -> list[Path]:
    """The roots under which a node's group is: one with v2, one for every controller with v1 (and runc's `unified`)."""
    if is_cgroup_v2():
        return [CGROUPS]
    return [path for path in sorted(CGROUPS.iterdir()) if (path / "cgroup.procs").exists()]


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
        raise StepFailed(
            f"The control group {group} cannot hand its controllers down ({error.strerror}): run on the host itself, "
            "or in a container whose own processes are in a child group."
        ) from error


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
    raise RuntimeError(f"The control groups {', '.join(map(str, groups(name)))} cannot be removed.")
