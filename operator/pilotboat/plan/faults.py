"""Which losses are told of: what was found now beside what is not over yet, and what is part of what.

Owns: how a Fault begins, and that none is told twice. Must not know: what becomes of it (timeline.py), who tells it.

A node's loss takes the place of its pods', and a zone's that of its nodes', where those are not over; where they are,
the zone took nothing more. What goes, comes and goes again before all is whole is one loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from ..api.reasons import Reason
from ..api.recovery import Fault, LostNode, RecoveryStatus, ZoneState, ZoneStatus
from . import ceased, diagnose
from .build import Raw, dig, elapsed, timestamp
from .losses import Losses, failing
from .types import Observed

MOST = 8
"""Losses that are kept apart: of more than these the oldest are told together."""

AT_ONCE = 60.0
"""Seconds within which a node's replicas are lost with it. Those that served on for longer are lost by themselves:
a node may be silent, or have a device that is out of order, for days."""

POD = "pod "
"""How the subject of the loss of one pod begins."""

NAMELESS = "a pod"
"""Subject of the loss of pods that were gone before we saw them go."""


def going_on(
    lost: Losses,
    zones: Sequence[ZoneStatus],
    known: RecoveryStatus,
    known_zones: Sequence[ZoneStatus],
    observed: Observed,
    want: int,
    rolling: bool,
    now: datetime,
) -> list[Fault]:
    """Losses that are not over as far as status knows, and those that it does not tell of yet; the newest last."""
    found = [*_of_nodes(lost, known, observed, want, now)]
    if not rolling:
        found += _of_pods(lost, known, observed, want, now)
    told = known.open
    for fault in (*found, *_of_zones(zones, known_zones)):
        told = _with(told, fault, lost.nodes)
    while len(told) > MOST:
        first, second, *rest = told
        told = [first.model_copy(update={"replicas": first.replicas + second.replicas}), *rest]
    return told


def parts(subject: str, nodes: Sequence[LostNode]) -> frozenset[str]:
    """Subjects of which the loss of this one is made up: itself, and the nodes and pods in it."""
    within = [node for node in nodes if subject in (f"zone {node.zone}", f"node {node.name}")]
    return frozenset(
        {subject} | {f"node {node.name}" for node in within} | {_of(name) for node in within for name in node.pods}
    )


def _of(pod: str) -> str:
    return f"{POD}{pod}"


def _with(told: Sequence[Fault], new: Fault, nodes: Sequence[LostNode]) -> list[Fault]:
    """One more, unless it is part of another; it was found when the first of those in whose place it is were."""
    if new.subject != NAMELESS and any(new.subject in parts(each.subject, nodes) for each in told):
        return list(told)
    within = parts(new.subject, nodes) - {NAMELESS}
    taken = [each for each in told if each.subject in within]
    if new.fault == Reason.ZONE_LOST and not taken:
        return list(told)
    since = min(each.detected_at for each in (new, *taken))
    return [*(each for each in told if each not in taken), new.model_copy(update={"detected_at": since})]


def _of_zones(zones: Sequence[ZoneStatus], known: Sequence[ZoneStatus]) -> Iterator[Fault]:
    before = {zone.name for zone in known if zone.state is ZoneState.LOST}
    for zone in zones:
        if zone.state is ZoneState.LOST and zone.name not in before:
            subject = f"zone {zone.name}"
            yield Fault(fault=Reason.ZONE_LOST, subject=subject, replicas=zone.failing, detected_at=zone.since)


def _of_nodes(lost: Losses, known: RecoveryStatus, observed: Observed, want: int, now: datetime) -> Iterator[Fault]:
    """One whose replicas served again and are not trusted yet has stand-ins still: lost again, they are a loss where
    those are too few."""
    before = {node.name: node for node in known.nodes if node.counted}
    short = _serving(observed) < want
    for node in filter(failing, lost.nodes):
        old = before.get(node.name)
        if old is None or (short and failing(node) - failing(old)):
            late = elapsed(node.since, now) > AT_ONCE or (old is not None and old.well_since is None)
            at = timestamp(now) if late else node.since
            subject = f"node {node.name}"
            yield Fault(fault=node.fault, subject=subject, replicas=len(node.pods), detected_at=at)


def _of_pods(lost: Losses, known: RecoveryStatus, observed: Observed, want: int, now: datetime) -> Iterator[Fault]:
    """Fewer replicas serve than status says, and that was all of them, or a loss is told of; nodes took the others."""
    told = {fault.subject: fault for fault in known.open}
    served = min(dig(observed.parent, "status", "readyReplicas") or 0, want)
    if served < want and not told:
        return
    with_nodes = lost.failing - Losses(tuple(known.nodes)).failing
    missing = served - _serving(observed) - sum(_of(name) not in told for name in with_nodes)
    for pod in sorted(observed.pods, key=_went, reverse=True):
        found = _ended(pod, now) if pod["metadata"]["name"] not in lost.failing else None
        if missing > 0 and found and _is_news(found, told.get(found.subject)):
            missing -= 1
            yield found
    if missing > 0:
        yield Fault(fault=Reason.POD_LOST, subject=NAMELESS, replicas=missing, detected_at=timestamp(now))


def _serving(observed: Observed) -> int:
    return sum(map(diagnose.ready, observed.pods))


def _is_news(found: Fault, told: Fault | None) -> bool:
    """Who is told of may have come back meanwhile, and gone again."""
    return told is None or (found.fault != Reason.POD_LOST and found.detected_at > told.detected_at)


def _went(pod: Raw) -> str:
    """When it ceased to serve, or was told to."""
    gone_by, grace = (dig(pod, "metadata", each) for each in ("deletionTimestamp", "deletionGracePeriodSeconds"))
    if gone_by:
        return timestamp(datetime.fromisoformat(gone_by) - timedelta(seconds=grace or 0))
    return ceased.unready_since(pod)


def _ended(pod: Raw, now: datetime) -> Fault | None:
    """The loss of this one; None of one that serves, or never did."""
    if (told := ceased.how(pod, now)) is None:
        return None
    return Fault(fault=told[0], subject=_of(pod["metadata"]["name"]), detected_at=told[1])
