"""What is lost of a ModelDeployment, what stands in for it, and what is told of that.

Owns: status.recovery and status.zones from one pass to the next, the condition ZonesHealthy, and the events of a loss
in order. Must not know: how losses (losses.py, faults.py), zones (zones.py) and times (timeline.py) are found,
Deployments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ..api import conditions as kinds
from ..api import labels
from ..api.conditions import Condition
from ..api.model_deployment import ModelDeploymentSpec
from ..api.reasons import Reason
from ..api.recovery import RecoveryStatus, ZoneState, ZoneStatus
from ..api.rollout import RolloutStatus
from ..api.traffic import Traffic
from . import build, capacity, census, diagnose, faults, losses, nodes, outcome, readiness, timeline, zones
from .build import Raw, dig
from .load import Load
from .losses import Losses
from .outcome import Cause
from .types import Event, Manifest, Observed

RECENT = timedelta(seconds=15)
"""Age at which a gateway's word on who serves is none any more: it is asked every three seconds while that matters, and
one that is gone says nothing new."""


@dataclass(frozen=True)
class Recovery:
    """What is lost now."""

    losses: Losses = field(default_factory=Losses)
    zones: tuple[ZoneStatus, ...] = ()
    known: RecoveryStatus = field(default_factory=RecoveryStatus)
    """What status says so far."""
    known_zones: tuple[ZoneStatus, ...] = ()
    look_again: timedelta | None = None

    def extra(self, observed: Observed, replicas: int, revision: str | None = None) -> int:
        """Replicas above those asked for, of one revision or of all."""
        found = observed.pods if revision is None else build.of_revision(observed.pods, revision)
        return self.losses.stand_ins(found, replicas)

    def believed(self, observed: Observed) -> Observed:
        """The same without the readiness of lost replicas, in which Kubernetes believes for most of a minute."""
        lost = self.losses.failing
        pods = (readiness.lost(pod) if pod["metadata"]["name"] in lost else pod for pod in observed.pods)
        return replace(observed, pods=tuple(pods)) if lost else observed

    def uneven(self, through: bool) -> Mapping[str, int]:
        """Zones whose replicas get less than their share; unless requests go `through` our gateways nobody makes it
        so."""
        return self.zone_weights if through else {}

    @property
    def zone_weights(self) -> dict[str, int]:
        """Zones whose replicas are to get less than their share."""
        return zones.weights(self.zones)

    @property
    def remembered(self) -> list[ZoneStatus] | None:
        """The zones that status shows: all of them, as soon as one is or was not well."""
        if any(zone.state is not ZoneState.HEALTHY or zone.losses for zone in self.zones):
            return list(self.zones)
        return None


def look(observed: Observed, spec: ModelDeploymentSpec, asks: bool, now: datetime) -> Recovery:
    """What is lost now. `asks`: this deployment's requests go through gateways that can tell who serves."""
    known = outcome.read(RecoveryStatus, dig(observed.parent, "status", "recovery")) or RecoveryStatus()
    known_zones = tuple(outcome.read_all(ZoneStatus, dig(observed.parent, "status", "zones")))
    observed = observed if _uses_devices(spec) else _without_device_faults(observed)
    uneven = zones.weights(known_zones) if asks else ()
    lost = losses.look(observed, known.nodes, spec.zones.failback.after_seconds, asks, now, uneven)
    seen, failing = losses.sights(observed, now - RECENT), lost.failing | lost.unjudged
    world = census.count(observed.pods, observed.nodes, failing, seen, _load(observed, spec))
    states = zones.look(known_zones, spec.zones, world, now) if observed.nodes else known_zones
    again = [wait for wait in (lost.look_again, zones.look_again(states, spec.zones, now)) if wait]
    unwell = any(zone.state is not ZoneState.HEALTHY for zone in (*known_zones, *states))
    if unwell or any(not node.well_since for node in lost.nodes):
        again.append(nodes.WATCHFUL)
    return Recovery(lost, states, known, known_zones, min(again, default=None))


def _load(observed: Observed, spec: ModelDeploymentSpec) -> Load:
    """What the replicas have to bear: a canary and stable their shares, and one less of it where one is lent."""
    canary = outcome.read(RolloutStatus, dig(observed.parent, "status", "rollout"))
    if canary is None:
        return Load(spec.replicas)
    lent = canary.borrowing and capacity.can_borrow(spec.wanted)
    return Load(min(spec.replicas, spec.wanted - lent), canary.weights)


def _uses_devices(spec: ModelDeploymentSpec) -> bool:
    """Whether a replica asks for an extended resource: their names have a slash."""
    given = spec.pod_template.resources
    return spec.gpu is not None or any("/" in name for name in {*given.requests, *given.limits})


