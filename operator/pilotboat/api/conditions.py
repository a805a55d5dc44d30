"""KEP-1623 conditions: their type names and how a list of them changes.

Owns: condition types and the rule that lastTransitionTime moves only when status flips. Must not know: what sets them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from .base import Status, Time

AVAILABLE = "Available"
"""The endpoint serves, whatever the revision: what an SRE alerts on."""
READY = "Ready"
"""This generation is rolled out whole and serves: what GitOps waits for."""
PROGRESSING = "Progressing"
SPEC_VALID = "SpecValid"
ARTIFACT_READY = "ArtifactReady"
CACHE_SEEDED = "CacheSeeded"
"""Every node that replicas may be on has the model."""
GATEWAY_READY = "GatewayReady"
"""Traffic goes through the gateway, as asked."""
CANARY_HEALTHY = "CanaryHealthy"
"""Nothing speaks against the canary; Unknown while nothing is known of it."""
ZONES_HEALTHY = "ZonesHealthy"
"""No zone is lost, and lost replicas have others in their place."""
DNS_READY = "DnsReady"
"""This region does its part for the host name it shares with others."""
FEEDBACK_ACCEPTED = "FeedbackAccepted"
"""Applications' outcomes are taken; told once some were refused, because too many came at once."""
DATA_READY = "DataReady"
RUNNING = "Running"
CHECKPOINTED = "Checkpointed"
PUBLISHED = "Published"
SUSPENDED = "Suspended"
COMPLETE = "Complete"
FAILED = "Failed"


class Condition(Status):
    """One metav1.Condition with its own observedGeneration."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    observed_generation: int | None = None
    last_transition_time: Annotated[Time | None, Field(json_schema_extra={"format": "date-time"})] = None


Conditions = Annotated[
    list[Condition],
    Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]


def merge(old: Iterable[Condition], new: Sequence[Condition], now: str) -> list[Condition]:
    """The new conditions, each with the old transition time unless its status flipped; types not in new are dropped."""
    times = {(c.type, c.status): c.last_transition_time for c in old}
    return [c.model_copy(update={"last_transition_time": times.get((c.type, c.status)) or now}) for c in new]


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of that type, or None."""
    return next((c for c in conditions if c.type == kind), None)
