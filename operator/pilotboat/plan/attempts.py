"""The pods of a FineTuneJob, one after another: which of them is lost, and what became of each.

A pod is lost where its node is not heard of (or, where nodes may not be seen, the control plane has taken its readiness
away though every container was ready), or where it should have ended long ago and nobody says that it has. The Job
controller waits for such a pod for ever, for it counts a pod only once it is over. Lost is no proof: the pod may go on
training. So it is not killed by force; its successor claims the checkpoints, and the pod finds itself superseded.
While more than half of all nodes are not heard of at once it is more likely that the control plane is cut off: a pod on
one of them is `unjudged`, and trains on undisturbed.

Owns: when a pod counts as lost, and status.attempts. Must not know: what is done about a loss (finetune.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..api.finetune_job import MAX_ATTEMPTS, Attempt
from ..api.reasons import Reason
from . import build, diagnose, outcome
from .build import Raw, dig
from .nodes import WATCHFUL, hears_of_few
from .outcome import Cause
from .types import Node

PATIENCE = timedelta(seconds=10)
"""From the moment a node is told as not heard of, which is 40 to 55 s after its last sign: it may be back at once."""

OVERDUE = timedelta(seconds=30)
"""From the end of a pod's own grace period: kubelet ends containers by force then, and says so."""

MAX_MESSAGE = 300
ENDED = ("Failed", "Succeeded")


@dataclass(frozen=True)
class Loss:
    """A pod that nobody hears of."""

    pod: str
    since: str
    message: str


def lost(pod: Raw, nodes: Mapping[str, Node], now: datetime, known: Mapping[str, Attempt]) -> Loss | None:
    """Whether nobody will say how that pod ends, and since when. One that was given up and asked to go stays lost."""
    threat = _threat(pod, nodes)
    if threat is None:
        return None
    name = pod["metadata"]["name"]
    if is_told(known, name) and dig(pod, "metadata", "deletionTimestamp"):
        return Loss(name, known[name].end_time or threat[0], known[name].message or "")
    return None if _cut_off(pod, nodes) else _given_up(pod, threat, now)


def unjudged(pod: Raw, nodes: Mapping[str, Node], now: datetime, known: Mapping[str, Attempt]) -> Loss | None:
    """A pod that would be lost, were more nodes heard of; the message says so."""
    threat, why = _threat(pod, nodes), _cut_off(pod, nodes)
    found = _given_up(pod, threat, now) if threat and why and not lost(pod, nodes, now, known) else None
    told = "that is more likely the observer's fault; no other pod is made until half of them are heard of"
    return replace(found, message=f"{found.message}; {why}: {told}") if found else None


def look_again(pods: Iterable[Raw], nodes: Mapping[str, Node], now: datetime) -> timedelta | None:
    """When the first of the pods will count as lost, if nothing is heard until then, or may do so by another's news."""
    threats = [found for pod in pods if (found := _threat(pod, nodes))]
    ahead = [datetime.fromisoformat(since) + patience - now for since, patience in threats]
    waits = [wait if wait > timedelta() else WATCHFUL for wait in ahead if wait > timedelta() or hears_of_few(nodes)]
    return min(waits, default=None)


def _given_up(pod: Raw, threat: tuple[str, timedelta], now: datetime) -> Loss | None:
    since, patience = threat
    if now < datetime.fromisoformat(since) + patience:
        return None
    name, node = pod["metadata"]["name"], dig(pod, "spec", "nodeName")
    return Loss(name, since, f"node {node} with pod {name} is not heard of since {since}")


def _cut_off(pod: Raw, nodes: Mapping[str, Node]) -> str | None:
    """Why the silence of the pod's node says nothing of it; a node that is deleted is no silence."""
    node = nodes.get(dig(pod, "spec", "nodeName"))
    return hears_of_few(nodes) if node and node.lost else None