def _without_device_faults(observed: Observed) -> Observed:
    """For replicas that use no device, a device that is out of order is no reason to suspect a node."""
    nodes = {name: replace(node, fault=None) if node.fault else node for name, node in observed.nodes.items()}
    return replace(observed, nodes=nodes)


def wants_evidence(parent: Raw) -> bool:
    """While a node of ours is suspect or a zone is to return: only a gateway knows whether its replicas serve.

    And from a pod's loss on, until it is known when the last gateway took it out.
    """
    known = outcome.read(RecoveryStatus, dig(parent, "status", "recovery")) or RecoveryStatus()
    suspect = any(node.well_since is None for node in known.nodes)
    through_gateways = dig(parent, "spec", "traffic") in (None, Traffic.GATEWAY)
    unmoved = through_gateways and any(map(timeline.waits_for_gateways, known.open))
    return suspect or unmoved or zones.returns(outcome.read_all(ZoneStatus, dig(parent, "status", "zones")))


def lost_nodes(parent: Raw) -> set[str]:
    """Nodes that status calls lost and not well again."""
    known = outcome.read(RecoveryStatus, dig(parent, "status", "recovery")) or RecoveryStatus()
    return {n.name for n in known.nodes if n.counted and n.well_since is None and n.fault == Reason.NODE_LOST}


def stand_ins(deployment: Raw | None) -> int:
    """Of the replicas a Deployment has been asked for, those in the place of lost ones."""
    return build.number(deployment, labels.STAND_INS)


def resized(deployment: Raw, replicas: int, extra: int) -> list[Manifest]:
    """The Deployment with so many replicas and stand-ins, where it has not."""
    if (dig(deployment, "spec", "replicas"), stand_ins(deployment)) == (replicas + extra, extra):
        return []
    return [build.respecified(deployment, annotated(extra), replicas=replicas + extra)]


def annotated(extra: int) -> dict[str, str]:
    """Annotations of a Deployment with so many stand-ins."""
    return build.numbered(labels.STAND_INS, extra)


def record(
    seen: Recovery, observed: Observed, want: int, unplaced: int, rolling: bool, now: datetime
) -> RecoveryStatus | None:
    """status.recovery after this pass; None where there has never been anything to tell.

    `unplaced`: of the replicas wanted, spares that find no place: all is whole without them.
    """
    before, whole = seen.known, want - unplaced
    found = faults.going_on(seen.losses, seen.zones, before, seen.known_zones, observed, whole, rolling, now)
    told = timeline.followed(found, seen.losses.nodes, observed, whole, now) if found else before.faults
    new = RecoveryStatus(
        nodes=list(seen.losses.nodes),
        stand_ins=seen.extra(observed, want) or None,
        beside=told[:-1],
        last=told[-1] if told else None,
    )
    new = new.model_copy(update={"count": before.count + len(new.ended_since(before))})
    return new if new != RecoveryStatus() else None


def events(seen: Recovery, new: RecoveryStatus | None) -> tuple[Event, ...]:
    """The story, in order: what was lost, where its traffic went, when all was well again."""
    told = new or RecoveryStatus()
    return (*_begun(seen.known, told), *_of_zones(seen), *_over(seen.known, told))


def condition(
    seen: Recovery, observed: Observed, spec: ModelDeploymentSpec, spare: int, generation: int
) -> list[Condition]:
    """ZonesHealthy, where zones are asked for or one is not well. `spare`: as for cause()."""
    cause = _pending(seen, observed, spare) or _zone_cause(seen)
    asked = bool(spec.zones.model_fields_set)
    if cause is None and asked and observed.nodes and len(seen.zones) < 2:
        cause = _few_zones([node.zone for node in observed.nodes.values()])
    if cause is None and not asked and seen.remembered is None:
        return []
    words = f"{len(seen.zones)} zones have their share of the traffic"
    return [outcome.told(generation, kinds.ZONES_HEALTHY, cause is None, cause, Reason.ZONES_UP, words)]


def _few_zones(zones: Sequence[str]) -> Cause:
    """Why there is nowhere to move to, by each node's zone, which is empty where it has none."""
    unlabelled = zones.count("")
    if not unlabelled:
        return Cause(Reason.SINGLE_ZONE, f"all {len(zones)} nodes are in the zone {zones[0]}")
    told = f"{unlabelled} of {len(zones)} nodes have no label topology.kubernetes.io/zone"
    return Cause(Reason.ZONES_NOT_LABELLED, told)


