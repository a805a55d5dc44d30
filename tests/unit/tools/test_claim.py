"""What the demo takes for its own: a script stands for kubectl and helm, and writes down what it is told to do."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from tools import claim, demo
from tools.claim import CRDS, DEMO, MARK, SYSTEM, Found
from tools.kube import Cluster
from tools.steps import StepFailed

BOTH = frozenset({SYSTEM, DEMO})
OURS = Found(BOTH, frozenset(CRDS), BOTH, frozenset(claim.RESOURCES))
"""A demo that ran to its end."""
USERS = Found(frozenset({SYSTEM}), frozenset(CRDS), frozenset(), frozenset({"ModelDeployment team/chat"}))
"""A Pilotboat that somebody installed."""
SCRIPT = """\
#!/bin/sh
here=$(dirname "$0")
case "$*" in
*"get namespaces --selector"*) cat "$here/marked" ;;
*"get namespaces"*) cat "$here/namespaces" ;;
*"get customresourcedefinitions"*) cat "$here/crds" ;;
*"get "*) cat "$here/resources" ;;
*) echo "$*" >>"$here/done"; cat >/dev/null ;;
esac
"""


def cluster(folder: Path, found: Found) -> Cluster:
    """A cluster in which this is found, for kubectl and helm alike."""
    named = (line.replace("/", " ").split() for line in found.resources)
    items = [{"kind": kind, "metadata": {"namespace": space, "name": name}} for kind, space, name in named]
    (folder / "resources").write_text(json.dumps({"items": items}))
    prefix = "customresourcedefinition.apiextensions.k8s.io"
    (folder / "crds").write_text("".join(f"{prefix}/{name}\n" for name in found.crds))
    (folder / "namespaces").write_text("".join(f"namespace/{name}\n" for name in found.namespaces))
    (folder / "marked").write_text("".join(f"namespace/{name}\n" for name in found.marked))
    (folder / "program").write_text(SCRIPT)
    (folder / "program").chmod(0o755)
    (folder / "done").write_text("")
    program = str(folder / "program")
    return Cluster(program, program, context="mine", namespace=DEMO)


def done(folder: Path) -> str:
    return (folder / "done").read_text()


@pytest.mark.parametrize("found", [Found(), OURS, USERS])
def test_what_is_there_is_found(tmp_path: Path, found: Found) -> None:
    assert claim.look(cluster(tmp_path, found)) == found


@pytest.mark.parametrize("found", [Found(), OURS, Found(frozenset({SYSTEM}), marked=frozenset({SYSTEM}))])
def test_the_demo_begins_where_nothing_is_and_goes_on_where_it_began(tmp_path: Path, found: Found) -> None:
    claim.check(cluster(tmp_path, found))


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (USERS, f"namespace {SYSTEM}"),
        (Found(crds=frozenset(CRDS)), f"CRD {CRDS[1]}, CRD {CRDS[0]}"),
        (Found(namespaces=frozenset({DEMO})), f"namespace {DEMO}"),
        (Found(frozenset({SYSTEM, DEMO}), marked=frozenset({SYSTEM})), f"namespace {DEMO}"),
    ],
)
def test_the_demo_overwrites_nothing_of_others(tmp_path: Path, found: Found, named: str) -> None:
    with pytest.raises(StepFailed, match=named) as refused:
        claim.check(cluster(tmp_path, found))
    assert "\n" not in str(refused.value)
    assert "CONTEXT" in str(refused.value)
    assert done(tmp_path) == ""


def test_what_the_demo_made_is_taken_away_and_its_mark_last(tmp_path: Path) -> None:
    claim.remove(cluster(tmp_path, OURS))
    lines = done(tmp_path).splitlines()
    assert [line for line in lines if "uninstall pilotboat" in line]
    assert [line for line in lines if f"delete namespace {DEMO}" in line]
    assert f"delete namespace {SYSTEM}" in lines[-1]


def test_one_that_was_broken_off_is_taken_away_to_its_end(tmp_path: Path) -> None:
    claim.remove(cluster(tmp_path, Found(frozenset({SYSTEM}), marked=frozenset({SYSTEM}))))
    assert f"delete namespace {SYSTEM}" in done(tmp_path)
    assert DEMO not in done(tmp_path).replace(f"--namespace={DEMO}", "")


@pytest.mark.parametrize("found", [Found(), USERS])
def test_where_the_demo_made_nothing_nothing_is_to_be_done(
    tmp_path: Path, found: Found, capsys: pytest.CaptureFixture[str]
) -> None:
    claim.remove(cluster(tmp_path, found))
    assert capsys.readouterr().out == "The cluster mine has nothing that the demo made.\n"
    assert done(tmp_path) == ""


@pytest.mark.parametrize("other", ["ModelDeployment team/chat", f"FineTuneJob {DEMO}/mine"])
def test_nobody_else_loses_a_custom_resource(tmp_path: Path, other: str) -> None:
    found = Found(BOTH, frozenset(CRDS), BOTH, frozenset({*claim.RESOURCES, other}))
    for refused in (claim.remove, partial(claim.check_endable, end="make lab-down")):
        with pytest.raises(StepFailed, match=other):
            refused(cluster(tmp_path, found))
        assert done(tmp_path) == ""


def test_a_lab_ends_with_the_demo_where_all_is_the_demos(tmp_path: Path) -> None:
    claim.check_endable(cluster(tmp_path, OURS), "LAB=two make lab-down")
    with pytest.raises(StepFailed, match="LAB=two make lab-down"):
        claim.check_endable(cluster(tmp_path, USERS), "LAB=two make lab-down")


def test_the_demo_marks_a_namespace_before_anything_else() -> None:
    made = claim.namespace(demo.SYSTEM)
    assert MARK in made["metadata"]["labels"]


def test_many_are_told_in_few_words() -> None:
    many = Found(resources=frozenset(f"ModelDeployment team/{number}" for number in range(9)))
    assert claim._few(many.others).endswith("team/2 and 6 more")
