"""What the planner makes of every example, in full: a change of it is seen in the change under review.

`PILOTBOAT_GOLDEN=write` writes the files anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotboat.api.crd import KINDS
from pilotboat.api.labels import API_VERSION
from pilotboat.plan import PLANNERS, build
from pilotboat.plan.types import Observed, Plan, Ref
from unit.plan.world import NAMESPACE, NOW, SETTINGS, Raw, check_schema

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"
BY_KIND = {kind.kind: kind for kind in KINDS}
TUNED: Raw = {
    "spec": {"base": {"source": {"huggingFace": {"repo": "google/gemma-3-270m-it"}}}},
    "status": {
        "conditions": [{"type": "Complete", "status": "True"}],
        "base": {"revision": "abc123", "digests": {"model.safetensors": "a" * 64}},
        "output": {"type": "Adapter", "claimName": "out", "path": "job/adapter", "digests": {}},
    },
}


def examples() -> dict[str, Raw]:
    """Our custom resources in examples/, by file and name."""
    found: dict[str, Raw] = {}
    for path in sorted((ROOT / "examples").rglob("*.yaml")):
        for raw in yaml.safe_load_all(path.read_text()):
            if raw and raw.get("apiVersion") == API_VERSION:
                found[f"{path.stem}-{raw['metadata']['name']}"] = raw
    return found


class Plain(yaml.SafeDumper):
    """Without anchors, and with files that can be read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Plain.add_representer(str, block)


def anything(ref: Ref, parent: Raw) -> Raw | None:
    """A referenced object, as it is when all is well; an HTTPRoute is yet to be made."""
    if ref.kind == "HTTPRoute":
        return None
    key = (parent["spec"].get("dataset") or {}).get("source", {}).get("configMap", {}).get("key", "")
    return {"metadata": {"name": ref.name}, "data": {key: "{}"}} | (TUNED if ref.kind == "FineTuneJob" else {})


def planned(example: Raw) -> Plan:
    """What a first pass makes of an example, with all there that it refers to."""
    parent = {**example, "metadata": {**example["metadata"], "namespace": NAMESPACE, "uid": "uid-1", "generation": 1}}
    planner = PLANNERS[BY_KIND[example["kind"]].plural]
    references = {ref: anything(ref, parent) for ref in planner.references(parent)}
    return planner.plan(Observed(parent, references=references), SETTINGS, NOW)


def manifests(example: Raw) -> str:
    plan = planned(example)
    assert plan.status is not None
    check_schema(BY_KIND[example["kind"]], plan.status)
    return yaml.dump_all([*plan.apply, {"status": plan.status}], Dumper=Plain, sort_keys=True, width=120)


@pytest.mark.parametrize("name", examples(), ids=str)
def test_golden(name: str) -> None:
    made, path = manifests(examples()[name]), GOLDEN / f"{name}.yaml"
    if os.environ.get("PILOTBOAT_GOLDEN") == "write":
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(made)
    assert path.read_text() == made, "if this is meant: PILOTBOAT_GOLDEN=write"


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(examples())


def test_an_example_is_read_without_a_word_to_the_contrary() -> None:
    for example in examples().values():
        BY_KIND[example["kind"]].spec.model_validate(example["spec"])
    assert build.timestamp(NOW) == "2026-05-01T12:00:00Z"
