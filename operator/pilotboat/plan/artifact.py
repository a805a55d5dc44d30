"""What is said of the model's files: whether they are there, and what they turned out to be.

Owns: the condition ArtifactReady, status.model, and the commit that all pods of a revision fetch. Must not know: how
files are fetched (images/fetch).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from ..api import conditions as kinds
from ..api.conditions import Condition
from ..api.model_deployment import ModelInfo
from ..api.reasons import Reason
from ..api.runtime import FetchConfig, FetchedItem, FetchResult
from . import build, diagnose, history, notes, outcome, sources
from .build import Raw, dig
from .deployment_view import View
from .outcome import Cause
from .types import Observed

FETCH = "fetch.json"
"""Key of what is fetched, in a revision's ConfigMap."""
COMMIT = re.compile(r"[0-9a-f]{40}")


def condition(view: View) -> Condition:
    if view.held and view.blocked:
        told = f"the pods that were made have their copy; {view.blocked.message}"
        return outcome.told(view.generation, kinds.ARTIFACT_READY, True, None, Reason.FETCHED, told)
    if view.blocked and view.blocked.reason != Reason.INVALID_SPEC:
        return outcome.told(view.generation, kinds.ARTIFACT_READY, False, view.blocked, Reason.FETCHED, "")
    for pod in view.target_pods:
        if (ended := diagnose.ended_container(pod, diagnose.FETCH)) and ended.exit_code == 0:
            report = ended.report
            return outcome.told(
                view.generation, kinds.ARTIFACT_READY, True, None, Reason.FETCHED, report.message if report else ""
            )
    failed = [pod for pod in view.target_pods if _fetch_failed(pod)]
    if failed and (cause := diagnose.cause(failed)):
        return outcome.told(view.generation, kinds.ARTIFACT_READY, False, cause, Reason.FETCHED, "")
    kept = kinds.find(outcome.previous(view.observed.parent), kinds.ARTIFACT_READY)
    same = view.spec is None or dig(view.observed.parent, "status", "updateRevision") == view.target
    if kept and kept.status == "True" and same:
        return kept.model_copy(update={"observed_generation": view.generation})
    return outcome.told(view.generation, kinds.ARTIFACT_READY, False, _not_fetched(view), Reason.FETCHED, "")


def _not_fetched(view: View) -> Cause:
    """What the fetch waits for, where it has neither ended well nor badly."""
    if view.blocked is None and view.want == 0:
        return Cause(Reason.SCALED_TO_ZERO, "nothing is fetched while spec.replicas is 0")
    waits = diagnose.cause(view.target_pods) or Cause(Reason.STARTING, "no pod fetches the model yet")
    return view.blocked or outcome.refused(view.observed.rejected) or view.not_created or waits


def _fetch_failed(pod: Raw) -> bool:
    ended = diagnose.ended_container(pod, diagnose.FETCH)
    return ended is not None and ended.exit_code != 0


def model(view: View) -> ModelInfo | None:
    """The model as resolved by the fetch container of this revision, kept once known."""
    known = dig(view.observed.parent, "status", "model")
    if view.spec is None:
        return outcome.read(ModelInfo, known)
    described = sources.describe(view.spec.model.source)
    if item := _fetched(view):
        engine = notes.engine(view.spec, item.digests)
        return ModelInfo(source=described, engine=engine, revision=item.revision, digests=item.digests)
    same = dig(view.observed.parent, "status", "updateRevision") == view.target
    kept = (outcome.read(ModelInfo, known) if same else None) or ModelInfo()
    return kept.model_copy(update={"source": described, "engine": kept.engine or view.spec.engine.type})


def commit(observed: Observed, revision: str) -> str | None:
    """Where a hub's model was found by the first pod of a revision: a pod that is made later serves no other.

    It stands in the revision's ConfigMap from then on, which outlives the pods. A pod's own word comes first, for a
    ConfigMap may be edited by hand; of two pods that began before either was heard, what stands there already counts.
    """
    found = (item.revision for item in _reported(build.of_revision(observed.pods, revision)) if item.revision)
    held = _held(build.named(observed.children, "ConfigMap", f"{observed.parent['metadata']['name']}-{revision}"))
    first = next(found, held)
    return first if held is None or first == held or held not in found else held


def _held(raw: Raw | None) -> str | None:
    """The commit in a revision's ConfigMap: there is none while it holds what the user wrote, a branch for one."""
    try:
        items = FetchConfig.load(dig(raw, "data", FETCH) or "").items
    except ValidationError:
        return None
    named = (each.hugging_face.revision for each in items if each.name == sources.MODEL and each.hugging_face)
    return next((revision for revision in named if COMMIT.fullmatch(revision)), None)


def fetched(observed: Observed, revision: str) -> bool:
    """Whether a pod of the revision has fetched its model."""
    ends = (diagnose.ended_container(pod, diagnose.FETCH) for pod in build.of_revision(observed.pods, revision))
    return any(ended is not None and ended.exit_code == 0 for ended in ends)


def _fetched(view: View) -> FetchedItem | None:
    return next(_reported(view.target_pods), None)


def _reported(pods: Iterable[Raw]) -> Iterator[FetchedItem]:
    """What the fetch containers say of the model, the eldest pod's first."""
    for pod in sorted(pods, key=history.age):
        ended = diagnose.ended_container(pod, diagnose.FETCH)
        if ended and ended.exit_code == 0 and ended.report:
            result = outcome.read(FetchResult, ended.report.result)
            if result and sources.MODEL in result.items:
                yield result.items[sources.MODEL]
