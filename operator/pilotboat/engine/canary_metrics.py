"""Canaries under way as gauges, read off the status of the custom resources when somebody asks.

Owns: the names and labels of these series. Must not know: how a canary is judged: it tells what stands in status, so a
series is gone as soon as the rollout or its ModelDeployment is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client.core import GaugeMetricFamily

from pilotboat.api.analysis import MetricRecord, QueryRecord
from pilotboat.api.rollout import RolloutPhase, RolloutStatus

from .kinds import MODEL_DEPLOYMENT, Key

WHO = ("namespace", "name")


class Canaries:
    """One page's worth of series; every custom resource is shown to it once."""

    def __init__(self) -> None:
        self._phase = _family("phase", "1 for the phase a rollout with steps is in", "phase")
        self._weight = _family("weight_percent", "Share of the traffic that the canary has")
        self._verdict = _family("verdict", "1 for what the evidence said last", "verdict", "why")
        self._judged = _family("judged", "Requests (or tokens) judged", "metric", "revision")
        self._over = _family("over", "Of these, failed or slower than the bound", "metric", "revision")
        self._evidence = _family("evidence", "That the canary is worse: 1 says nothing", "metric")
        self._abort_at = _family("abort_at", "The evidence at which it is given up", "metric")
        self._likelihood = _family("likelihood", "Logarithm: worse by the margin against as good as stable", "metric")
        self._promote_at = _family("promote_at", "The likelihood at or below which it is promoted", "metric")
        self._time = _family("decision_timestamp_seconds", "When the evidence last said something new")
        self._query = _family("query_verdict", "1 for what a query said last", "query", "verdict", "why")
        self._value = _family("query_value", "What it gave, where it gave a number", "query")
        self._bound = _family("query_bound", "What the value must keep", "query", "bound")
        self._failures = _family("query_failures", "Looks beyond the bound in a row", "query")

    def see(self, key: Key, parent: Mapping[str, Any]) -> None:
        """Take in a custom resource."""
        raw = (parent.get("status") or {}).get("rollout")
        if key.plural != MODEL_DEPLOYMENT.plural or not raw:
            return
        try:
            state = RolloutStatus.model_validate(raw)
            decided = datetime.fromisoformat(state.decision.time).timestamp() if state.decision else 0
        except ValueError:  # of another version, or somebody else's; the planner begins anew
            return
        who = [key.namespace, key.name]
        self._phase.add_metric([*who, state.phase], 1)
        self._weight.add_metric(who, state.weight)
        if state.decision and state.phase is not RolloutPhase.ABORTED:
            self._verdict.add_metric([*who, state.decision.verdict, state.decision.why], 1)
            self._time.add_metric(who, decided)
            for record in state.decision.metrics:
                self._metric(who, record)
            for query in state.decision.queries:
                self._queried(who, query)

    def families(self) -> Iterator[GaugeMetricFamily]:
        """What was seen."""
        yield from (self._phase, self._weight, self._verdict, self._judged, self._over, self._evidence, self._abort_at)
        yield from (self._likelihood, self._promote_at, self._time)
        yield from (self._query, self._value, self._bound, self._failures)

    def _metric(self, who: list[str], record: MetricRecord) -> None:
        labels = [*who, record.metric]
        self._judged.add_metric([*labels, "canary"], record.canary)
        self._judged.add_metric([*labels, "stable"], record.stable)
        self._over.add_metric([*labels, "canary"], record.canary_over)
        self._over.add_metric([*labels, "stable"], record.stable_over)
        self._evidence.add_metric(labels, record.evidence)
        self._abort_at.add_metric(labels, record.abort_at)
        self._promote_at.add_metric(labels, record.promote_at)
        if record.likelihood is not None:
            self._likelihood.add_metric(labels, record.likelihood)

    def _queried(self, who: list[str], record: QueryRecord) -> None:
        labels = [*who, record.name]
        self._query.add_metric([*labels, record.verdict, record.why], 1)
        self._failures.add_metric(labels, record.failures)
        if record.value is not None:
            self._value.add_metric(labels, record.value)
        for side, bound in (("min", record.min), ("max", record.max)):
            if bound is not None:
                self._bound.add_metric([*labels, side], bound)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pilotboat_canary_{name}", text, labels=[*WHO, *labels])
