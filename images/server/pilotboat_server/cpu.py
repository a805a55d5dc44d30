"""How many threads to compute with: the physical cores this process may use, within its cgroup's CPU quota.

Owns the reading of /sys and /proc. Pure but for reading files under `root`, so a test can lay out any machine.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath


def default_threads(root: Path = Path("/"), cpus: Collection[int] | None = None) -> int:
    """min(physical cores among `cpus`, whole CPUs of the quota), at least 1.

    Hyperthreads share one core's vector units, and more threads than the quota are throttled: both only cost.
    """
    allowed = os.sched_getaffinity(0) if cpus is None else cpus
    cores = physical_cores(root, allowed)
    quota = cpu_quota(root)
    return max(1, cores if quota is None else min(cores, int(quota)))


def physical_cores(root: Path, cpus: Collection[int]) -> int:
    """Distinct cores behind the logical CPUs; each counts for itself where /sys does not say."""
    siblings = set()
    for cpu in cpus:
        text = _read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(text or f"cpu{cpu}")
    return len(siblings)


def cpu_quota(root: Path) -> float | None:
    """CPUs of the tightest quota on this process's path through the cgroup tree; None where there is none."""
    limits = [limit for folder in _cgroups(root) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def _cgroups(root: Path) -> Iterator[Path]:
    """Folders of our cgroup and its ancestors, v2 and v1. In a container the path may not exist: the mount is."""
    for line in (_read(root / "proc/self/cgroup") or "0::/").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif "cpu" in controllers.split(","):
            mounts = [root / "sys/fs/cgroup" / controllers, root / "sys/fs/cgroup/cpu"]
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            yield from {mount / part for part in (inner, *inner.parents)}


def _limit(folder: Path) -> float | None:
    """Quota over period of one cgroup, in CPUs."""
    if words := (_read(folder / "cpu.max") or "").split():
        return None if words[0] == "max" else int(words[0]) / int(words[1])
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    if quota is None or period is None or int(quota) <= 0:
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
