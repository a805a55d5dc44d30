"""How many CPU threads this container really has: the cgroup's quota, not the machine's cores.

Owns: reading limits. Must not know: what the threads do.
"""

from __future__ import annotations

import os
from pathlib import Path

V2 = Path("/sys/fs/cgroup/cpu.max")
V1_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
V1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def cpu_threads(asked: int | None = None) -> int:
    """Threads to compute with: what was asked for, else the cores that quota and affinity leave."""
    if asked:
        return asked
    cores = len(os.sched_getaffinity(0))
    quota = parse_v2(_read(V2)) or parse_v1(_read(V1_QUOTA), _read(V1_PERIOD))
    return max(1, min(cores, int(quota))) if quota else cores


def parse_v2(text: str) -> float | None:
    """`150000 100000` is one and a half cores; `max 100000` is no limit."""
    parts = text.split()
    return int(parts[0]) / int(parts[1]) if len(parts) == 2 and parts[0].isdigit() else None


def parse_v1(quota: str, period: str) -> float | None:
    """The same in two files; a quota of -1 is no limit."""
    return int(quota) / int(period) if quota.strip().isdigit() and period.strip().isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
