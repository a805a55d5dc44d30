"""Spare replicas that make room for a rollout which finds none.

Owns: when they do so, and for how long. Must not know: how replicas shift (rollout.py, capacity.py).

They do it from when room was waited for in vain until the rollout is over, which status.sparesLent remembers: a pass
that went by the room there is just then would take back what the one before gave.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from ..api.model_deployment import ModelDeploymentSpec
from . import diagnose, outcome
from .build import component, condition, dig, elapsed, timestamp
from .pods import GRACE_SECONDS
from .routes import SERVER
from .types import Observed

PATIENCE = GRACE_SECONDS + 30.0
"""Seconds that room is waited for: a pod that ends holds its own for most of them."""


def lent(observed: Observed, spec: ModelDeploymentSpec, rolling: bool, now: datetime) -> str | None:
    """Since when they make room; None where they need not."""
    if not rolling or spec.wanted == spec.replicas:
        return None
    known = outcome.time(dig(observed.parent, "status", "sparesLent"))
    return known or (timestamp(now) if any(in_vain(since, now) for since in _waiting(observed)) else None)


def in_vain(since: str, now: datetime) -> bool:
    """Whether room has been waited for since then long enough."""
    return elapsed(since, now) >= PATIENCE


def look_again(observed: Observed, spec: ModelDeploymentSpec, since: str | None, now: datetime) -> timedelta | None:
    """When time alone changes that; `since`: what lent() said."""
    waits = [*_waiting(observed), *([since] if since else [])] if spec.wanted > spec.replicas else []
    ahead = [left for each in waits if (left := PATIENCE - elapsed(each, now)) > 0]
    return timedelta(seconds=min(ahead) + 0.5) if ahead else None


def _waiting(observed: Observed) -> Iterable[str]:
    """Since when each replica without room has had none."""
    starved = (pod for pod in observed.pods if diagnose.starved(pod) and component(pod) == SERVER)
    return (since for pod in starved if (since := dig(condition(pod, "PodScheduled"), "lastTransitionTime")))
