"""Zones as a ModelDeployment sees them: whether one is lost, and how it gets its traffic back.

Owns: the state machine of a zone, its hysteresis, and when it refuses to act. Must not know: how traffic is moved
(routes.py), how zones are counted (census.py), which replicas are lost (losses.py), what is told (recovery.py).

    Healthy -> Suspect -> Lost -> Recovering -> Returning, step by step -> Healthy

A zone fails when enough of its nodes are suspect and enough of the replicas there do not serve. It is lost when it has
failed long enough, unless most zones look bad (then it is more likely that we do, and what was seen counts no more when
that ends) or nobody else could serve. Where some of its replicas serve still, no more of its traffic is moved than the
others can bear: as many of its replicas keep theirs as are missing elsewhere (load.py), and they lose it as others
become ready. It gets traffic back when it has been well long enough and a canned inference succeeds there (where
gateways make one), and any failure on the way starts that anew; each loss doubles the time.
All that counts is in status, so a new operator goes on where the old one was. It stays there when a lost zone's last
Node object goes, as clouds delete those of machines that are stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..api.recovery import FailbackMode, FailoverMode, Zones, ZoneState, ZoneStatus
from .build import elapsed, timestamp
from .census import World, Zone
from .losses import FORGET, trusted_after

GONE = "it has no node any more"
_MISSING = "{} replicas are missing elsewhere to take all of its requests, so it keeps {} % of its share"

_TRUSTED = (ZoneState.HEALTHY, ZoneState.SUSPECT)


def look(known: Sequence[ZoneStatus], spec: Zones, world: World, now: datetime) -> tuple[ZoneStatus, ...]:
    """Every zone's state now; also of those that have no node any more, while a loss of theirs counts."""
    before = {zone.name: zone for zone in known}
    bad = world.bad(spec.failover.threshold)
    share = {name: before[name].weight if name in before else 100 for name in world.zones}
    answered = world.answering(name for name, weight in share.items() if weight) > 0
    rest = _Rest(world, len(bad), {name: weight for name, weight in share.items() if name not in bad}, answered)
    here = [_step(before.get(name) or _new(name, now), zone, spec, rest, now) for name, zone in world.zones.items()]
    away = [_away(zone, now) for zone in known if zone.name not in world.zones and _remembers_loss(zone, now)]
    return tuple(sorted((*here, *away), key=lambda zone: zone.name))


def returns(zones: Sequence[ZoneStatus]) -> bool:
    """Whether one that was lost is well again and not trusted yet."""
    return any(zone.state is ZoneState.RECOVERING for zone in zones)


def weights(zones: Sequence[ZoneStatus]) -> dict[str, int]:
    """Zones whose replicas get less than their share, in per cent of it."""
    return {zone.name: zone.weight for zone in zones if zone.weight < 100}


def look_again(zones: Sequence[ZoneStatus], spec: Zones, now: datetime) -> timedelta | None:
    """When time alone changes a state."""
    waits = [wait - elapsed(zone.since, now) for zone in zones if (wait := _wait(zone, spec))]
    ahead = [wait for wait in waits if wait > -1]
    return timedelta(seconds=max(0.0, min(ahead)) + 0.5) if ahead else None


def well_for(zone: ZoneStatus, spec: Zones) -> float:
    """Seconds that a lost zone must be well."""
    return trusted_after(spec.failback.after_seconds, zone.losses)


