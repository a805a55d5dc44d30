"""What the operator says about itself to Prometheus.

Owns: every metric's name and labels. Must not know: who scrapes them.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .canary_metrics import Canaries
from .kinds import PARENTS
from .recovery_metrics import Recoveries
from .regions import RegionMetrics
from .store import Store

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series a counter, which nobody here reads
LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
WRITES = frozenset({"apply", "apply_status", "create", "update", "patch", "delete"})


class Metrics:
    """One registry of our own: nothing is global, so tests and replicas in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = self._counter("reconciles", "Passes over a parent", "kind", "result")
        self.duration = self._histogram("reconcile_seconds", "Length of a pass", "kind")
        self.latency = self._histogram("wake_to_done_seconds", "From the first wake-up to the end of the pass", "kind")
        self.requests = self._counter("api_requests", "Requests to the API server", "verb", "kind", "code")
        self.request_seconds = self._histogram("api_request_seconds", "Their length", "verb")
        self.writes = self._counter("api_writes", "Of these, successful writes", "kind")
        self.watch_events = self._counter("watch_events", "Events of the watches", "kind")
        self.last_event = self._gauge("watch_last_event_timestamp_seconds", "Newest watch event", "kind")
        self.missed = self._counter("resync_repairs", "Changes a LIST found and no watch had told", "kind")
        self.leader = self._gauge("leader", "1 where this replica acts")
        self.events = self._counter("events", "News of passes, also of those dropped", "kind", "reason")
        self.events_dropped = self._counter("events_dropped", "Kubernetes Events that could not be posted")
        self.evidence_polls = self._counter("evidence_polls", "Requests to gateways for evidence", "result")
        self.prometheus_queries = self._counter("prometheus_queries", "Queries asked of users' Prometheus", "result")
        self.gateway_marks = self._counter("gateway_marks", "Gateways taken out of Services or put back", "serving")
        self.recoveries = Recoveries(self.registry)
        self.regions = RegionMetrics(
            self._counter("dns_moves", "Answers that this region took", "namespace", "name"),
            self._counter("dns_failures", "Turns at a name server that failed", "reason"),
            self._gauge("dns_heartbeat_age_seconds", "Since a region's beat changed", "namespace", "name", "region"),
        )
        self.progress_posts = self._counter("progress_posts", "Posts of trainers", "code")

    def observe_request(self, verb: str, plural: str, code: str, seconds: float) -> None:
        """The Api's observer."""
        self.requests.labels(verb, plural, code).inc()
        self.request_seconds.labels(verb).observe(seconds)
        if verb in WRITES and code.startswith("2"):
            self.writes.labels(plural).inc()

    def watch_event(self, plural: str) -> None:
        """A watch event came."""
        self.last_event.labels(plural).set(time.time())
        self.watch_events.labels(plural).inc()

    def track(
        self, store: Store, depth: Callable[[], int], delayed: Callable[[], int], forbidden: Callable[[], int]
    ) -> None:
        """Gauges that are read off when scraped."""
        self.registry.register(_Resources(store))
        self._gauge("queue_depth", "Parents waiting for a worker").set_function(depth)
        self._gauge("queue_delayed", "Parents to be looked at later").set_function(delayed)
        self._gauge("kinds_forbidden", "Kinds, by namespace, that may not be listed").set_function(forbidden)

    def render(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"pilotboat_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"pilotboat_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"pilotboat_{name}", text, labels, registry=self.registry, buckets=LATENCY)


class _Resources(Collector):
    """Custom resources by condition, and what their status says of canaries, when asked."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[GaugeMetricFamily]:
        total = GaugeMetricFamily("pilotboat_resources", "Custom resources known", labels=["kind"])
        states = GaugeMetricFamily(
            "pilotboat_resource_conditions", "Of these, by condition", labels=["kind", "condition", "status", "reason"]
        )
        tally: Tally[tuple[str, str, str, str]] = Tally()
        canaries = Canaries()
        for key in self._store.parents():
            parent = self._store.parent(key) or {}
            canaries.see(key, parent)
            for condition in (parent.get("status") or {}).get("conditions") or ():
                tally[key.plural, condition["type"], condition["status"], condition.get("reason", "")] += 1
        for kind in PARENTS:
            total.add_metric([kind.plural], self._store.count(kind))
        for labels, count in sorted(tally.items()):
            states.add_metric(labels, count)
        yield total
        yield states
        yield from canaries.families()

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing to say before there is a store to look at."""
        return ()
