"""Earlier revisions: which are kept, so that one can be returned to, and which go.

Owns: how a revision is found among the children, and how many are remembered. Must not know: why one would return.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..api.reasons import Reason
from . import build
from .build import Raw, dig
from .outcome import Cause
from .rollout import Step
from .types import Observed


def revision_of(parent: Raw, child: Raw) -> str:
    """The revision a child is for, by its name: its labels anyone may edit."""
    return str(child["metadata"]["name"]).removeprefix(f"{parent['metadata']['name']}-")


def by_revision(observed: Observed) -> dict[str, Raw]:
    """The Deployments there are, oldest first."""
    found = sorted(build.of_kind(observed.children, "Deployment"), key=age)
    return {revision_of(observed.parent, raw): raw for raw in found}


def over(live: Mapping[str, Raw], wanted: str, step: Step, kept: int) -> set[str]:
    """Of the Deployments by revision those that have ended, down to their last pod, beyond the newest that are kept."""
    ended = [
        revision
        for revision, raw in live.items()
        if revision != wanted and step.others.get(revision) == 0 and not dig(raw, "status", "replicas")
    ]
    return set(ended[: max(0, len(ended) - kept)])


def missing(wanted: str, known: Iterable[str]) -> Cause:
    """That a revision to return to is not there."""
    names = ", ".join(known) or "none"
    return Cause(Reason.REVISION_NOT_FOUND, f"spec.rollout.rollbackTo: {wanted} is not kept; there is {names}")


def age(raw: Raw) -> tuple[str, str]:
    """What sorts objects by age, the oldest first."""
    return (build.made(raw), raw["metadata"]["name"])
