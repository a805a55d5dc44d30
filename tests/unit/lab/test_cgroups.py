"""What a node's group of cgroup v2 hands down to its pods."""

from __future__ import annotations

from lab import cgroups
from lab.machine import V2_CONTROLLERS


def test_what_kubelet_needs_is_handed_down_and_nothing_else() -> None:
    offered = "cpuset cpu io memory hugetlb pids rdma misc\n"
    assert set(cgroups.handed_down(offered).split()) == {f"+{name}" for name in (*V2_CONTROLLERS, "hugetlb")}


def test_a_machine_without_huge_pages_has_none_to_hand_down() -> None:
    assert "hugetlb" not in cgroups.handed_down(" ".join(V2_CONTROLLERS))
