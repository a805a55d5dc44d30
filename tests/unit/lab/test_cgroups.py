"""What of control groups a machine has, and what a node's group of cgroup v2 hands down to its pods."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import cgroups
from lab.cgroups import V1_CONTROLLERS, V2_CONTROLLERS, Found

OFFERED = "cpuset cpu io memory hugetlb pids rdma misc\n"


def v1(root: Path) -> Path:
    """A machine with cgroup v1, and runc's `unified` beside it."""
    for name in (*V1_CONTROLLERS, "unified"):
        (root / name).mkdir()
        (root / name / "cgroup.procs").write_text("1\n")
    return root


def v2(root: Path, **files: str) -> Path:
    """A machine with cgroup v2, whose topmost group is the very first one."""
    given = {"controllers": OFFERED, "subtree_control": "", "procs": "1\n", **files}
    for name, text in given.items():
        (root / f"cgroup.{name}").write_text(text)
    return root


@contextmanager
def mounted_read_only(folder: Path) -> Iterator[None]:
    """Root may write whatever a file's mode says, so only a mount keeps it out."""
    if os.geteuid() != 0 or subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("this machine lets us mount nothing")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_what_kubelet_needs_is_handed_down_and_nothing_else() -> None:
    assert set(cgroups.handed_down(OFFERED).split()) == {f"+{name}" for name in (*V2_CONTROLLERS, "hugetlb")}


def test_a_machine_without_huge_pages_has_none_to_hand_down() -> None:
    assert "hugetlb" not in cgroups.handed_down(" ".join(V2_CONTROLLERS))


def test_v1_is_looked_at_without_a_trace(tmp_path: Path) -> None:
    before = sorted(v1(tmp_path).rglob("*"))
    assert cgroups.look(tmp_path) == Found(False, frozenset(V1_CONTROLLERS))
    assert sorted(tmp_path.rglob("*")) == before


def test_v1_mounted_read_only_is_known_beforehand(tmp_path: Path) -> None:
    with mounted_read_only(v1(tmp_path) / "memory"):
        assert cgroups.look(tmp_path).closed == ("memory",)


def test_v2_mounted_read_only_is_known_beforehand(tmp_path: Path) -> None:
    with mounted_read_only(v2(tmp_path)):
        assert cgroups.look(tmp_path).closed == (tmp_path.name,)


def test_a_machine_that_mounts_none_lacks_all_of_them(tmp_path: Path) -> None:
    found = cgroups.look(tmp_path / "none")
    assert cgroups.hierarchies(tmp_path / "none") == []
    (sentence,) = cgroups.lacks(found)
    assert ", ".join(sorted(V1_CONTROLLERS)) in sentence


@pytest.mark.parametrize(
    ("files", "occupied"),
    [
        ({}, False),
        ({"type": "domain\n"}, True),
        ({"type": "domain\n", "procs": ""}, False),
        ({"type": "domain\n", "subtree_control": OFFERED}, False),
        ({"type": "domain\n", "subtree_control": "cpu\n"}, True),
        ({"type": "domain\n", "subtree_control": "cpuset cpu io memory pids\n"}, True),
    ],
    ids=["the host", "a container", "empty", "handed down", "too little", "all but huge pages"],
)
def test_v2_hands_down_where_no_process_is_in_the_way(tmp_path: Path, files: dict[str, str], occupied: bool) -> None:
    assert cgroups.look(v2(tmp_path, **files)) == Found(True, frozenset(OFFERED.split()), occupied=occupied)
    assert len(list(cgroups.lacks(cgroups.look(tmp_path)))) == occupied