def _threat(pod: Raw, nodes: Mapping[str, Node]) -> tuple[str, timedelta] | None:
    """Since when there is something wrong, and how long that may last."""
    if dig(pod, "status", "phase") in ENDED or not dig(pod, "spec", "nodeName"):
        return None
    if ending := dig(pod, "metadata", "deletionTimestamp"):
        return ending, OVERDUE
    node = nodes.get(dig(pod, "spec", "nodeName"))
    silent = build.timestamp(node.since) if node and node.since and not node.ready else None
    since = silent or diagnose.unheard_since(pod)
    return (since, PATIENCE) if since else None


def told(parent: Raw) -> dict[str, Attempt]:
    """What status says already, by pod."""
    return {attempt.pod: attempt for attempt in outcome.read_all(Attempt, dig(parent, "status", "attempts"))}


def record(
    known: Mapping[str, Attempt], pods: Iterable[Raw], nodes: Mapping[str, Node], now: datetime
) -> list[Attempt]:
    """The last pods: those there are as they are, earlier ones as they were told before.

    Times have no fractions: of two that began in the same second, the one that was told before came before."""
    there = {attempt.pod: attempt for attempt in (_attempt(pod, nodes, now, known) for pod in pods)}
    earlier = {name: there.get(name) or _gone(attempt, now) for name, attempt in known.items()}
    later = {name: there[name] for name in sorted(there.keys() - known.keys())}
    ordered = sorted({**earlier, **later}.values(), key=lambda attempt: attempt.start_time or "")
    return ordered[-MAX_ATTEMPTS:]


def last_loss(known: Iterable[Attempt]) -> Cause | None:
    """Why the latest pod of all is no more, where its node was lost."""
    latest = list(known)[-1:]
    return next((Cause(Reason.NODE_LOST, a.message or "") for a in latest if a.reason == Reason.NODE_LOST), None)


def is_told(known: Mapping[str, Attempt], pod: str) -> bool:
    """Whether status says already that this pod is lost."""
    return pod in known and known[pod].reason == Reason.NODE_LOST


def _attempt(pod: Raw, nodes: Mapping[str, Node], now: datetime, known: Mapping[str, Attempt]) -> Attempt:
    meta = pod["metadata"]
    made = Attempt(
        pod=meta["name"],
        node=dig(pod, "spec", "nodeName"),
        start_time=meta.get("creationTimestamp") or dig(pod, "status", "startTime"),
    )
    if loss := lost(pod, nodes, now, known):
        return _ended(made, loss.since, Cause(Reason.NODE_LOST, loss.message))
    if dig(pod, "status", "phase") not in ENDED:
        return made
    endings = list(diagnose.endings(pod))
    last = max(endings, key=lambda ended: (ended.exit_code != 0, ended.finished_at), default=None)
    if last is None:
        return _ended(made, None, diagnose.cause([pod]) or Cause(Reason.POD_DELETED, ""))
    return _ended(made, last.finished_at or None, _why(pod, last))


def _why(pod: Raw, last: diagnose.Ended) -> Cause:
    """In the container's own words where it left some: a checkpoint saved at SIGTERM is no failure. Else in those of
    kubelet, where it was kubelet that ended the pod: the container's exit code says only that it was killed."""
    said = last.report
    if said and said.reason in set(Reason):
        return Cause(Reason(said.reason), said.message)
    if dig(pod, "status", "reason") and (evicted := diagnose.cause([pod])):
        return evicted
    return diagnose.explain(last) if last.exit_code else Cause(Reason.TRAINED, "")


def _gone(attempt: Attempt, now: datetime) -> Attempt:
    """A pod that is not there any more and of which no end was told."""
    if attempt.reason:
        return attempt
    return _ended(attempt, build.timestamp(now), Cause(Reason.POD_DELETED, "how it ended was not heard of"))


def _ended(attempt: Attempt, at: str | None, why: Cause) -> Attempt:
    words = why.message[:MAX_MESSAGE] or None
    return attempt.model_copy(update={"end_time": at, "reason": str(why.reason), "message": words})