def cause(seen: Recovery, observed: Observed, spare: int) -> Cause | None:
    """Why fewer replicas serve than are asked for, where that is a loss. `spare`: how many of them are spare ones."""
    if pending := _pending(seen, observed, spare):
        return pending
    if seen.losses.unjudged:
        return Cause(Reason.NODE_LOST, _refusal(seen, observed))
    for node in seen.losses.nodes:
        if gone := losses.failing(node):
            suspect = observed.nodes[node.name].suspect if node.name in observed.nodes else None
            words = suspect[1] if suspect else "the node is gone"
            told = f"node {node.name}: {words}; {len(gone)} replicas there do not serve, others are being made"
            return Cause(Reason(node.fault), told)
    return None


def _refusal(seen: Recovery, observed: Observed) -> str:
    """Why nobody stands in for replicas that Kubernetes does not hear of."""
    told = f"{nodes.hears_of_few(observed.nodes)}, and no gateway tells of the replicas there"
    count = len(seen.losses.unjudged)
    return f"{told}: that is more likely the observer's fault; nothing is made in the place of {count} replicas"


def _pending(seen: Recovery, observed: Observed, spare: int) -> Cause | None:
    """Replicas stand in for lost ones, and there is no room for them; what there is they have before the spare ones."""
    waiting = [words for pod in observed.pods if (words := diagnose.starved(pod))]
    if not seen.losses.pods or len(waiting) <= spare:
        return None
    return Cause(Reason.CAPACITY_PENDING, f"no room for replicas in the place of lost ones: {waiting[0]}")


def _zone_cause(seen: Recovery) -> Cause | None:
    order = (
        ([zone for zone in seen.zones if zone.missing], Reason.CAPACITY_PENDING),
        (_in(seen, ZoneState.LOST), Reason.ZONE_LOST),
        (_in(seen, ZoneState.SUSPECT), Reason.ZONE_SUSPECT),
        (_in(seen, ZoneState.RECOVERING), Reason.ZONE_RETURNING),
        (_in(seen, ZoneState.RETURNING), Reason.ZONE_RETURNING),
    )
    for found, reason in order:
        if found:
            return Cause(reason, "; ".join(f"zone {zone.name}: {zone.message}" for zone in found))
    return None


def _in(seen: Recovery, state: ZoneState) -> list[ZoneStatus]:
    return [zone for zone in seen.zones if zone.state is state]


def _of_zones(seen: Recovery) -> Iterator[Event]:
    before = {zone.name: zone for zone in seen.known_zones}
    for zone in seen.zones:
        old = before.get(zone.name)
        if _stands(zone) != (_stands(old) if old else (ZoneState.HEALTHY, zone.step, zone.weight)):
            yield from _of_zone(zone, old)


def _stands(zone: ZoneStatus) -> tuple[ZoneState, int, int]:
    return zone.state, zone.step, zone.weight


def _of_zone(zone: ZoneStatus, old: ZoneStatus | None) -> Iterator[Event]:
    if zone.state is ZoneState.SUSPECT:
        yield Event("Warning", Reason.ZONE_SUSPECT, f"zone {zone.name}: {zone.message}")
    elif zone.state is ZoneState.LOST:
        left = f"{zone.weight} % of its share of the requests" if zone.weight else "no requests any more"
        yield Event("Warning", Reason.ZONE_LOST, f"zone {zone.name} gets {left}: {zone.message}")
    elif zone.state is ZoneState.RECOVERING:
        yield Event("Normal", Reason.ZONE_RETURNING, f"zone {zone.name} is well again, and not trusted yet")
    elif zone.state is ZoneState.RETURNING:
        told = f"zone {zone.name} gets {zone.weight} % of its share of the requests"
        yield Event("Normal", Reason.ZONE_RETURNING, told)
    elif old is not None and old.state is not ZoneState.SUSPECT:
        yield Event("Normal", Reason.ZONES_UP, f"zone {zone.name} has its whole share of the requests again")


def _begun(old: RecoveryStatus, new: RecoveryStatus) -> Iterator[Event]:
    """A zone's loss is told by its state."""
    for fault in new.begun_since(old):
        words = f"{fault.subject} does not serve any more"
        if fault.fault in (Reason.NODE_LOST, Reason.GPU_FAULT):
            took = f"{fault.subject} took {fault.replicas} of the replicas"
            words = f"{took}; others are asked for, and nothing is deleted"
        if fault.fault != Reason.ZONE_LOST:
            yield Event("Warning", Reason(fault.fault), words)


def _over(old: RecoveryStatus, new: RecoveryStatus) -> Iterator[Event]:
    for fault in new.ended_since(old):
        took = build.elapsed(fault.detected_at, datetime.fromisoformat(fault.ready_at or fault.detected_at))
        yield Event("Normal", Reason.RECOVERED, f"after {fault.fault} of {fault.subject}: whole again in {took:.0f} s")
