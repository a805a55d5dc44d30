"""One look at the evidence: abort, promote, hold or continue, and why.

Owns: the rules by which the statistics become a Decision. Must not know: how they are computed (eprocess, sprt), how
evidence comes in (counts, memory), or what a rollout does with a decision.

Only the comparison with stable in the same minutes may abort: an incident that both share cancels out. Only the test
anchored at stable's long-run rate may promote: a canary that shares an incident holds until it is over. All else holds,
and no data is neither good nor bad. The hard stop stands outside: it needs no statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from ...api.analysis import PERIOD, AnalysisState, Decision, Latest, Metric, MetricRecord, MetricState, Verdict, Why
from . import words
from .counts import Count, Stratum
from .eprocess import purse
from .memory import ENOUGH_FAILING, latest
from .running import design_effect, stakes_with
from .settings import Settings
from .sprt import bound, likelihood


def judge(state: AnalysisState, open_minute: Stratum | None, settings: Settings, proof: bool, now: float) -> Decision:
    """What the evidence says now. The open minute may abort; only whole minutes promote.

    `proof`: whether the step now ends only with a canary that is proven, as the last one does; other looks never
    promote, they continue. It does not matter to the risks how often, or from when on, that is asked (sprt.py).
    """
    now_open = open_minute if open_minute and state.warmed >= settings.warmup else Stratum(state.cursor + PERIOD)
    records = [_record(metric, state, now_open, settings, proof) for metric in settings.metrics]
    newest = latest(state.latest, open_minute) if open_minute else state.latest
    verdict, why = _whole(state, open_minute, newest, records, settings, now)
    return Decision(
        verdict=verdict,
        why=why,
        time=datetime.fromtimestamp(int(now), UTC).isoformat().replace("+00:00", "Z"),
        metrics=records,
        message=words.whole(verdict, why, records, newest),
    )


def _whole(
    state: AnalysisState,
    open_minute: Stratum | None,
    newest: Sequence[Latest],
    records: Sequence[MetricRecord],
    settings: Settings,
    now: float,
) -> tuple[Verdict, Why]:
    """The metrics' verdicts as one: the worst of them."""
    if _failing(newest):
        return Verdict.ABORT, Why.FAILING
    if any(record.verdict is Verdict.ABORT for record in records):
        return Verdict.ABORT, Why.WORSE
    if now - (state.cursor + PERIOD) > settings.stale_after:
        return Verdict.HOLD, Why.STALE_DATA
    if not state.latest and not (open_minute and open_minute.canary.requests):
        return Verdict.HOLD, Why.NO_DATA
    for record in records:
        if record.verdict is Verdict.HOLD:
            return Verdict.HOLD, record.why
    return records[0].verdict, records[0].why


def _failing(minutes: Sequence[Latest]) -> bool:
    """Half of the latest requests failed, and ten times as many as of stable's in the same minutes.

    Without the latter, ten requests of an incident that both share would do. What is worse and not that much is left to
    the evidence.
    """
    requests, errors = sum(m.requests for m in minutes), sum(m.errors for m in minutes)
    stable, stable_errors = sum(m.stable for m in minutes), sum(m.stable_errors for m in minutes)
    return requests >= ENOUGH_FAILING and 2 * errors >= requests and errors * stable >= 10 * stable_errors * requests


def _record(
    metric: Metric, state: AnalysisState, open_minute: Stratum, settings: Settings, proof: bool
) -> MetricRecord:
    """One metric's statistics, bounds and verdict."""
    known = state.of(metric)
    own, other = open_minute.canary.of(metric), open_minute.stable.of(metric)
    evidence = purse(*stakes_with(metric, known, own, other, settings))
    margin = settings.margin(metric)
    effect = design_effect(known)
    long_run = (known.long_over + 0.5) / (known.long + 1)
    score = likelihood(known.promote, known.promote_over, long_run, margin, effect) if known.promote else None
    promote_at = bound(settings.beta, known.asked or known.promote, long_run, margin, effect)
    verdict, why = _verdict(metric, state, evidence, score, promote_at, settings, proof)
    beside = other if own.n else Count()
    counts = words.Seen(
        known.canary + own.n, known.canary_over + own.over, known.stable + beside.n, known.stable_over + beside.over
    )
    told, abort_at = _round(evidence), _round(settings.abort_at(metric))
    return MetricRecord(
        metric=metric,
        verdict=verdict,
        why=why,
        canary=counts.canary,
        canary_over=counts.canary_over,
        stable=counts.stable,
        stable_over=counts.stable_over,
        slower_than=_bound(metric, state),
        design_effect=round(effect, 2),
        evidence=told,
        abort_at=abort_at,
        likelihood=None if score is None else round(score, 3),
        promote_at=round(promote_at, 3),
        message=words.metric(metric, why, counts, _bound(metric, state), told, abort_at),
    )


def _verdict(
    metric: Metric,
    state: AnalysisState,
    evidence: float,
    score: float | None,
    promote_at: float,
    settings: Settings,
    proof: bool,
) -> tuple[Verdict, Why]:
    """One metric's verdict, by the first rule that applies."""
    known = state.of(metric)
    if evidence >= settings.abort_at(metric):
        return Verdict.ABORT, Why.WORSE
    if metric is not Metric.ERRORS and _bound(metric, state) is None:
        return Verdict.HOLD if proof else Verdict.CONTINUE, Why.UNJUDGED
    if known.silent >= settings.min_samples:
        return Verdict.HOLD, Why.METRIC_MISSING
    if not proof:
        return Verdict.CONTINUE, Why.MORE_TO_COME
    return _promotion(known, score, promote_at, settings)


def _promotion(known: MetricState, score: float | None, promote_at: float, settings: Settings) -> tuple[Verdict, Why]:
    """Whether the metric lets the canary be promoted."""
    if score is None or known.promote < settings.min_samples or known.long < settings.min_samples:
        return Verdict.HOLD, Why.TOO_FEW_REQUESTS
    if score <= promote_at:
        return Verdict.PROMOTE, Why.AS_GOOD
    return Verdict.HOLD, Why.UNDECIDED


def _bound(metric: Metric, state: AnalysisState) -> float | None:
    """What a good answer keeps, of a latency metric."""
    if metric is Metric.ERRORS:
        return None
    return state.first_token_bound if metric is Metric.FIRST_TOKEN else state.per_token_bound


def _round(value: float) -> float:
    """Three digits that count."""
    return float(f"{value:.3g}")
