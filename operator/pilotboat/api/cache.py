"""Where models are kept beyond the life of a pod.

Owns: `model.cache`. Must not know: how files are kept in it (images/fetch), which volume it is (plan/caching.py).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from .base import INSIDE, PRINTABLE, Model, ObjectName, Shape, Size, Status, cel, shaped, validations

FolderPath = Annotated[
    str,
    StringConstraints(min_length=2, max_length=1024),
    *shaped(
        INSIDE,
        Shape(rf"/{PRINTABLE}*", "must be an absolute path without blanks"),
    ),
]


NODE_KEEPS_FREE = 20


class CacheType(StrEnum):
    """Who shares what is kept."""

    EPHEMERAL = "Ephemeral"
    """Nobody: it goes with the pod."""
    CLAIM = "PersistentVolumeClaim"
    """All pods that mount the claim: one copy for all nodes, where its volume can be mounted by all of them."""
    NODE = "Node"
    """All pods of a node: each node has a copy of its own."""


_CLAIM_RULE = cel(
    "!has(self.type) || self.type != 'PersistentVolumeClaim' || (has(self.claimName) && !has(self.path))",
    "type: PersistentVolumeClaim needs claimName, and no path",
)
_NODE_RULE = cel(
    "!has(self.type) || self.type != 'Node' || has(self.claimName) != has(self.path)",
    "type: Node needs path, a folder of each node, or claimName, a claim whose volume is one; not both",
)
_EPHEMERAL_RULE = cel(
    "(has(self.type) && self.type != 'Ephemeral') ||"
    " !(has(self.claimName) || has(self.path) || has(self.size) || has(self.keepFree))",
    "claimName, path, size and keepFree are for type: PersistentVolumeClaim or Node",
)
_SEED_RULE = cel(
    "!has(self.seed) || (has(self.type) && self.type == 'Node')",
    "seed is for type: Node, where each node has a copy of its own",
    ".seed",
)


class Cache(Model, json_schema_extra=validations(_CLAIM_RULE, _NODE_RULE, _EPHEMERAL_RULE, _SEED_RULE)):
    """What is fetched over a network is kept there by its digest, and verified each time it is used."""

    type: CacheType = CacheType.EPHEMERAL
    claim_name: Annotated[ObjectName | None, Field(description="PersistentVolumeClaim of the same namespace.")] = None
    path: Annotated[
        FolderPath | None, Field(description="Folder of each node; group 65532 must be able to write it.")
    ] = None
    size: Annotated[Size | None, Field(description="The most it may take, such as 200Gi; else what there is.")] = None
    keep_free: Annotated[
        int | None,
        Field(
            ge=0,
            le=90,
            description="Per cent of the volume that it leaves free: 20 for type: Node when left out, else 0.",
        ),
    ] = None
    seed: Annotated[
        bool | None,
        Field(
            description="Whether models are brought to every node that replicas may be on, before one is needed there; "
            "true for type: Node when left out."
        ),
    ] = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        claimed, placed = self.claim_name is not None, self.path is not None
        if self.type is CacheType.CLAIM and (not claimed or placed):
            raise ValueError(_CLAIM_RULE["message"])
        if self.type is CacheType.NODE and claimed == placed:
            raise ValueError(_NODE_RULE["message"])
        if self.type is CacheType.EPHEMERAL and (claimed or placed or self.size or self.keep_free is not None):
            raise ValueError(_EPHEMERAL_RULE["message"])
        if self.type is not CacheType.NODE and self.seed is not None:
            raise ValueError(_SEED_RULE["message"])
        return self

    @property
    def kept_free(self) -> int:
        """Per cent of the volume. Kubelet takes its pods away from a node with less than 15 % left for images."""
        if self.keep_free is not None:
            return self.keep_free
        return NODE_KEEPS_FREE if self.type is CacheType.NODE else 0

    @property
    def seeds(self) -> bool:
        """Whether nodes get a copy before a replica is there."""
        return self.type is CacheType.NODE and self.seed is not False


class CacheStatus(Status):
    """Where a model was brought before it is needed there."""

    nodes: int = 0
    """That replicas may be on."""
    seeded: int = 0
    """Of these, that have all of it."""
