"""The regions of those ModelDeployments that share a host name with other clusters, by way of a name server.

Owns: who takes part, the keys, the finalizer, what is told to plans. Must not know: DNS messages (nameserver.py), how a
region acts (region.py), what is decided (plan/dns.py).

One task a ModelDeployment, so that a name server that does not answer holds up nobody else. Nothing is written there
before the finalizer is set and status says where: whatever happens then, somebody can take it away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prometheus_client import Counter, Gauge

from pilotboat.api import conditions, labels
from pilotboat.api.base import seconds
from pilotboat.api.dns import Dns, DnsFailbackMode, DnsStatus, Rfc2136
from pilotboat.api.reasons import Reason
from pilotboat.plan import dns_status
from pilotboat.plan.build import dig
from pilotboat.plan.dns import EVERY, GAP, Act, Me
from pilotboat.plan.dns_records import Names
from pilotboat.plan.outcome import previous, read
from pilotboat.plan.types import Event, RegionState

from .errors import DnsFailure, DnsNotPermitted, DnsOutpaced, DnsRefused, DnsUnreachable, EngineError
from .kinds import Key
from .nameserver import NameServer
from .region import Region
from .region_rights import Cluster, KnownKey, Rights
from .store import Store

Raw = dict[str, Any]
log = logging.getLogger(__name__)

LEAVES_WITHIN = 30.0
"""Seconds after which records that cannot be taken away stay: nobody waits longer for an object to be deleted."""

RFC2136 = ("spec", "zones", "dns", "rfc2136")
_REASONS: dict[type[DnsFailure], Reason] = {
    DnsRefused: Reason.DNS_UPDATE_REFUSED,
    DnsUnreachable: Reason.DNS_SERVER_UNREACHABLE,
    DnsNotPermitted: Reason.DNS_NOT_PERMITTED,
}
_ACTS = {Act.REFUSED: Reason.DNS_NAME_TAKEN, Act.TWICE: Reason.DNS_REGION_TAKEN}


@dataclass(frozen=True)
class Home:
    """Whose records, and where."""

    hostname: str
    region: str
    where: Rfc2136

    @classmethod
    def of(cls, wanted: Dns | None) -> Home | None:
        """As a spec says it."""
        return cls(wanted.hostname, wanted.region, wanted.rfc2136) if wanted and wanted.rfc2136 else None

    def same(self, other: Home | None) -> bool:
        """Whether both are the same records; how they are signed may differ."""
        return other is not None and self._place == other._place

    @property
    def _place(self) -> tuple[object, ...]:
        where = self.where
        return (self.hostname, self.region, where.server, where.port, where.zone)


@dataclass(frozen=True)
class RegionMetrics:
    """What is counted."""

    moves: Counter
    failures: Counter
    age: Gauge


@dataclass
class _Post:
    """One ModelDeployment's."""

    known: Dns | None = None
    """What its spec said last that could be read."""
    key: KnownKey | None = None
    region: Region | None = None
    joined: Home | None = None
    state: RegionState | None = None
    healthy: bool = False
    failing: float | None = None
    """Since when."""
    leaving: float | None = None
    """Since when."""
    gone: Home | None = None
    """Records that were taken away, or given up, while not all that says of them is: nobody asks for them again."""
    told: set[str] = field(default_factory=set)
    """Regions that have a gauge."""
    due: asyncio.Event = field(default_factory=asyncio.Event)


