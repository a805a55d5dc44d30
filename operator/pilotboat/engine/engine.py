"""What a leader runs: the store and the queue between watch events and workers.

Owns: how the parts are put together, and the workers. Must not know: where events come from (wiring), what plans hold.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pilotboat.plan import recovery
from pilotboat.plan.types import Event, Plan, Planner, PlanSettings

from .api import Api
from .apply import PROGRESS_FIELDS, Applier
from .clock import Clock
from .compare import only_status
from .errors import ApiError, EngineError
from .events import Recorder
from .evidence import EvidencePoller
from .floods import Floods
from .gateway_watch import GatewayWatch
from .health import Health
from .kinds import PARENTS, Key, Kind
from .leader import Predecessor
from .lookup import Lookup
from .metrics import Metrics
from .newcomers import Newcomers
from .node_watch import NodeWatch
from .prometheus import Prometheus
from .queue import Queue
from .reconcile import Reconciler, TryAgain
from .regions import Regions
from .resync import Resync
from .store import Store

log = logging.getLogger(__name__)

LONGEST_PASS = 120.0
"""Seconds after which a pass is given up: requests have shorter limits, so only a bug or a stall gets here."""


class Engine:
    """Takes events in, makes passes, and can say whether it is well."""

    def __init__(
        self,
        api: Api,
        planners: Mapping[str, Planner],
        settings: PlanSettings,
        metrics: Metrics,
        *,
        namespaces: Sequence[str | None] = (None,),
        workers: int = 16,
        resync: float = 300,
    ) -> None:
        self._metrics = metrics
        self._workers = workers
        clock = Clock()
        self.store = Store(time.monotonic)
        self.queue = Queue()
        self.recorder = Recorder(api, utc, metrics.events_dropped.inc)
        self.evidence = EvidencePoller(self.store, self._wake, metrics.evidence_polls, clock)
        self.prometheus = Prometheus(api, self._wake, metrics.prometheus_queries, clock)
        self.node_watch = NodeWatch(api, self.store, self._wake, time.monotonic)
        told = Newcomers(self._wake, time.monotonic), Floods(self._wake)
        self.gateway_watch = GatewayWatch(api, self.store, metrics.gateway_marks, self.node_watch.doubt, *told)
        self.regions = Regions(self.store, api, self._wake, self._tell, metrics.regions, clock)
        self.reconciler = Reconciler(
            self.store,
            Lookup(api, self.store, self.evidence, self.prometheus, self.regions, *told, time.monotonic),
            Applier(api, self.store, self._take, time.monotonic),
            planners,
            settings,
            self._emit,
            self._wake,
            clock,
        )
        self.resync = Resync(
            api, self.store, self.queue, metrics, namespaces=namespaces, interval=resync, clock=time.monotonic
        )
        self.listed = asyncio.Event()
        """Set once everything was seen."""
        self.health = Health(self.queue, self.resync, interval=resync)
        metrics.track(self.store, lambda: len(self.queue), lambda: self.queue.delayed, lambda: self.resync.forbidden)

    def observe(self, kind: Kind, raw: Mapping[str, Any], *, deleted: bool = False) -> None:
        """A watch event."""
        self.resync.heard(kind, raw["metadata"].get("namespace"))
        self._metrics.watch_event(kind.plural)
        self._take(kind, raw, deleted=deleted)

    def _take(self, kind: Kind, raw: Mapping[str, Any], *, deleted: bool = False) -> None:
        """News from a watch, or from the answer to a write of ours, which may change what is to be done next.

        A status of ours comes by both ways, and from either it is no more than an echo: nothing of the custom resource
        is new but what we write into its status."""
        if deleted or kind not in PARENTS:
            self._wake((self.store.delete if deleted else self.store.put)(kind, raw))
            return
        key = Key(kind.plural, raw["metadata"]["namespace"], raw["metadata"]["name"])
        before, woken = self.store.parent(key), self.store.put(kind, raw)
        after = self.store.parent(key) if key in woken else None
        if after is not None and only_status(before, after, PROGRESS_FIELDS):
            self.queue.echo(key)
            woken = woken - {key}
        self._wake(woken)

    def _emit(self, parent: Mapping[str, Any], plan: Plan) -> None:
        self._metrics.recoveries.see(parent.get("status") or {}, plan.status or {})
        self._tell(parent, plan.events)

    def _tell(self, parent: Mapping[str, Any], events: tuple[Event, ...]) -> None:
        for event in events:
            self._metrics.events.labels(parent["kind"], event.reason).inc()
        self.recorder.emit(parent, events)

    def _wake(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.queue.add(key)

    async def run(self, predecessor: Predecessor | None = None) -> None:
        """See everything once, then work until cancelled."""
        await self.resync.first()
        self.listed.set()
        log.info("watching %d custom resources with %d workers", sum(1 for _ in self.store.parents()), self._workers)
        self.node_watch.take_over(self._lost_before())
        await self.node_watch.ask_after(predecessor)
        self.health.working = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self.resync.run(), name="resync")
            group.create_task(self.resync.reopen(), name="closed namespaces")
            group.create_task(self.recorder.run(), name="events")
            group.create_task(self.evidence.run(), name="evidence")
            group.create_task(self.prometheus.run(), name="prometheus")
            group.create_task(self.gateway_watch.run(), name="gateways")
            group.create_task(self.node_watch.run(), name="nodes")
            group.create_task(self.regions.run(), name="regions")
            for number in range(self._workers):
                group.create_task(self._work(), name=f"worker-{number}")

    def _lost_before(self) -> set[str]:
        return {node for key in self.store.parents() for node in recovery.lost_nodes(self.store.parent(key) or {})}

    async def _work(self) -> None:
        while True:
            key, added = await self.queue.get()
            began = asyncio.get_running_loop().time()
            result = "error"
            try:
                result = await self._pass(key)
            finally:
                self.queue.done(key)
                ended = asyncio.get_running_loop().time()
                self.health.finished()
                self._metrics.reconciles.labels(key.plural, result).inc()
                self._metrics.duration.labels(key.plural).observe(ended - began)
                self._metrics.latency.labels(key.plural).observe(ended - added)

    async def _pass(self, key: Key) -> str:
        """One pass with everything that may come of it; never raises, or a worker would be lost for good."""
        if self.resync.closed(key.namespace):
            return "closed"
        try:
            async with asyncio.timeout(LONGEST_PASS):
                again = await self.reconciler.reconcile(key)
        except TryAgain as refusal:
            log.info("%s: refused, trying again in %.1f s: %s", key, self.queue.retry(key), refusal)
            return "refused"
        except (EngineError, TimeoutError) as failure:
            return self._later(key, failure)
        except Exception:  # a bug, in a plan or here: this parent waits, all others go on
            log.exception("%s: pass failed, trying again in %.1f s", key, self.queue.retry(key))
            return "error"
        self.queue.succeeded(key)
        if self.store.parent(key) is None:
            self.queue.forget(key)
        elif again is not None:
            self.queue.add_after(key, again.total_seconds())
        return "done"

    def _later(self, key: Key, failure: EngineError | TimeoutError) -> str:
        wait = failure.retry_after if isinstance(failure, ApiError) else None
        delay = self.queue.retry(key, at_least=wait or 0)
        log.info("%s: trying again in %.1f s: %s", key, delay, str(failure) or f"no end after {LONGEST_PASS:.0f} s")
        return "retried"


def utc() -> datetime:
    """The time, for what is shown to people."""
    return datetime.now(UTC)
