"""The generator of the CustomResourceDefinitions: pydantic models in, structural schemas out.

Owns: the conversion, names, printer columns, subresources of both kinds. Must not know: files (tools/gen.py has them).
Rules followed: Kubernetes' structural schemas (no $ref, no unions, no titles, defaults only in words) and bounded CEL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

from .base import MAX_NAME
from .finetune_job import FineTuneJobSpec, FineTuneJobStatus
from .labels import GROUP, VERSION
from .model_deployment import ModelDeploymentSpec, ModelDeploymentStatus

Schema = dict[str, Any]

_KEPT = frozenset(
    {
        *(
            "type",
            "description",
            "properties",
            "required",
            "items",
            "additionalProperties",
            "enum",
            "format",
            "pattern",
        ),
        *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties"),
        *("x-kubernetes-validations", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"),
        *("x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
    }
)


@dataclass(frozen=True)
class Column:
    """One printer column; priority 1 shows it with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""

    def wire(self) -> Schema:
        """The column as the CRD has it."""
        column: Schema = {"name": self.name, "type": self.type, "jsonPath": self.path}
        return column | ({"priority": self.priority} if self.priority else {})


@dataclass(frozen=True)
class Kind:
    """One custom resource: its names, models, columns and whether it scales."""

    kind: str
    plural: str
    short: str
    spec: type[BaseModel]
    status: type[BaseModel]
    columns: tuple[Column, ...]
    scales: bool = False

    @property
    def full_name(self) -> str:
        """`plural.group`, the CRD's own name."""
        return f"{self.plural}.{GROUP}"


AGE = Column("Age", ".metadata.creationTimestamp", "date")

MODEL_DEPLOYMENT = Kind(
    kind="ModelDeployment",
    plural="modeldeployments",
    short="mdep",
    spec=ModelDeploymentSpec,
    status=ModelDeploymentStatus,
    scales=True,
    columns=(
        Column("Model", ".status.model.source"),
        Column("Engine", ".status.model.engine"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
        Column("Replicas", ".status.ready"),
        AGE,
        Column("Revision", ".status.currentRevision", priority=1),
        Column("URL", ".status.url", priority=1),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1),
    ),
)

FINE_TUNE_JOB = Kind(
    kind="FineTuneJob",
    plural="finetunejobs",
    short="ftj",
    spec=FineTuneJobSpec,
    status=FineTuneJobStatus,
    columns=(
        Column("Phase", ".status.phase"),
        Column("Progress", ".status.trainerStatus.progressPercentage", "integer"),
        Column("Step", ".status.progress.step", "integer"),
        Column("Loss", ".status.progress.loss"),
        Column("ETA", ".status.trainerStatus.estimatedRemainingSeconds", "integer"),
        AGE,
        Column("Message", ".status.message", priority=1),
    ),
)

KINDS = (MODEL_DEPLOYMENT, FINE_TUNE_JOB)


def definition(kind: Kind) -> Schema:
    """The CustomResourceDefinition of a kind."""
    subresources: Schema = {"status": {}}
    if kind.scales:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [column.wire() for column in kind.columns],
        "subresources": subresources,
        "schema": {"openAPIV3Schema": root_schema(kind)},
    }
    names = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.kind.lower(),
        "shortNames": [kind.short],
        "categories": ["pilotboat"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.full_name},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def root_schema(kind: Kind) -> Schema:
    """The schema of a whole object; names are bounded here because children append to them."""
    too_long = f"a {kind.kind}'s name must be a DNS label of at most {MAX_NAME} characters: the operator appends to it"
    label = f"self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= {MAX_NAME}"
    return {
        "type": "object",
        "description": (kind.spec.__doc__ or "").strip(),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(kind.spec),
            "status": structural(kind.status),
        },
        "x-kubernetes-validations": [{"rule": label, "message": too_long}],
    }


def structural(model: type[BaseModel]) -> Schema:
    """A model's JSON schema as a structural schema."""
    raw = model.model_json_schema(by_alias=True)
    return _convert(raw, raw.get("$defs", {}))


def _convert(schema: Schema, defs: dict[str, Schema]) -> Schema:
    schema = _resolved(schema, defs)
    result = {key: value for key, value in schema.items() if key in _KEPT}
    if schema.get("x-kubernetes-int-or-string"):
        return {key: result[key] for key in sorted(result) if key != "type"}
    if "const" in schema:
        result |= {"type": "string" if isinstance(schema["const"], str) else "integer", "enum": [schema["const"]]}
    for name in ("Minimum", "Maximum"):
        if f"exclusive{name}" in schema:
            result |= {name.lower(): schema[f"exclusive{name}"], f"exclusive{name}": True}
    if "properties" in result:
        result["properties"] = {key: _convert(value, defs) for key, value in result["properties"].items()}
        result.pop("additionalProperties", None)
    if isinstance(result.get("items"), dict):
        result["items"] = _convert(result["items"], defs)
    return _finished(result, schema, defs)


def _finished(result: Schema, schema: Schema, defs: dict[str, Schema]) -> Schema:
    extra = result.pop("additionalProperties", None)
    if "patternProperties" in schema:  # names that a pattern bounds: a structural schema knows any names or none
        (extra,) = schema["patternProperties"].values()
    if isinstance(extra, dict):
        result["additionalProperties"] = _convert(extra, defs)
    description = " ".join(str(result.get("description", "")).split())
    default = schema.get("default")
    if isinstance(default, str | int | float | bool):
        shown = str(default).lower() if isinstance(default, bool) else default
        description = f"{description} Default: {shown}.".strip()
    if description:
        result["description"] = description
    return dict(sorted(result.items(), key=lambda entry: (entry[0] == "properties", entry[0])))


def _resolved(schema: Schema, defs: dict[str, Schema]) -> Schema:
    """Follow $ref, take X from `X | None`, and keep what stands beside them; the outer description wins."""
    for union in ("anyOf", "allOf", "oneOf"):
        if union in schema and not schema.get("x-kubernetes-int-or-string"):
            (only,) = [branch for branch in schema[union] if branch.get("type") != "null"]
            schema = only | {key: value for key, value in schema.items() if key != union}
            return _resolved(schema, defs)
    if "$ref" in schema:
        target = defs[schema["$ref"].rpartition("/")[2]]
        return _resolved(target | {key: value for key, value in schema.items() if key != "$ref"}, defs)
    return schema


class _Plain(yaml.SafeDumper):
    """Writes out what is repeated: anchors save space and confuse readers and some tools."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True


def render(kind: Kind) -> str:
    """The CRD of a kind as YAML, with a line that says where it comes from."""
    body = yaml.dump(definition(kind), Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)
    return f"# Generated from operator/pilotboat/api by `make gen`; change the models, not this file.\n{body}"