class Regions:
    """Keeps a post for each ModelDeployment that takes part."""

    def __init__(
        self,
        store: Store,
        api: Cluster,
        wake: Callable[[Iterable[Key]], None],
        emit: Callable[[Mapping[str, Any], tuple[Event, ...]], None],
        metrics: RegionMetrics,
        now: Callable[[], datetime],
        *,
        every: float = EVERY,
    ) -> None:
        self._store = store
        self._rights = Rights(api)
        self._wake = wake
        self._emit = emit
        self._metrics = metrics
        self._now = now
        self._every = every
        self._posts: dict[Key, _Post] = {}
        self._new: asyncio.Queue[Key] = asyncio.Queue()

    def see(self, key: Key, parent: Mapping[str, Any] | None) -> None:
        """It is looked at: from now on it takes part, or whether it serves has changed, or it is about to go."""
        if parent is None or not _takes_part(parent):
            return
        post = self._posts.get(key)
        if post is None:
            self._posts[key] = _Post()
            self._new.put_nowait(key)
        elif post.healthy != _healthy(parent) or Home.of(_wanted(parent, post)) != post.joined:
            post.due.set()

    def of(self, key: Key) -> RegionState | None:
        """What is known of its part."""
        return post.state if (post := self._posts.get(key)) else None

    async def run(self) -> None:
        """Keep all posts, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                key = await self._new.get()
                group.create_task(self._keep(key, self._posts[key]), name=f"region {key}")

    async def _keep(self, key: Key, post: _Post) -> None:
        """Turn after turn until the ModelDeployment takes no part any more."""
        while (parent := self._store.parent(key)) is not None and _takes_part(parent):
            post.due.clear()
            post.healthy = _healthy(parent)
            try:
                self._tell(key, post, await self._turn(key, post, parent))
            except DnsFailure as failure:
                self._failed(key, post, failure)
            except EngineError as failure:
                log.info("%s: region: %s", key, failure)
            except Exception:  # a bug: this post waits, all others go on
                log.exception("%s: region", key)
            with suppress(TimeoutError):
                await asyncio.wait_for(post.due.wait(), self._every)
        self._ages(key, post, {})
        self._metrics.moves.remove(key.namespace, key.name)
        del self._posts[key]

    async def _turn(self, key: Key, post: _Post, parent: Raw) -> RegionState | None:
        """What is to be told after it; None: nothing new."""
        wanted = _wanted(parent, post)
        post.known = wanted or post.known
        if wanted is None and _says(parent, *RFC2136):  # it cannot be read, and never was: that withdraws nothing
            return None
        joined, home = post.joined or _recorded(parent), Home.of(wanted)
        left = joined is None or joined.same(home) or joined.same(post.gone)
        if joined and not left and not await self._left(key, post, parent, joined):
            return None
        if wanted is None or home is None:
            await self._rights.finalizer(parent, None)
            return RegionState(None)
        await self._rights.finalizer(parent, home.where)
        if not home.same(_recorded(parent)):
            return RegionState(DnsStatus(hostname=home.hostname, region=home.region, records=home.where))
        post.gone = None
        await self._join(post, parent, home, _me(wanted, parent["metadata"]["uid"]))
        return await self._act(key, post, parent, wanted)

    async def _join(self, post: _Post, parent: Raw, home: Home, me: Me) -> Region:
        """A key may be another each time, and so may what the user says of the region."""
        post.key = await self._rights.key(parent, home.where, post.key, fresh=post.failing is not None)
        zone = NameServer(home.where, Names(home.hostname), post.key.key)
        if post.region is None:
            post.region = Region(me, zone, time.monotonic, time.time)
        post.region.me, post.region.zone, post.joined = me, zone, home
        return post.region

    async def _act(self, key: Key, post: _Post, parent: Raw, wanted: Dns) -> RegionState:
        assert post.region is not None
        region, before = post.region, post.region.seen.told
        decision = await region.turn(post.healthy)
        if decision.act is Act.WRITE and decision.state != before:
            log.info("%s: %s answers with us: %s", key, wanted.hostname, decision.why)
            self._metrics.moves.labels(key.namespace, key.name).inc()
        post.failing = None
        self._ages(key, post, {name: seen.age for name, seen in region.memory.regions.items()})
        known = read(DnsStatus, dig(parent, "status", "dns"))
        status = dns_status.made(wanted, region.seen, region.memory, region.why, known, self._now())
        reason = _ACTS.get(decision.act)
        return RegionState(status, (reason, f"{wanted.hostname}: {decision.why}") if reason else None)

    async def _left(self, key: Key, post: _Post, parent: Raw, joined: Home) -> bool:
        """Whether the records of before are gone, or were given up."""
        post.leaving = post.leaving or time.monotonic()
        try:
            me = post.region.me if post.region else Me(joined.region, parent["metadata"]["uid"], ())
            done = await (await self._join(post, parent, joined, me)).leave()
        except Exception as failure:  # of a bug too: nobody waits longer for it to be deleted than for a name server
            bug = None if isinstance(failure, EngineError) else failure
            log.info("%s: records of %s: %s", key, joined.hostname, failure, exc_info=bug)
            done = time.monotonic() - post.leaving > LEAVES_WITHIN
            if done:
                names = Names(joined.hostname)
                told = f"records of region {joined.region} stay at {names.beats}, {names.state} and {names.hostname}"
                self._emit(parent, (Event("Warning", Reason.DNS_RECORDS_LEFT, f"{told}: {failure}"),))
        if done:
            post.region = post.joined = post.leaving = None
            post.gone = joined
        return done

    def _failed(self, key: Key, post: _Post, failure: DnsFailure) -> None:
        """Told at once where somebody should look; a name server that is silent may just have a bad moment."""
        log.info("%s: region: %s", key, failure)
        if isinstance(failure, DnsOutpaced):
            return
        reason = _REASONS[type(failure)]
        self._metrics.failures.labels(reason).inc()
        post.failing = post.failing or time.monotonic()
        if reason is not Reason.DNS_SERVER_UNREACHABLE or time.monotonic() - post.failing >= GAP:
            self._tell(key, post, RegionState(post.state.status if post.state else None, (reason, str(failure))))

    def _tell(self, key: Key, post: _Post, state: RegionState | None) -> None:
        if state is not None and state != post.state:
            post.state = state
            self._wake([key])

    def _ages(self, key: Key, post: _Post, ages: Mapping[str, float]) -> None:
        for region in post.told - set(ages):
            self._metrics.age.remove(key.namespace, key.name, region)
        for region, age in ages.items():
            self._metrics.age.labels(key.namespace, key.name, region).set(age)
        post.told = set(ages)


def _takes_part(parent: Mapping[str, Any]) -> bool:
    """Where it is being deleted: as long as our finalizer holds it."""
    held = labels.DNS_FINALIZER in (parent["metadata"].get("finalizers") or ())
    return held or _says(parent, *RFC2136) or _says(parent, "status", "dns", "records")


def _says(parent: Mapping[str, Any], *path: str) -> bool:
    """Whether that is there, of what is not being deleted."""
    return dig(parent, *path) is not None and "deletionTimestamp" not in parent["metadata"]


def _healthy(parent: Mapping[str, Any]) -> bool:
    told = conditions.find(previous(parent), conditions.AVAILABLE)
    return told is not None and told.status == "True"


def _wanted(parent: Mapping[str, Any], post: _Post) -> Dns | None:
    """What the spec asks for now; where it cannot be read, what it asked for before."""
    if not _says(parent, "spec", "zones", "dns"):
        return None
    wanted = read(Dns, dig(parent, "spec", "zones", "dns")) or post.known  # SpecValid tells of one that cannot be read
    return wanted if wanted and wanted.rfc2136 else None


def _recorded(parent: Mapping[str, Any]) -> Home | None:
    """Where records of ours are, by our own status."""
    known = read(DnsStatus, dig(parent, "status", "dns"))
    return Home(known.hostname, known.region, known.records) if known and known.records else None


def _me(wanted: Dns, owner: str) -> Me:
    return Me(
        region=wanted.region,
        owner=owner,
        targets=tuple(wanted.targets),
        priority=wanted.priority,
        ttl=wanted.ttl,
        after=seconds(wanted.failback.after),
        automatic=wanted.failback.mode is DnsFailbackMode.AUTOMATIC,
    )
