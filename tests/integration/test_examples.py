"""Every example on a real API server, as a user applies it; what the operator would make of it is accepted as well."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import build
from pilotboat.api.crd import KINDS
from pilotboat.api.labels import API_VERSION
from unit.plan.test_golden import ROOT, planned
from unit.plan.world import NAMESPACE

FILES = [
    path
    for path in sorted((ROOT / "examples").rglob("*.yaml"))
    if path.parent.name != "rehearsals"  # no objects of Kubernetes: tests/unit/rehearse reads them
]
Raw = dict[str, Any]


def contents(path: Path) -> list[Raw]:
    return [raw for raw in yaml.safe_load_all(path.read_text()) if raw]


@pytest.fixture(scope="module")
def kubectl(plane: Path) -> list[str]:
    """With the namespace that plans are made for."""
    command = [str(build.ensure() / "kubectl"), f"--kubeconfig={plane}"]
    subprocess.run([*command, "create", "namespace", NAMESPACE], check=True, capture_output=True)
    return [*command, f"--namespace={NAMESPACE}"]


def apply(kubectl: list[str], given: str, *more: str) -> list[str]:
    """What is said of it, a line an object."""
    command = [*kubectl, "apply", "--server-side", "--validate=strict", "--filename=-", *more]
    done = subprocess.run(command, input=given, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_there_is_an_example_of_each_kind() -> None:
    """Without any, the tests below would be none."""
    kinds = {raw["kind"] for path in FILES for raw in contents(path) if raw["apiVersion"] == API_VERSION}
    assert kinds == {kind.kind for kind in KINDS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_and_what_is_made_of_it_are_accepted(kubectl: list[str], path: Path) -> None:
    given = contents(path)
    assert len(apply(kubectl, path.read_text())) == len(given) > 0
    for raw in given:
        if raw["apiVersion"] == API_VERSION:
            plan = planned(raw)
            children = [*plan.apply, *plan.after]
            said = apply(kubectl, yaml.safe_dump_all(children), "--dry-run=server")
            assert len(said) == len(children) > 0