@dataclass(frozen=True)
class _Rest:
    """The world as one zone's fate depends on it."""

    world: World
    bad: int
    share: Mapping[str, int]
    """Zones that do not fail, and what of their share they have, in per cent."""
    answered: bool
    """Whether anybody who serves gets requests, in whichever zone."""

    @property
    def doubted(self) -> bool:
        """Whether most zones look bad, which rather says that we are cut off ourselves."""
        return 2 * self.bad > len(self.world.zones)

    @property
    def usable(self) -> set[str]:
        """Of these, those that have traffic."""
        return {name for name, weight in self.share.items() if weight}

    @property
    def whole(self) -> set[str]:
        """And those that have their whole share."""
        return {name for name, weight in self.share.items() if weight == 100}

    def kept(self, seen: Zone) -> dict[str, int]:
        """Of the replicas of a zone that fails, those that others do not make up for yet. Of a zone that has a part of
        its share as large a part of its replicas counts."""
        borne: Counter[str] = Counter()
        for name, weight in self.share.items():
            borne.update({part: weight * count for part, count in self.world.zones[name].serving.items()})
        return self.world.load.kept(seen.serving, {part: count // 100 for part, count in borne.items()})


def _wait(zone: ZoneStatus, spec: Zones) -> float | None:
    if zone.state is ZoneState.SUSPECT:
        return float(spec.failover.after_seconds)
    if zone.state is ZoneState.RECOVERING and spec.failback.mode is FailbackMode.AUTOMATIC:
        return well_for(zone, spec)
    return float(spec.failback.hold_seconds) if zone.state is ZoneState.RETURNING else None


def _new(name: str, now: datetime) -> ZoneStatus:
    return ZoneStatus(name=name, state=ZoneState.HEALTHY, since=timestamp(now))


def _step(zone: ZoneStatus, seen: Zone, spec: Zones, rest: _Rest, now: datetime) -> ZoneStatus:
    counted = zone.model_copy(update={"replicas": seen.replicas, "failing": seen.failing, "missing": 0})
    fails = seen.fails(spec.failover.threshold) and (seen.replicas > 0 or zone.state not in _TRUSTED)
    if not rest.answered and rest.world.answering([seen.name]):
        return _enter(counted, ZoneState.HEALTHY, now)  # whatever speaks against it: there is nobody else
    if fails:
        return _failing(counted, seen, spec, rest, now)
    return _well(counted, seen, spec, rest, now)


def _failing(zone: ZoneStatus, seen: Zone, spec: Zones, rest: _Rest, now: datetime) -> ZoneStatus:
    if zone.state is ZoneState.HEALTHY:
        return _enter(zone, ZoneState.SUSPECT, now, message=seen.told)
    if zone.weight and (refused := _refusal(seen, spec, rest)):
        told = f"{seen.told}; {refused}"
        if zone.state in (ZoneState.RECOVERING, ZoneState.RETURNING):  # what it was trusted for begins anew
            return _enter(zone, ZoneState.LOST, now, weight=zone.weight, message=told)
        doubted = zone.doubted or (rest.doubted and zone.state is ZoneState.SUSPECT)
        return zone.model_copy(update={"message": told, "doubted": doubted})
    if zone.doubted:  # zones whose silence has one cause do not come back within one look
        return _enter(zone, ZoneState.SUSPECT, now, message=seen.told)
    if zone.state is ZoneState.SUSPECT and elapsed(zone.since, now) < spec.failover.after_seconds:
        return zone.model_copy(update={"message": seen.told})
    return _moved(zone, seen, rest, now)


def _moved(zone: ZoneStatus, seen: Zone, rest: _Rest, now: datetime) -> ZoneStatus:
    """As much of its traffic taken away as others can bear; never any given back."""
    kept = rest.kept(seen) if zone.weight else {}
    needed = max((-(-100 * count // seen.serving[part]) for part, count in kept.items()), default=0)
    missing, weight = sum(kept.values()), min(zone.weight, needed)
    told = f"{seen.told}; {_MISSING.format(missing, weight)}" if missing else seen.told
    stays = zone.state is ZoneState.LOST or (zone.state is ZoneState.SUSPECT and weight == 100)
    moved = zone if stays else _lost(zone, now)
    return moved.model_copy(update={"weight": weight, "missing": missing, "message": told})


def _lost(zone: ZoneStatus, now: datetime) -> ZoneStatus:
    losses = zone.losses + 1 if zone.lost_at is None or _remembers_loss(zone, now) else 1
    lost = _enter(zone, ZoneState.LOST, now, weight=0)
    return lost.model_copy(update={"losses": losses, "lost_at": timestamp(now)})


def _remembers_loss(zone: ZoneStatus, now: datetime) -> bool:
    return zone.lost_at is not None and elapsed(zone.lost_at, now) < FORGET


def _away(zone: ZoneStatus, now: datetime) -> ZoneStatus:
    """One without a node: what it was on its way to is over, and what is remembered of it stays."""
    counted = zone.model_copy(update={"replicas": 0, "failing": 0, "missing": 0})
    if zone.state is ZoneState.HEALTHY:
        return counted
    lost = counted if zone.state is ZoneState.LOST else _lost(counted, now)
    return lost.model_copy(update={"weight": 0, "message": GONE})


def _refusal(seen: Zone, spec: Zones, rest: _Rest) -> str | None:
    """Why nothing is done about a zone that fails."""
    if spec.failover.mode is FailoverMode.OFF:
        return "spec.zones.failover.mode is Off"
    if len(rest.world.zones) < 2:
        return "there is no other zone"
    if rest.doubted:
        return f"{rest.bad} of {len(rest.world.zones)} zones look bad at once: that is more likely the observer's fault"
    if not rest.world.answering(rest.usable - {seen.name}):
        return "no replica serves elsewhere to take its traffic"
    return None


def _well(zone: ZoneStatus, seen: Zone, spec: Zones, rest: _Rest, now: datetime) -> ZoneStatus:
    others = rest.whole if zone.weight else rest.usable
    if zone.weight < 100 and rest.world.answering([seen.name]) and not rest.world.answering(others):
        return _enter(zone, ZoneState.HEALTHY, now)  # not trusted, and nobody else serves, or has more of it
    if zone.state is ZoneState.HEALTHY:
        return zone.model_copy(update={"message": ""})
    if zone.state is ZoneState.SUSPECT:
        return _enter(zone, ZoneState.HEALTHY, now)
    if zone.state is ZoneState.LOST:
        told = "well again; to be trusted after a while"
        return _enter(zone, ZoneState.RECOVERING, now, weight=zone.weight, message=told)
    if zone.state is ZoneState.RECOVERING:
        return _recovering(zone, seen, spec, now)
    if elapsed(zone.since, now) < spec.failback.hold_seconds:
        return zone
    return _returned(zone, spec, zone.step + 1, now)


def _recovering(zone: ZoneStatus, seen: Zone, spec: Zones, now: datetime) -> ZoneStatus:
    if spec.failback.mode is FailbackMode.MANUAL and zone.name not in spec.failback.approved:
        told = f"well again; spec.zones.failback.approved must name {zone.name}"
        return zone.model_copy(update={"message": told})
    if elapsed(zone.since, now) < well_for(zone, spec):
        return zone.model_copy(update={"message": f"well again; gets traffic after {well_for(zone, spec):.0f} s of it"})
    if seen.replicas and not seen.ready:
        return zone.model_copy(update={"message": "well long enough; none of its replicas is ready"})
    if seen.canned:
        return zone.model_copy(update={"message": f"well long enough; a canned inference fails: {seen.canned}"})
    return _returned(zone, spec, 0, now)


def _returned(zone: ZoneStatus, spec: Zones, step: int, now: datetime) -> ZoneStatus:
    steps = spec.failback.steps
    if step >= len(steps):
        return _enter(zone, ZoneState.HEALTHY, now)
    told = f"step {step + 1} of {len(steps)} of its return"
    return _enter(zone, ZoneState.RETURNING, now, weight=max(zone.weight, steps[step]), message=told, step=step)


def _enter(
    zone: ZoneStatus, state: ZoneState, now: datetime, weight: int = 100, message: str = "", step: int = 0
) -> ZoneStatus:
    return zone.model_copy(
        update={
            "state": state,
            "since": timestamp(now),
            "weight": weight,
            "message": message,
            "step": step,
            "doubted": False,
        }
    )
