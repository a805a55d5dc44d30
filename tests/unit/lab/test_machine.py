"""Every lack is one sentence that names the way out, found before anything is changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab import machine
from lab.cgroups import V1_CONTROLLERS, V2_CONTROLLERS, Found
from lab.machine import Facts

GOOD = Facts(
    system="Linux",
    root=True,
    free_gib=50,
    groups=Found(False, frozenset(V1_CONTROLLERS)),
    can_make_netns=True,
    missing=(),
    has_apt=True,
)
V2 = Found(True, frozenset(V2_CONTROLLERS))


@pytest.mark.parametrize(
    "fine",
    [GOOD, replace(GOOD, groups=V2), replace(GOOD, missing=("runc",))],
    ids=["cgroup v1", "cgroup v2", "packages to install"],
)
def test_a_machine_that_has_all_has_no_problem(fine: Facts) -> None:
    assert list(machine.problems(fine)) == []


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (replace(GOOD, system="Darwin"), "CONTEXT=name"),
        (replace(GOOD, root=False), "sudo"),
        (replace(GOOD, free_gib=1.0), "PILOTBOAT_CACHE"),
        (replace(GOOD, groups=Found(False, frozenset({"cpu"}), ("memory",))), "memory"),
        (replace(GOOD, groups=Found(True, frozenset({"cpu"}), occupied=True)), "cgroup v2"),
        (replace(GOOD, groups=replace(GOOD.groups, closed=("cpu", "pids"))), "cpu, pids of cgroup v1"),
        (replace(GOOD, groups=replace(V2, closed=("cgroup",))), "read-only"),
        (replace(GOOD, groups=replace(V2, occupied=True)), "child group"),
        (replace(GOOD, can_make_netns=False), "privileged"),
        (replace(GOOD, missing=("runc",), has_apt=False), "runc"),
    ],
)
def test_a_lack_is_one_sentence_with_its_way_out(bad: Facts, named: str) -> None:
    (problem,) = machine.problems(bad)
    assert named in problem
    assert problem.endswith(".")
    assert "\n" not in problem


def test_whoever_builds_images_asks_for_more_disk() -> None:
    (problem,) = machine.problems(replace(GOOD, free_gib=10), needed_gib=27)
    assert problem.startswith("27 GiB of free disk are needed")
    assert "there are 10.0" in problem


def test_the_facts_of_this_machine_can_be_found_out() -> None:
    found = machine.facts()
    assert found.system
    assert found.free_gib > 0
