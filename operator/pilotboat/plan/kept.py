"""What goes on while new pods cannot be made, because a source is missing: what runs is kept in number, and told truly.

Owns: which revisions are kept, with what share, and whether one still is what the spec asked for. Must not know: what a
source is, how requests get to a revision, what becomes of a canary meanwhile (course.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from ..api import conditions as kinds
from ..api.model_deployment import ModelDeploymentSpec
from ..api.reasons import Reason
from ..api.routing import Lane
from . import build, history, load, outcome, recovery, routes
from .build import Raw, dig
from .course import Course
from .outcome import Cause
from .recovery import Recovery
from .types import Manifest, Observed

GONE = frozenset({Reason.FINE_TUNE_JOB_NOT_FOUND, Reason.CLAIM_NOT_FOUND, Reason.CONFIG_MAP_NOT_FOUND})
"""What is missing was needed to make pods, and is not needed by those that have their copy."""


def revision(observed: Observed) -> str | None:
    """The revision last rolled out whole, where its Deployment is there."""
    current = dig(observed.parent, "status", "currentRevision")
    return current if current and _deployment(observed, current) else None


def scaled(observed: Observed, spec: ModelDeploymentSpec, seen: Recovery, ahead: Course | None) -> list[Manifest]:
    """That revision's Deployment with the replicas asked for now, those in the place of lost ones included.

    Beside a canary all have what `ahead` says; in the middle of any other rollout they stay as they are.
    """
    live = history.by_revision(observed)
    if ahead and ahead.weights:
        counts = ahead.step.others
    else:
        current = revision(observed)
        alone = not any(dig(raw, "spec", "replicas") for name, raw in live.items() if name != current)
        counts = {current: spec.wanted} if current and alone else {}
    resized = (recovery.resized(live[name], count, seen.extra(observed, count, name)) for name, count in counts.items())
    return [manifest for made in resized for manifest in made]


def lanes(observed: Observed, current: str, ahead: Course | None, zones: Mapping[str, int]) -> list[Lane]:
    """Whom requests are sent to: that revision alone, or all as long as it has no pod that serves; beside a canary both
    with their shares. `zones`: who get less traffic."""
    every = routes.revisions(observed, current)
    if ahead and ahead.weights:
        return routes.lanes(observed, every, zones, ahead.weights, ahead.step.ended)
    alone = load.bearing(observed, current, zones)
    return routes.lanes(observed, [current] if alone else every, zones)


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
