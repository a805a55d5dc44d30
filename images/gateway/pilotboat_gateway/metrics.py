"""What the gateway says about itself and its traffic to Prometheus.

Owns: every metric's name and labels. Must not know: who scrapes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from pilotboat.api.routing import BOUNDS

from .evidence import Recorder, Revision

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series a counter, which nobody here reads

COARSE = 5
"""Every so many bounds make one of Prometheus: twice as long each."""
APPLY = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
LABELS = ["deployment", "revision"]


class Metrics:
    """One registry of our own."""

    def __init__(self, recorder: Recorder) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Traffic(recorder))
        self.reloads = self._counter("reloads", "Times HAProxy was reloaded")
        self.changes = self._counter("share_changes", "Changes of the map of shares, none of which is a reload")
        self.failures = self._counter("apply_failures", "Times HAProxy could not be brought to what is wanted")
        self.apply = Histogram(
            "pilotboat_gateway_apply_seconds",
            "From a change that a watch told to HAProxy running with it",
            buckets=APPLY,
            registry=self.registry,
        )
        self.applied = self._gauge("applied", "1 where HAProxy runs with what was last wanted")
        self.bad_routes = self._gauge("bad_routes", "Routes that cannot be used", "route")
        self.servers_up = self._gauge("servers_up", "Replicas that take requests", *LABELS)
        self.streams = self._gauge("open_streams", "Requests under way or waiting", *LABELS)

    def render(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"pilotboat_gateway_{name}", text, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"pilotboat_gateway_{name}", text, labels, registry=self.registry)


class _Traffic(Collector):
    """Read off the recorder when scraped, so that a forgotten revision is forgotten here."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        requests = CounterMetricFamily("pilotboat_gateway_requests", "Requests ended", labels=[*LABELS, "code"])
        errors = CounterMetricFamily("pilotboat_gateway_errors", "Answers of 500 to 599, and those cut", labels=LABELS)
        retries = CounterMetricFamily("pilotboat_gateway_retries", "Replicas asked in vain", labels=LABELS)
        refused = CounterMetricFamily(
            "pilotboat_gateway_refused", "Requests that no replica got", labels=["deployment", "code"]
        )
        copies = CounterMetricFamily(
            "pilotboat_gateway_copies", "Copies of requests that ended", labels=["deployment", "fate"]
        )
        floods = CounterMetricFamily(
            "pilotboat_gateway_feedback_refused", "Posts of feedback beyond the limits", labels=["deployment"]
        )
        first = HistogramMetricFamily(
            "pilotboat_gateway_first_token_seconds", "From the request to its answer's header", labels=LABELS
        )
        for key, revision in self._recorder.revisions():
            for status, count in sorted(revision.statuses.items()):
                requests.add_metric([*key, str(status)], count)
            errors.add_metric(key, revision.whole.errors)
            retries.add_metric(key, revision.retries)
            first.add_metric(key, *_histogram(revision))
        for (deployment, status), count in sorted(self._recorder.refused.items()):
            refused.add_metric([deployment, str(status)], count)
        for (deployment, fate), count in sorted(self._recorder.copies.items()):
            copies.add_metric([deployment, fate], count)
        for deployment, count in sorted(self._recorder.floods.items()):
            floods.add_metric([deployment], count)
        yield from (requests, errors, retries, refused, copies, floods, first)

    def describe(self) -> Iterable[CounterMetricFamily]:
        """Nothing to say before there is traffic."""
        return ()


def _histogram(revision: Revision) -> tuple[list[tuple[str, float]], float]:
    """Cumulative buckets, and a sum that takes each request at its bound."""
    counts, below, buckets, total = revision.whole.first_token, 0, [], 0.0
    for at, bound in enumerate(BOUNDS):
        below += counts[at]
        total += counts[at] * bound / 1000
        if at % COARSE == 0:
            buckets.append((str(bound / 1000), float(below)))
    buckets.append(("+Inf", float(below + counts[len(BOUNDS)])))
    return buckets, total
