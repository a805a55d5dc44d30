"""Where a pod may run, in the words of the Kubernetes API: tolerations and affinity, whole and bounded.

Owns: the types, and what Kubernetes asks of them beyond their shape. Must not know: what they are merged into.
What is left out is None and no empty list: they are handed on as they were written, since their bytes make a revision.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from .base import Model, cel, validations

Label = Annotated[str, StringConstraints(max_length=63)]
LabelKey = Annotated[str, StringConstraints(max_length=317)]
LabelKeys = Annotated[list[LabelKey], Field(max_length=16)]
Labels = Annotated[dict[LabelKey, Label], Field(max_length=32)]
Values = Annotated[list[Label], Field(max_length=64)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Weight = Annotated[int, Field(ge=1, le=100, description="How much it counts beside the others.")]
Topology = Annotated[
    str, StringConstraints(min_length=1, max_length=317), Field(description="The node label that tells places apart.")
]

_KEY_RULE = cel(
    "has(self.key) && self.key != '' || has(self.operator) && self.operator == 'Exists'",
    "without a key the operator must be Exists, which means all taints",
)
_VALUE_RULE = cel(
    "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
    "operator Exists takes no value",
)
_TIME_RULE = cel(
    "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
    "tolerationSeconds goes with effect NoExecute only",
)


class Toleration(Model, json_schema_extra=validations(_KEY_RULE, _VALUE_RULE, _TIME_RULE)):
    """A taint that the pod bears, as in a Pod."""

    key: LabelKey | None = None
    operator: Literal["Exists", "Equal", ""] | None = Field(None, description="Equal when left out.")
    value: Label | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute", ""] | None = Field(
        None, description="Every effect when left out."
    )
    toleration_seconds: Annotated[int, Field(ge=0, le=31_536_000)] | None = Field(
        None, description="How long it stays on a node that gets the taint; for ever when left out."
    )

    @model_validator(mode="after")
    def _as_kubernetes_has_it(self) -> Self:
        if not self.key and self.operator != "Exists":
            raise ValueError(_KEY_RULE["message"])
        if self.operator == "Exists" and self.value:
            raise ValueError(_VALUE_RULE["message"])
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError(_TIME_RULE["message"])
        return self


_COUNT = "(has(self.values) ? self.values.size() : 0)"
_SET_RULE = cel(
    f"self.operator in ['In', 'NotIn'] ? {_COUNT} > 0 : {_COUNT} == 0",
    "In and NotIn need values, Exists and DoesNotExist take none",
)
_COMPARED_RULE = cel(
    f"self.operator in ['In', 'NotIn'] ? {_COUNT} > 0 : {_COUNT} == (self.operator in ['Gt', 'Lt'] ? 1 : 0)",
    "In and NotIn need values, Gt and Lt exactly one, Exists and DoesNotExist take none",
)


class LabelExpression(Model, json_schema_extra=validations(_SET_RULE)):
    """What a pod's or a namespace's label must be."""

    key: LabelKey
    operator: Annotated[Literal["In", "NotIn", "Exists", "DoesNotExist"], Field(description="How they are compared.")]
    values: Values | None = Field(None, description="Of In and NotIn.")

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if bool(self.values) != (self.operator in ("In", "NotIn")):
            raise ValueError(_SET_RULE["message"])
        return self


class NodeExpression(Model, json_schema_extra=validations(_COMPARED_RULE)):
    """What a node's label or field must be."""

    key: LabelKey
    operator: Annotated[
        Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"], Field(description="How they are compared.")
    ]
    values: Values | None = Field(None, description="Of In and NotIn; one whole number for Gt and Lt.")

    @model_validator(mode="after")
    def _counted(self) -> Self:
        count = len(self.values or ())
        wanted = count > 0 if self.operator in ("In", "NotIn") else count == (self.operator in ("Gt", "Lt"))
        if not wanted:
            raise ValueError(_COMPARED_RULE["message"])
        return self


class LabelSelector(Model):
    """Pods or namespaces by their labels; an empty one is all of them."""

    match_labels: Labels | None = Field(None, description="Labels that must all be there.")
    match_expressions: Annotated[list[LabelExpression], Field(max_length=16)] | None = Field(
        None, description="Of their labels; all must hold."
    )


Expressions = Annotated[list[NodeExpression], Field(max_length=16)]


class NodeTerm(Model):
    """Nodes of which all of this is true."""

    match_expressions: Expressions | None = Field(None, description="Of the node's labels.")
    match_fields: Expressions | None = Field(None, description="Of the node's fields: metadata.name.")


class NodeSelector(Model):
    """Nodes that are in any of the terms."""

    node_selector_terms: Annotated[list[NodeTerm], Field(min_length=1, max_length=16)] = Field(
        description="Of which one must hold."
    )


class PreferredNodes(Model):
    """Nodes that are preferred."""

    weight: Weight
    preference: NodeTerm = Field(description="Which nodes.")


class NodeAffinity(Model):
    """Towards nodes."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredNodes], Field(max_length=16)] | None
    ) = Field(None, description="Nodes that are preferred, by weight.")


class PodTerm(Model):
    """A place where these pods are."""

    topology_key: Topology
    label_selector: LabelSelector | None = None
    namespaces: Annotated[list[Name], Field(max_length=32)] | None = Field(
        None, description="Namespaces of those pods; the pod's own when both are left out."
    )
    namespace_selector: LabelSelector | None = None
    match_label_keys: LabelKeys | None = Field(None, description="Labels in which those pods are as the pod is.")
    mismatch_label_keys: LabelKeys | None = Field(None, description="Labels in which they are not.")


class PreferredPods(Model):
    """Places that are preferred."""

    weight: Weight
    pod_affinity_term: PodTerm


class PodAffinity(Model):
    """Towards other pods, or away from them."""

    required_during_scheduling_ignored_during_execution: Annotated[list[PodTerm], Field(max_length=16)] | None = Field(
        None, description="Places that it must be in, or must not."
    )
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredPods], Field(max_length=16)] | None
    ) = Field(None, description="Places that are preferred, or avoided, by weight.")


class Affinity(Model):
    """Which nodes suit, as in a Pod."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None
