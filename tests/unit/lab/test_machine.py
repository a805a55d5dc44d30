"""Every lack is one sentence that names the way out, found before anything is changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab import machine
from lab.machine import V1_CONTROLLERS, V2_CONTROLLERS, Facts

GOOD = Facts(
    system="Linux",
    root=True,
    free_gib=50,
    cgroup_v2=False,
    controllers=frozenset(V1_CONTROLLERS),
    can_make_netns=True,
    missing=(),
    has_apt=True,
)


@pytest.mark.parametrize(
    "fine",
    [GOOD, replace(GOOD, cgroup_v2=True, controllers=frozenset(V2_CONTROLLERS)), replace(GOOD, missing=("runc",))],
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
        (replace(GOOD, controllers=frozenset({"cpu"})), "memory"),
        (replace(GOOD, cgroup_v2=True, controllers=frozenset({"cpu"})), "cgroup v2"),
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
