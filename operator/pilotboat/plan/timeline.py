"""When a loss was found, its traffic moved, its replacement made, and all whole again.

Owns: Fault: how it is begun and how its times are read off gateways and pods. Must not know: who tells it.

Times are those of the API server and of kubelets, as pods have them, and of the gateways: whole seconds. How long it
warmed up says a server itself, by way of a gateway.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from ..api.reasons import Reason
from ..api.recovery import Fault, RecoveryStatus, Split, ZoneState, ZoneStatus
from . import diagnose
from .build import Raw, condition, dig, made, parsed, timestamp
from .losses import Losses, sights
from .types import Observed


def detected(
    lost: Losses,
    zones: Sequence[ZoneStatus],
    known: RecoveryStatus,
    known_zones: Sequence[ZoneStatus],
    observed: Observed,
    want: int,
    rolling: bool,
    now: datetime,
) -> Fault | None:
    """A loss that status does not tell of yet. A zone's takes the place of its nodes'."""
    was_lost = {zone.name for zone in known_zones if zone.state is ZoneState.LOST}
    for zone in zones:
        if zone.state is ZoneState.LOST and zone.name not in was_lost:
            since = min((n.since for n in lost.nodes if n.zone == zone.name and n.counted), default=zone.since)
            return Fault(fault=Reason.ZONE_LOST, subject=f"zone {zone.name}", replicas=zone.failing, detected_at=since)
    counted = {node.name for node in known.nodes if node.counted}
    for node in lost.nodes:
        if node.counted and node.name not in counted:
            subject = f"node {node.name}"
            return Fault(fault=node.fault, subject=subject, replicas=len(node.pods), detected_at=node.since)
    return None if rolling or lost.failing else _of_a_pod(known, observed, want, now)


def _of_a_pod(known: RecoveryStatus, observed: Observed, want: int, now: datetime) -> Fault | None:
    """Fewer replicas serve than when status was written, and it was whole then."""
    whole = str(dig(observed.parent, "status", "ready")).startswith(f"{want}/") and want > 0
    open_fault = known.last is not None and known.last.ready_at is None
    missing = want - sum(diagnose.ready(pod) for pod in observed.pods)
    if not whole or open_fault or missing <= 0:
        return None
    for pod in observed.pods:
        if diagnose.ready(pod):
            continue
        name = pod["metadata"]["name"]
        if not diagnose.lasting(pod):
            return Fault(fault=Reason.POD_LOST, subject=f"pod {name}", replicas=missing, detected_at=timestamp(now))
        ended = [e for e in diagnose.endings(pod) if e.container != diagnose.FETCH]
        if ended and (dig(pod, "status", "phase") == "Running"):
            at = max(e.finished_at for e in ended) or timestamp(now)
            return Fault(fault=Reason.PROCESS_DIED, subject=f"pod {name}", replicas=missing, detected_at=at)
        if dig(pod, "status", "phase") == "Running" and _was_ready(pod):
            subject = f"pod {name}"
            return Fault(fault=Reason.POD_UNREADY, subject=subject, replicas=missing, detected_at=timestamp(now))
    return Fault(fault=Reason.POD_LOST, subject="a pod", replicas=missing, detected_at=timestamp(now))


def _was_ready(pod: Raw) -> bool:
    """A pod that never was ready has been so since it was made."""
    said = condition(pod, "Ready")
    return bool(said) and dig(said, "lastTransitionTime") != dig(pod, "metadata", "creationTimestamp")


def followed(fault: Fault, lost: Losses, observed: Observed, want: int, now: datetime) -> Fault:
    """The fault with what has become known of it since."""
    moved = fault.traffic_moved_at or _moved(fault, lost, observed)
    since = parsed(fault.detected_at) or now
    new = [pod for pod in observed.pods if (born := parsed(made(pod))) and born >= since]
    replaced = fault.replaced_at or min(map(made, new), default=None)
    changes: dict[str, object] = {"traffic_moved_at": moved, "replaced_at": replaced}
    ready = [pod for pod in observed.pods if diagnose.ready(pod)]
    if len(ready) >= want:
        last = max(ready, key=_ready_at, default=None)
        at = max(_ready_at(last), fault.detected_at) if last else timestamp(now)
        fresh = last if last and _ready_at(last) >= fault.detected_at else None  # else spares took it up
        changes |= {"ready_at": at, "seconds": _split(fresh, observed) if fresh else None}
    return fault.model_copy(update=changes)


def _moved(fault: Fault, lost: Losses, observed: Observed) -> str | None:
    """When the last gateway took the last lost replica out."""
    seen = sights(observed, parsed(fault.detected_at))
    downs = [seen[name].down_since for name in lost.pods if name in seen and not seen[name].up]
    if not downs or len(downs) < len(lost.pods):
        return None
    return timestamp(datetime.fromtimestamp(max(downs), UTC))


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


def _between(before: datetime | None, after: datetime | None) -> float | None:
    return max(0.0, (after - before).total_seconds()) if before and after else None


def _container(pod: Raw, field: str) -> Raw:
    return next(iter(dig(pod, "status", field) or ()), {})


def _transition(pod: Raw, kind: str) -> str | None:
    found: str | None = dig(condition(pod, kind), "lastTransitionTime")
    return found


def _ready_at(pod: Raw) -> str:
    return _transition(pod, "Ready") or ""
