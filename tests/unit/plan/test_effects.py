"""No field is accepted and ignored: each field of a spec, given another value, makes another plan.

That a pod then does what its configuration says, the tests of its image show.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pilotboat.api.crd import KINDS, structural
from pilotboat.api.labels import API_VERSION
from pilotboat.plan import PLANNERS
from unit.plan.test_golden import BY_KIND, planned
from unit.plan.world import Raw

Field = tuple[str | int, ...]
SPECS: dict[str, list[Raw]] = yaml.safe_load((Path(__file__).parent / "every_field.yaml").read_text())
ELSEWHERE = {
    "rollout": "of a canary, and here is none: test_steps.py, test_course.py, test_gates.py, canary/",
    "zones.failover": "of a zone that fails, and here is none: test_zones.py",
    "zones.failback": "likewise",
    "zones.dns": "the engine's part, or of replicas that serve: test_dns.py, engine/test_regions.py",
    "model.cache.seed": "of a revision whose model a replica has fetched: test_seeds.py",
    "podTemplate.affinity": "handed on as it is written: test_pods.py",
    "podTemplate.tolerations": "likewise",
    "podTemplate.env.0.valueFrom": "likewise",
}
"""Fields that do not act in a first pass, and where it is shown that they act."""


def leaves(schema: Raw, path: Field = ()) -> Iterator[tuple[Field, list[str]]]:
    """All fields that have no fields themselves, of a list's items the first; and the words a field may have."""
    inner = schema.get("items", schema)
    if "properties" not in inner:
        yield path, schema.get("enum", [])
    for name, child in inner.get("properties", {}).items():
        yield from leaves(child, (*path, *([0] if "items" in schema else []), name))


LEAVES = {
    f"{kind.kind}: {'.'.join(map(str, path))}": (kind.kind, path, words)
    for kind in KINDS
    for path, words in leaves(structural(kind.spec))
}


def excuses(name: str) -> list[str]:
    return [field for field in ELSEWHERE if f"{name.partition(' ')[2]}.".startswith(f"{field}.")]


def others(value: Any) -> list[Any]:
    """Values of the same type, of which some may be valid."""
    match value:
        case bool():
            return [not value]
        case int() | float():
            return [value + 1, value / 2]
        case str():
            return [f"1{value}", f"{value[:-1]}1"]
        case list():
            return [[other] for other in others(value[0])]
    return []


def put(spec: Raw, path: Field, value: Any) -> Raw:
    """With this in the field; None: without the field. Raises LookupError where the spec has none."""
    made = copy.deepcopy(spec)
    holder: Any = reduce(getitem, path[:-1], made)
    del holder[path[-1]]
    if value is not None:
        holder[path[-1]] = value
    return made


def pairs(kind: str, path: Field, words: list[str]) -> Iterator[tuple[Raw, Raw]]:
    """Valid specs that differ in this field alone."""
    for spec in SPECS[kind]:
        with suppress(LookupError):
            for value in (None, *words, *others(reduce(getitem, path, spec))):
                with suppress(ValidationError):
                    BY_KIND[kind].spec.model_validate(made := put(spec, path, value))
                    yield spec, made


def effect(kind: str, spec: Raw) -> Any:
    """All that is done, and looked up, for a new resource; its status repeats the spec whatever becomes of it."""
    example = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "chat", "namespace": "ml"}, "spec": spec}
    plan = replace(planned(example), status=None, events=())
    return plan, PLANNERS[BY_KIND[kind].plural].references(example)


@pytest.mark.parametrize("name", [name for name in LEAVES if not excuses(name)])
def test_a_field_of_another_value_makes_another_plan(name: str) -> None:
    kind, path, words = LEAVES[name]
    found = list(pairs(kind, path, words))
    assert found, "no spec of every_field.yaml has it, in two values that are valid"
    assert any(effect(kind, spec) != effect(kind, made) for spec, made in found)


def test_every_excuse_is_of_a_field_that_is_there() -> None:
    assert {field for name in LEAVES for field in excuses(name)} == set(ELSEWHERE)
