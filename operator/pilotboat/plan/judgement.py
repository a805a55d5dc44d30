"""What a rollout's evidence says now: the statistics asked with what the spec wants, the user's own queries beside
them, and the answer kept steady.

Owns: the step from spec and evidence to a Decision and the state it is remembered by. Must not know: how evidence is
weighed (canary/), what an answer to a query means (queries.py), what a decision leads to (progression.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from math import inf

from ..api.analysis import PERIOD, AnalysisState, Decision, QueryRecord, Verdict, Why
from ..api.gates import Analysis
from ..api.rollout import RolloutPhase, RolloutStatus
from ..api.routing import Evidence
from .build import elapsed, timestamp
from .canary import memory
from .canary.gate import judge
from .canary.settings import Settings


def settings(analysis: Analysis, state: RolloutStatus) -> Settings | None:
    """What the statistics are asked; None where every metric is switched off."""
    if not analysis.metrics:
        return None
    return Settings(
        metrics=analysis.metrics,
        first_token_ms=analysis.first_token.slo_milliseconds,
        per_token_ms=analysis.per_token.slo_milliseconds,
        min_samples=analysis.min_samples,
        warmup=analysis.warmup,
        since=datetime.fromisoformat(state.since).timestamp() if state.since else inf,
    )


def look(
    state: RolloutStatus,
    asked: Settings | None,
    evidence: Sequence[Evidence],
    queries: Sequence[QueryRecord],
    proof: bool,
    now: datetime,
) -> RolloutStatus:
    """The rollout with the newest decision. It changes once a minute at most, or with the verdict: status is no log.

    `asked`: None where traffic is not judged. `queries`: records of the user's own queries, none where there are none.
    `proof`: whether the step now ends only with a canary that is proven.
    """
    known, made = _weighed(state, asked, evidence, proof, now)
    whole = joined(made or _without_statistics(asked is not None, now), queries) if queries else made
    if whole is None:
        stays = state.decision is None or not state.decision.queries
        return state if stays else state.model_copy(update={"decision": None})
    return state.model_copy(update={"analysis": known, "decision": _steady(state, known, whole, now)})


def _weighed(
    state: RolloutStatus, asked: Settings | None, evidence: Sequence[Evidence], proof: bool, now: datetime
) -> tuple[AnalysisState, Decision | None]:
    """What the statistics say; None where they are not asked, or nothing was ever heard."""
    clock = now.timestamp()
    if asked is None or (not evidence and not state.analysis.cursor):
        return state.analysis, None
    known = state.analysis if state.analysis.cursor else memory.begin(evidence, state.stable, asked, clock)
    grown, open_minute = memory.advance(known, evidence, state.stable, state.canary, state.weight, asked)
    made = judge(grown, open_minute, asked, proof, clock)
    return memory.asked(grown, asked) if proof else grown, made


def held(state: RolloutStatus) -> RolloutStatus:
    """The rollout with what holds it now among all that ever did."""
    decision = state.decision
    judged = state.weight and not state.forced and state.phase not in (RolloutPhase.PROMOTING, RolloutPhase.ABORTED)
    if decision is None or decision.verdict is not Verdict.HOLD or not judged or decision.why in state.held:
        return state
    return state.model_copy(update={"held": [*state.held, decision.why]})


def joined(base: Decision, queries: Sequence[QueryRecord]) -> Decision:
    """The worse of what the statistics and the queries say; of two that are as bad, the statistics' cause.

    Queries abort and hold. Where all keep their bounds the decision is the statistics' alone.
    """
    worst = min(queries, key=lambda record: _WORST_FIRST.index(record.verdict))
    told = base.model_copy(update={"queries": list(queries)})
    if base.verdict is Verdict.ABORT or worst.verdict is Verdict.CONTINUE:
        return told
    if worst.verdict is Verdict.HOLD and base.verdict is Verdict.HOLD:
        return told.model_copy(update={"message": f"{base.message}; {worst.message}"})
    return told.model_copy(update={"verdict": worst.verdict, "why": worst.why, "message": worst.message})


_WORST_FIRST = (Verdict.ABORT, Verdict.HOLD, Verdict.CONTINUE)
"""What a query may say."""


def _without_statistics(judged: bool, now: datetime) -> Decision:
    verdict, why = (Verdict.HOLD, Why.NO_DATA) if judged else (Verdict.CONTINUE, Why.WITHIN_BOUND)
    message = "nothing is known of the canary's requests yet" if judged else "every query keeps its bounds"
    return Decision(verdict=verdict, why=why, time=timestamp(now), message=message)


def _steady(state: RolloutStatus, grown: AnalysisState, made: Decision, now: datetime) -> Decision:
    before = state.decision
    if before and state.phase is RolloutPhase.PROMOTING and made.verdict is not Verdict.ABORT:
        made = before.model_copy(update={"queries": made.queries})
        return before if _gist(before) == _gist(made) else made  # what promoted it is what is told in the end
    if before is None or _gist(before) != _gist(made) or grown.cursor != state.analysis.cursor:
        return made
    return made if made.queries and elapsed(before.time, now) >= PERIOD else before


def _gist(decision: Decision) -> tuple[object, ...]:
    """What of a decision is news."""
    queries = [(each.name, each.digest, each.verdict, each.why, each.failures) for each in decision.queries]
    return decision.verdict, decision.why, queries
