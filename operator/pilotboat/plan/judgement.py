"""What a rollout's evidence says now: the statistics asked with what the spec wants, and their answer kept steady.

Owns: the step from spec and evidence to a Decision and the state it is remembered by. Must not know: how evidence is
weighed (canary/), what a decision leads to (progression.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ..api.analysis import AnalysisState, Decision, Metric
from ..api.rollout import Analysis, RolloutStatus
from ..api.routing import Evidence
from .canary import memory
from .canary.gate import judge
from .canary.settings import Settings


def settings(analysis: Analysis) -> Settings | None:
    """What the statistics are asked; None where every metric is switched off."""
    gates = (
        (Metric.ERRORS, analysis.errors.enabled),
        (Metric.FIRST_TOKEN, analysis.first_token.enabled),
        (Metric.PER_TOKEN, analysis.per_token.enabled),
    )
    metrics = tuple(metric for metric, enabled in gates if enabled)
    if not metrics:
        return None
    return Settings(
        metrics=metrics,
        first_token_ms=analysis.first_token.slo_milliseconds,
        per_token_ms=analysis.per_token.slo_milliseconds,
        min_samples=analysis.min_samples,
        warmup=analysis.warmup,
    )


def look(
    state: RolloutStatus, asked: Settings, evidence: Sequence[Evidence], final: bool, now: datetime
) -> RolloutStatus:
    """The rollout with the newest decision. It changes once a minute at most, or with the verdict: status is no log."""
    clock = now.timestamp()
    if not evidence and not state.analysis.cursor:
        return state
    known = state.analysis if state.analysis.cursor else memory.begin(evidence, state.stable, asked, clock)
    grown, open_minute = memory.advance(known, evidence, state.stable, state.canary, asked)
    made = judge(grown, open_minute, asked, final, clock)
    return state.model_copy(update={"analysis": grown, "decision": _steady(state, grown, made)})


def _steady(state: RolloutStatus, grown: AnalysisState, made: Decision) -> Decision:
    before = state.decision
    same = before and (before.verdict, before.why) == (made.verdict, made.why)
    return before if before and same and grown.cursor == state.analysis.cursor else made
