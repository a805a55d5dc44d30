"""Canaries as metrics: read off status, and gone with it."""

from __future__ import annotations

from typing import Any

import pytest

from pilotboat.api.analysis import Decision, Metric, MetricRecord, QueryRecord, Verdict, Why
from pilotboat.api.rollout import RolloutPhase, RolloutStatus
from pilotboat.engine.kinds import MODEL_DEPLOYMENT
from pilotboat.engine.metrics import Metrics
from pilotboat.engine.store import Store
from unit.engine.objects import parent

RECORD = MetricRecord(
    metric=Metric.ERRORS,
    verdict=Verdict.CONTINUE,
    why=Why.MORE_TO_COME,
    canary=120,
    canary_over=3,
    stable=900,
    stable_over=9,
    evidence=2.5,
    abort_at=150,
    likelihood=-1.5,
    promote_at=-2.2,
    message="",
)
BEYOND = QueryRecord(
    name="wrong",
    digest="",
    verdict=Verdict.HOLD,
    why=Why.BEYOND_BOUND,
    value=0.2,
    max=0.05,
    failures=2,
    abort_at=3,
    looked="2026-05-01T12:00:00Z",
    message="",
)
EMPTY = BEYOND.model_copy(update={"name": "empty", "why": Why.NO_ANSWER, "value": None, "max": None, "min": 1.0})
DECISION = Decision(
    verdict=Verdict.CONTINUE,
    why=Why.MORE_TO_COME,
    time="1970-01-01T00:01:40Z",
    message="",
    metrics=[RECORD],
    queries=[BEYOND, EMPTY],
)
STATE = RolloutStatus(phase=RolloutPhase.PROGRESSING, stable="a", canary="b", weight=25, decision=DECISION)
WHO = {"namespace": "ns", "name": "chat"}
WHOLE = {
    ("phase", ("phase", "Progressing")): 1,
    ("weight_percent",): 25,
    ("verdict", ("verdict", "Continue"), ("why", "MoreToCome")): 1,
    ("judged", ("metric", "errors"), ("revision", "canary")): 120,
    ("judged", ("metric", "errors"), ("revision", "stable")): 900,
    ("over", ("metric", "errors"), ("revision", "canary")): 3,
    ("over", ("metric", "errors"), ("revision", "stable")): 9,
    ("evidence", ("metric", "errors")): 2.5,
    ("abort_at", ("metric", "errors")): 150,
    ("likelihood", ("metric", "errors")): -1.5,
    ("promote_at", ("metric", "errors")): -2.2,
    ("decision_timestamp_seconds",): 100,
    ("query_verdict", ("query", "wrong"), ("verdict", "Hold"), ("why", "BeyondBound")): 1,
    ("query_value", ("query", "wrong")): 0.2,
    ("query_bound", ("bound", "max"), ("query", "wrong")): 0.05,
    ("query_failures", ("query", "wrong")): 2,
    ("query_verdict", ("query", "empty"), ("verdict", "Hold"), ("why", "NoAnswer")): 1,
    ("query_bound", ("bound", "min"), ("query", "empty")): 1,
    ("query_failures", ("query", "empty")): 2,
}


class Page:
    """The metrics of a store with one ModelDeployment."""

    def __init__(self) -> None:
        self.store, self.metrics = Store(lambda: 0.0), Metrics()
        self.metrics.track(self.store, lambda: 0, lambda: 0, lambda: 0)

    def put(self, rollout: Any) -> dict[str, Any]:
        raw = parent("chat", status={"rollout": rollout} if rollout else {})
        self.store.put(MODEL_DEPLOYMENT, raw)
        return raw

    @property
    def series(self) -> dict[tuple[Any, ...], float]:
        return {
            (sample.name.removeprefix("pilotboat_canary_"), *sorted(set(sample.labels.items()) - set(WHO.items()))): (
                sample.value
            )
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name.startswith("pilotboat_canary_")
        }


def test_a_canary_under_way_is_told_whole() -> None:
    page = Page()
    raw = page.put(STATE.wire())
    assert page.series == WHOLE
    assert page.metrics.registry.get_sample_value("pilotboat_canary_weight_percent", WHO) == 25
    page.store.delete(MODEL_DEPLOYMENT, raw)
    assert page.series == {}


ABORTED = STATE.model_copy(update={"phase": RolloutPhase.ABORTED, "weight": 0})


@pytest.mark.parametrize(
    ("after", "left"),
    [
        (None, {}),
        ({"phase": "Progressing"}, {}),
        ({"phase": "Dancing", "stable": "a", "canary": "b"}, {}),
        (STATE.model_copy(update={"decision": DECISION.model_copy(update={"time": "soon"})}).wire(), {}),
        (ABORTED.wire(), {("phase", ("phase", "Aborted")): 1, ("weight_percent",): 0}),
    ],
    ids=["over", "another shape", "another version", "another's time", "given up"],
)
def test_series_go_when_the_rollout_does(after: Any, left: dict[Any, float]) -> None:
    page = Page()
    page.put(STATE.wire())
    page.put(after)
    assert page.series == left
    assert page.metrics.render()
