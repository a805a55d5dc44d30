"""What a user may say about the pods we make: resources, GPUs, placement, labels, environment.

Owns: the `gpu` and `podTemplate` parts of both resources. Must not know: how they are merged (plan/pods.py does).
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from .affinity import Affinity, LabelKey, Labels, Toleration
from .base import Key, Model, ObjectName, OneOf, Quantity, Shape, cel, shaped, validations

ResourceName = Annotated[str, StringConstraints(min_length=1, max_length=253)]


class Gpu(Model):
    """GPUs of each replica or trainer."""

    count: Annotated[
        int, Field(ge=1, le=64, description="More than one is for LlamaCpp: Transformers and the trainer use one.")
    ] = 1
    resource_name: Annotated[ResourceName, Field(description="Extended resource to ask for.")] = "nvidia.com/gpu"


class Resources(Model):
    """Requests and limits of the main container, as in a Pod."""

    requests: Annotated[dict[ResourceName, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    limits: Annotated[dict[ResourceName, Quantity], Field(max_length=16)] = Field(default_factory=dict)


_META = r"metadata\.(name|namespace|uid|(labels|annotations)\[\x27[^\x27]{1,317}\x27\])"  # the rule is in quotes itself
FieldPath = Annotated[
    str,
    StringConstraints(max_length=400),
    *shaped(
        Shape(
            rf"{_META}|spec\.(nodeName|serviceAccountName)|status\.(hostIPs?|podIPs?)",
            "must be a field of the pod that a variable can have, such as metadata.name, metadata.labels['app'], "
            "spec.nodeName or status.podIP",
        )
    ),
]
ContainerResource = Annotated[
    str,
    StringConstraints(max_length=253),
    *shaped(
        Shape(
            r"(requests|limits)\.(cpu|memory|ephemeral-storage|hugepages-[A-Za-z0-9]+)",
            "must be a resource of a container, such as limits.memory or requests.cpu",
        )
    ),
]


class FieldRef(Model):
    """A field of the pod."""

    field_path: Annotated[FieldPath, Field(description="Such as spec.nodeName.")]
    api_version: Annotated[str, StringConstraints(max_length=63)] | None = Field(
        None, description="Of the schema that the path is of; v1 when left out."
    )


class ResourceFieldRef(Model):
    """How much a container asks for, or may use."""

    resource: Annotated[ContainerResource, Field(description="Such as limits.memory.")]
    container_name: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = Field(
        None, description="Its own when left out."
    )
    divisor: Quantity | None = Field(None, description="The unit; 1 when left out.")


class KeyRef(Model):
    """A key of a ConfigMap or Secret in the same namespace."""

    name: ObjectName
    key: Key
    optional: bool | None = Field(None, description="Whether the pod starts without it.")


class ValueFrom(OneOf):
    """Where a variable's value is taken from, as in a Pod: exactly one of its fields."""

    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None
    config_map_key_ref: KeyRef | None = None
    secret_key_ref: KeyRef | None = None


_VALUE_RULE = cel("!has(self.value) || self.value == '' || !has(self.valueFrom)", "give value or valueFrom, not both")


class EnvVar(Model, json_schema_extra=validations(_VALUE_RULE)):
    """One environment variable of the main container; proxies and SSL_CERT_FILE are set for fetch as well."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: Annotated[str, StringConstraints(max_length=32768)] | None = None
    value_from: ValueFrom | None = None

    @model_validator(mode="after")
    def _one_value(self) -> Self:
        if self.value and self.value_from is not None:
            raise ValueError(_VALUE_RULE["message"])
        return self


class LocalRef(Model):
    """The name of a Secret in the same namespace."""

    name: ObjectName


class PodTemplate(Model):
    """Merged last into the pods we make; what it sets wins over our defaults."""

    labels: Labels = Field(default_factory=dict)
    annotations: Annotated[dict[LabelKey, Annotated[str, StringConstraints(max_length=4096)]], Field(max_length=32)] = (
        Field(default_factory=dict)
    )
    env: Annotated[list[EnvVar], Field(max_length=64)] = Field(default_factory=list)
    resources: Resources = Field(default_factory=Resources)
    node_selector: Labels = Field(default_factory=dict)
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = Field(default_factory=list)
    affinity: Affinity | None = None
    image_pull_secrets: Annotated[list[LocalRef], Field(max_length=8)] = Field(default_factory=list)
    service_account_name: ObjectName | None = None
    priority_class_name: ObjectName | None = None
    runtime_class_name: ObjectName | None = None


__all__ = ["EnvVar", "Gpu", "Key", "LocalRef", "PodTemplate", "Resources"]
