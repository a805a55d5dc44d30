"""The generated CRDs: structural, bounded, described, and what is checked in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotboat.api.crd import KINDS, MODEL_DEPLOYMENT, Kind, definition, render, root_schema, structural

ROOT = Path(__file__).parents[3]
Raw = dict[str, Any]
NEVER = ("$ref", "$defs", "anyOf", "allOf", "oneOf", "title", "default", "const", "prefixItems", "discriminator")
SELF_EVIDENT = frozenset(
    {
        *("name", "key", "type", "image", "sha256", "claimName", "urls", "port", "count", "min", "max", "size", "seed"),
        *("labels", "annotations", "env", "value", "nodeSelector", "tolerations", "affinity", "imagePullSecrets"),
        *("serviceAccountName", "priorityClassName", "runtimeClassName", "requests", "limits", "format", "source"),
        *("replicas", "suspend", "backoffLimit", "activeDeadlineSeconds", "epochs", "maxSteps", "packing", "digests"),
        *("rank", "alpha", "dropout", "targetModules", "keep", "accessMode", "storageClassName", "spread", "workers"),
        *("learningRate", "gradientAccumulationSteps", "everySteps"),
    }
)
"""Fields of a spec whose name says it, to whoever knows Kubernetes or fine-tuning."""

by_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


def schemas(schema: Raw, path: str) -> Iterator[tuple[str, Raw]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from schemas(child, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            yield from schemas(schema[inner], f"{path}[]")


def test_what_is_checked_in_is_what_is_generated() -> None:
    done = subprocess.run(
        [sys.executable, "tools/gen.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@by_kind
def test_the_schema_is_structural(kind: Kind) -> None:
    for path, schema in schemas(root_schema(kind), ""):
        assert not [key for key in NEVER if key in schema], path
        assert "type" in schema or schema.get("x-kubernetes-int-or-string"), path
        assert isinstance(schema.get("exclusiveMinimum", True), bool), path
        assert isinstance(schema.get("exclusiveMaximum", True), bool), path
        assert not ("properties" in schema and "additionalProperties" in schema), path


@by_kind
def test_everything_in_a_spec_is_bounded(kind: Kind) -> None:
    """Or the API server refuses the CEL rules over it, and anyone may fill etcd."""
    for path, schema in schemas(structural(kind.spec), "spec"):
        assert "x-kubernetes-preserve-unknown-fields" not in schema, path
        if schema.get("x-kubernetes-int-or-string"):
            assert {"maxLength", "pattern"} <= set(schema), path
        elif schema["type"] == "string":
            assert "maxLength" in schema or "enum" in schema, path
        elif schema["type"] == "array":
            assert "maxItems" in schema, path
        elif "additionalProperties" in schema:
            assert "maxProperties" in schema, path


@by_kind
def test_the_api_server_empties_no_map(kind: Kind) -> None:
    """As it does where neither its keys nor its values are in the schema."""
    known = {"properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields"}
    for path, schema in (*schemas(structural(kind.spec), "spec"), *schemas(structural(kind.status), "status")):
        assert schema.get("type") != "object" or known & set(schema), path


@by_kind
def test_every_field_of_a_spec_says_what_it_is(kind: Kind) -> None:
    silent = [
        path
        for path, schema in schemas(structural(kind.spec), "spec")
        if not path.endswith("[]") and "description" not in schema and path.rpartition(".")[2] not in SELF_EVIDENT
    ]
    assert silent == []


@by_kind
def test_defaults_are_told_and_never_written_into_the_spec(kind: Kind) -> None:
    text = render(kind)
    assert "\n" in text
    assert " default:" not in text
    assert "Default: " in text
    assert "&id" not in text
    assert yaml.safe_load(text) == definition(kind)


@by_kind
def test_names_columns_and_subresources(kind: Kind) -> None:
    made = definition(kind)["spec"]
    (version,) = made["versions"]
    assert made["names"]["shortNames"] == [kind.short]
    assert made["names"]["categories"] == ["pilotboat"]
    assert made["scope"] == "Namespaced"
    assert version["subresources"]["status"] == {}
    names = [column["name"] for column in version["additionalPrinterColumns"]]
    assert "Age" in names
    assert [c["name"] for c in version["additionalPrinterColumns"] if c.get("priority")][-1] == "Message"
    properties = {path for path, _ in schemas(structural(kind.status), ".status")}
    for column in version["additionalPrinterColumns"]:
        path = column["jsonPath"].partition("[?")[0]
        assert path in properties or path == ".metadata.creationTimestamp"


def test_a_model_deployment_scales() -> None:
    (version,) = definition(MODEL_DEPLOYMENT)["spec"]["versions"]
    assert version["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    paths = {path: schema for path, schema in schemas(root_schema(MODEL_DEPLOYMENT), "")}
    assert paths[".spec.replicas"]["type"] == paths[".status.replicas"]["type"] == "integer"
    assert paths[".status.selector"]["type"] == "string"


@by_kind
def test_conditions_merge_by_type(kind: Kind) -> None:
    conditions = structural(kind.status)["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert {"type", "status", "reason"} <= set(conditions["items"]["required"])
