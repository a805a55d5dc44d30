"""A decision in words, for whoever reads a condition, an event or a history.

Owns: the sentences. Must not know: how the decision was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...api.analysis import Decision, Latest, Metric, MetricRecord, QueryRecord, Verdict, Why

NAMES = {Metric.ERRORS: "errors", Metric.FIRST_TOKEN: "time to first token", Metric.PER_TOKEN: "time per token"}
CAUSES = {
    Why.WORSE: "worse than stable in the same minutes",
    Why.AS_GOOD: "as good as stable",
    Why.UNDECIDED: "not decided yet: neither worse nor shown to be as good",
    Why.TOO_FEW_REQUESTS: "too few requests to promote",
    Why.METRIC_MISSING: "requests come in, but this is not measured: look at the pods' metrics",
    Why.UNJUDGED: "not judged: stable has too little data for a bound; give one, or switch the metric off",
    Why.MORE_TO_COME: "nothing against it so far",
}
WHOLE = {
    Why.FAILING: "half of the canary's latest requests failed",
    Why.STALE_DATA: "no gateway has told anything new: that is neither good nor bad",
    Why.NO_DATA: "the canary has had no request, or refused (400 to 499) all that it had: that is neither good nor bad",
    Why.AS_GOOD: "the canary is as good as stable in every metric",
    Why.MORE_TO_COME: "nothing speaks against the canary so far",
}


class Seen(NamedTuple):
    """A metric's counts."""

    canary: int
    canary_over: int
    stable: int
    stable_over: int


def metric(which: Metric, why: Why, seen: Seen, bound: float | None, evidence: float, abort_at: float) -> str:
    """One metric's part: what was counted, what it weighs, what it means."""
    slow = "" if bound is None else f" above {bound:g} ms"
    return (
        f"{NAMES[which]}: {seen.canary_over} of {seen.canary}{slow} on the canary, {seen.stable_over} of {seen.stable} "
        f"on stable; evidence of being worse {evidence:.3g} of {abort_at:.3g}; {CAUSES[why]}"
    )


def recorded(decision: Decision) -> str:
    """All that was decided by in a line: of each metric n, both statistics with their bounds, and its verdict."""
    told = [*map(_figures, decision.metrics), *map(_answer, decision.queries)]
    return f"verdict {decision.verdict} ({decision.why}) at {decision.time}{': ' if told else ''}{', '.join(told)}"


def _figures(record: MetricRecord) -> str:
    score = "none" if record.likelihood is None else f"{record.likelihood:g}"
    return (
        f"{record.metric} {record.verdict}: n {record.canary} beside {record.stable}, evidence {record.evidence:g} of "
        f"{record.abort_at:g}, likelihood {score} of {record.promote_at:g}"
    )


def _answer(query: QueryRecord) -> str:
    value = "none" if query.value is None else f"{query.value:g}"
    bounds = " and ".join(f"{side} {at:g}" for side, at in (("min", query.min), ("max", query.max)) if at is not None)
    return f"query {query.name} {query.verdict}: value {value}, {bounds}, looks {query.failures} of {query.abort_at}"


def whole(verdict: Verdict, why: Why, records: Sequence[MetricRecord], newest: Sequence[Latest]) -> str:
    """The decision in one sentence; where one metric made it, in that metric's."""
    told = next((record.message for record in records if (record.verdict, record.why) == (verdict, why)), "")
    if why is Why.FAILING:
        failed, of = sum(each.errors for each in newest), sum(each.requests for each in newest)
        return f"{WHOLE[why]}: errors in {failed} of {of}"
    return WHOLE.get(why, told)
