"""What goes on while new pods cannot be made, because a source is missing: what runs is kept in number, and told truly.

Owns: which revision is kept, and whether it still is what the spec asked for. Must not know: what a source is, how
requests get to a revision.
"""

from __future__ import annotations

from ..api import conditions as kinds
from ..api.model_deployment import ModelDeploymentSpec
from ..api.reasons import Reason
from . import build, diagnose, outcome, recovery, routes
from .build import Raw, dig
from .outcome import Cause
from .types import Manifest, Observed

GONE = frozenset({Reason.FINE_TUNE_JOB_NOT_FOUND, Reason.CLAIM_NOT_FOUND, Reason.CONFIG_MAP_NOT_FOUND})
"""What is missing was needed to make pods, and is not needed by those that have their copy."""


def revision(observed: Observed) -> str | None:
    """The revision last rolled out whole, where its Deployment is there."""
    current = dig(observed.parent, "status", "currentRevision")
    return current if current and _deployment(observed, current) else None


def scaled(observed: Observed, spec: ModelDeploymentSpec, extra: int) -> list[Manifest]:
    """That revision's Deployment with the replicas asked for now, and `extra` in the place of lost ones.

    In the middle of a rollout all stay as they are.
    """
    current = revision(observed)
    live = _deployment(observed, current) if current else None
    others = [raw for raw in build.of_kind(observed.children, "Deployment") if raw is not live]
    if live is None or any(dig(raw, "spec", "replicas") for raw in others):
        return []
    return recovery.resized(live, spec.wanted, extra)


def serving(observed: Observed, current: str) -> list[str]:
    """The revisions to send requests to: that one alone, or all as long as it has no pod that serves."""
    mine = build.of_revision(observed.pods, current)
    return [current] if any(map(diagnose.ready, mine)) else routes.revisions(observed, current)


def whole(observed: Observed, blocked: Cause | None) -> str | None:
    """The revision, where it was made from this very generation: its model was fetched, only its source is gone.

    The condition ArtifactReady remembers that, so a changed spec is never taken for one that is rolled out.
    """
    if blocked is None or blocked.reason not in GONE:
        return None
    fetched = kinds.find(outcome.previous(observed.parent), kinds.ARTIFACT_READY)
    same = fetched and fetched.observed_generation == dig(observed.parent, "metadata", "generation")
    current = revision(observed)
    if not fetched or not same or fetched.status != "True":
        return None
    return current if current == dig(observed.parent, "status", "updateRevision") else None


def _deployment(observed: Observed, revision: str) -> Raw | None:
    """By its name: its labels anyone may edit."""
    return build.named(observed.children, "Deployment", f"{observed.parent['metadata']['name']}-{revision}")
