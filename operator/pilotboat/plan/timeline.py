"""When a loss's traffic moved, its replacement was made, and all was whole again.

Owns: how a Fault's times are read off gateways and pods. Must not know: which losses there are (faults.py), who tells
of them.

Times are those of the API server and of kubelets, as pods have them, and of the gateways: whole seconds. How long it
warmed up says a server itself, by way of a gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from ..api.reasons import Reason
from ..api.recovery import Fault, LostNode, Split
from . import diagnose
from .build import Raw, condition, dig, made, parsed, timestamp
from .faults import POD, parts
from .types import Observed


def followed(
    faults: Sequence[Fault], nodes: Sequence[LostNode], observed: Observed, want: int, now: datetime
) -> list[Fault]:
    """Losses that go on, with what has become known of them since: all are over when all is whole, and not before.

    Each is told of a replacement of its own, the newest of the one that came last.
    """
    ready = sorted(filter(diagnose.ready, observed.pods), key=_ready_at)
    told = [_with_moves(fault, nodes, observed) for fault in faults]
    if len(ready) < want:
        return told
    over = []
    whole_at, starts = _ready_at(ready[-1]) if ready else timestamp(now), list(ready)
    for fault in reversed(told):
        start = next((pod for pod in reversed(starts) if _began(pod) >= fault.detected_at), None)
        if start is not None:
            starts.remove(start)
        seconds = _split(start, observed) if start is not None else None
        over.append(fault.model_copy(update={"ready_at": max(whole_at, fault.detected_at), "seconds": seconds}))
    return over[::-1]


def waits_for_gateways(fault: Fault) -> bool:
    """Whether it is a pod's, and gateways have not said yet that they send it nothing more."""
    return fault.traffic_moved_at is None and fault.subject.startswith(POD)


def _with_moves(fault: Fault, nodes: Sequence[LostNode], observed: Observed) -> Fault:
    moved = fault.traffic_moved_at or _moved(fault, nodes, observed)
    replaced = fault.replaced_at or min(
        (at for at in map(made, _elsewhere(observed.pods, nodes)) if at >= fault.detected_at), default=None
    )
    return fault.model_copy(update={"traffic_moved_at": moved, "replaced_at": replaced})


def _elsewhere(pods: Iterable[Raw], nodes: Sequence[LostNode]) -> Iterator[Raw]:
    """Pods with a place where they can start: Kubernetes may give one to a node of whose loss it does not know yet."""
    lost = {node.name for node in nodes if node.fault == Reason.NODE_LOST and node.well_since is None}
    return (pod for pod in pods if (place := dig(pod, "spec", "nodeName")) and place not in lost)


def _moved(fault: Fault, nodes: Sequence[LostNode], observed: Observed) -> str | None:
    """When the last gateway took the last of the replicas out.

    With a node a gateway may be lost, for whose word nobody waits; of a pod each one must have told.
    """
    least = max(1, observed.gateway.replicas) if fault.subject.startswith(POD) else 1
    names = [each.removeprefix(POD) for each in parts(fault.subject, nodes) if each.startswith(POD)]
    taken_out = [_taken_out(name, observed, fault.detected_at) for name in names]
    if not names or any(len(times) < least for times in taken_out):
        return None
    return timestamp(datetime.fromtimestamp(max(map(max, taken_out)), UTC))


def _taken_out(pod: str, observed: Observed, since: str) -> list[float]:
    """When each gateway that has answered since then took it out; nothing while one of them reaches it."""
    after = datetime.fromisoformat(since)
    heard = [each for each, at in zip(observed.evidence, observed.evidence_at, strict=True) if at >= after]
    seen = [each.replicas[pod] for each in heard if pod in each.replicas]
    if any(each.up for each in seen):
        return []
    gone = [each.left[pod] for each in heard if pod in each.left and pod not in each.replicas]
    return [*gone, *(each.since for each in seen)]


def _split(pod: Raw, observed: Observed) -> Split:
    """Where a replacement's time went. One that was started anew in its place has only loaded and warmed up."""
    began_at, placed = parsed(made(pod)), parsed(_transition(pod, "PodScheduled"))
    fetch, main = _container(pod, "initContainerStatuses"), _container(pod, "containerStatuses")
    began, done = (
        parsed(dig(fetch, "state", "terminated", "startedAt")),
        parsed(dig(fetch, "state", "terminated", "finishedAt")),
    )
    started, ready = parsed(dig(main, "state", "running", "startedAt")), parsed(_ready_at(pod))
    load, warm = _between(started, ready), observed.warmed.get(pod["metadata"]["name"])
    if load is not None and warm is not None:
        load = round(max(0.0, load - warm), 3)
    if dig(main, "restartCount"):
        return Split(load=load, warm=warm)
    pulls = [wait for wait in (_between(placed, began), _between(done, started)) if wait is not None]
    return Split(
        schedule=_between(began_at, placed),
        pull=sum(pulls) if pulls else None,
        fetch=_between(began, done),
        load=load,
        warm=warm,
    )


def _began(pod: Raw) -> str:
    """When it was made, or last started anew in its place."""
    main = _container(pod, "containerStatuses")
    return dig(main, "state", "running", "startedAt") or "" if dig(main, "restartCount") else made(pod)


def _between(before: datetime | None, after: datetime | None) -> float | None:
    return max(0.0, (after - before).total_seconds()) if before and after else None


def _container(pod: Raw, field: str) -> Raw:
    return next(iter(dig(pod, "status", field) or ()), {})


def _transition(pod: Raw, kind: str) -> str | None:
    found: str | None = dig(condition(pod, kind), "lastTransitionTime")
    return found


def _ready_at(pod: Raw) -> str:
    return _transition(pod, "Ready") or ""
