"""What a user may say about the pods we make: resources, GPUs, placement, labels, environment.

Owns: the `gpu` and `podTemplate` parts of both resources. Must not know: how they are merged (plan/pods.py does).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from .base import Key, Model, ObjectName, Quantity

Label = Annotated[str, StringConstraints(max_length=63)]
LabelKey = Annotated[str, StringConstraints(max_length=317)]
ResourceName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Opaque = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
"""A part of the Kubernetes API passed through as it is; the API server checks it when the pod is made."""


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


class EnvVar(Model):
    """One environment variable of the main container; proxies and SSL_CERT_FILE are set for fetch as well."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: Annotated[str, StringConstraints(max_length=32768)] | None = None
    value_from: Opaque | None = Field(None, description="As in a Pod: secretKeyRef, configMapKeyRef, fieldRef.")


class LocalRef(Model):
    """The name of a Secret in the same namespace."""

    name: ObjectName


class PodTemplate(Model):
    """Merged last into the pods we make; what it sets wins over our defaults."""

    labels: Annotated[dict[LabelKey, Label], Field(max_length=32)] = Field(default_factory=dict)
    annotations: Annotated[dict[LabelKey, Annotated[str, StringConstraints(max_length=4096)]], Field(max_length=32)] = (
        Field(default_factory=dict)
    )
    env: Annotated[list[EnvVar], Field(max_length=64)] = Field(default_factory=list)
    resources: Resources = Field(default_factory=Resources)
    node_selector: Annotated[dict[LabelKey, Label], Field(max_length=32)] = Field(default_factory=dict)
    tolerations: Annotated[list[Opaque], Field(max_length=32)] = Field(default_factory=list)
    affinity: Opaque | None = None
    image_pull_secrets: Annotated[list[LocalRef], Field(max_length=8)] = Field(default_factory=list)
    service_account_name: ObjectName | None = None
    priority_class_name: ObjectName | None = None
    runtime_class_name: ObjectName | None = None


__all__ = ["EnvVar", "Gpu", "Key", "LocalRef", "Opaque", "PodTemplate", "Resources"]
