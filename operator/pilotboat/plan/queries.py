"""Queries of a user's own: what a Prometheus is asked before and while a canary has traffic, and what answers mean.

Owns: the words filled in for $canary and its like, whether the queries can be answered at all, and the step from an
answer to a QueryRecord. Must not know: who asks, nor how a record weighs beside the statistics (judgement.py).

A bound says nothing of chance. So a value that keeps it proves nothing and promotes nothing; one that does not holds
the share, and gives the canary up when it stays so for several looks. What is no answer is neither good nor bad: it
holds, and leaves the count of looks as it is.

Before it has users a canary has no series, and need not have any. So stable then stands in its place: of what not even
stable has a series, the canary will have none either, and would be held at its share for ever.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..api.analysis import QueryRecord, Verdict, Why
from ..api.prometheus import Prometheus, Query
from ..api.reasons import Reason
from ..api.rollout import RolloutPhase, RolloutStatus
from . import outcome
from .build import Raw, dig, digest, elapsed, timestamp
from .outcome import Cause
from .types import Answer, Observed, Questions

STALE = 120.0
"""Seconds between the time of a value and that of the answer it came in: more is no answer, as with gateways."""
LATE = 60.0
"""Seconds beyond two periods after which an answer, or a record of before a restart, says nothing any more."""

_WORDS = re.compile(r"\$(canary|stable|namespace|name)\b")


@dataclass(frozen=True)
class _Seen:
    """What one answer says of one query."""

    why: Why
    words: str
    value: float | None = None
    series: int = 0


def questions(parent: Raw) -> Questions | None:
    """What is to be asked now; nothing while there is no canary, nor of one that figures do not stop any more."""
    wanted = outcome.read(Prometheus, dig(parent, "spec", "rollout", "analysis", "prometheus"))
    state = outcome.read(RolloutStatus, dig(parent, "status", "rollout")) if wanted else None
    if wanted is None or state is None or not (_judged(state) or _first(state)):
        return None
    as_asked = _of_stable(state) if _first(state) else state
    texts = (written(query, parent, as_asked) for query in wanted.queries)
    return Questions(wanted.url, tuple(dict.fromkeys(texts)), wanted.period_seconds, wanted.token_secret_ref)


def written(query: Query, parent: Raw, state: RolloutStatus) -> str:
    """A query as it is asked. Any other $ is PromQL's own, as in the end of a regular expression."""
    meta = parent["metadata"]
    words = {"canary": state.canary, "stable": state.stable, "name": meta["name"], "namespace": meta["namespace"]}
    return _WORDS.sub(lambda found: str(words[found[1]]), query.query)


def unanswered(state: RolloutStatus, wanted: Prometheus | None, observed: Observed, now: datetime) -> Cause | None:
    """Why the canary is to have no users yet: the first query that cannot be answered for stable in its place.

    The value itself says nothing here: not a number is an answer, and stable is not judged.
    """
    if wanted is None or not _first(state):
        return None
    answers = _answers(state, observed, now)
    for number, query in enumerate(wanted.queries):
        text = written(query, observed.parent, _of_stable(state))
        seen = _seen(query, answers.get(text), _fresh(wanted.period_seconds), now)
        if not seen.series:
            place = ", with stable in the place of $canary" if text != written(query, observed.parent, state) else ""
            where = f"rollout.analysis.prometheus.queries[{number}] ({query.name})"
            return _untold(where, answers.get(text), seen, place, observed.parent["metadata"]["name"])
    return None


def _untold(where: str, answer: Answer | None, seen: _Seen, place: str, name: str) -> Cause:
    if answer is None:
        return Cause(Reason.ROLLING_OUT, f"{where}: {seen.words}")
    skip = f"`pilotboat rollout skip {name}`"
    if seen.why is Why.NOT_PERMITTED:
        return Cause(Reason.PROMETHEUS_NOT_PERMITTED, f"{where}: {seen.words}; grant it, or {skip}")
    if answer.trouble or answer.values:
        return Cause(Reason.QUERY_UNANSWERED, f"{where}: {seen.words}; mend it, or {skip}")
    mend = "correct the metric's name and labels, append `or vector(0)` where no series means 0"
    return Cause(Reason.QUERY_UNANSWERED, f"{where}: no series{place}: {mend}, or {skip}")


def look(
    state: RolloutStatus,
    wanted: Prometheus | None,
    observed: Observed,
    now: datetime,
    holding: Collection[str] | None = None,
) -> tuple[QueryRecord, ...]:
    """A record for each query, in the order of the spec; none where nothing is asked.

    `holding`: names of those that the step waits for; None: all. Of the others none holds, and any may abort.
    """
    if wanted is None or not _judged(state):
        return ()
    answers = _answers(state, observed, now)
    known = {record.name: record for record in state.decision.queries} if state.decision else {}
    made = []
    for query in wanted.queries:
        text = written(query, observed.parent, state)
        before, answer = known.get(query.name), answers.get(text)
        holds = holding is None or query.name in holding
        made.append(_record(query, text, before, answer, wanted.period_seconds, now, holds))
    return tuple(made)


def _answers(state: RolloutStatus, observed: Observed, now: datetime) -> dict[str, Answer]:
    """By query as it was asked, those of this rollout."""
    began = datetime.fromisoformat(state.started) if state.started else now
    return {answer.query: answer for answer in observed.answers if answer.at >= began}


def _fresh(period: float) -> float:
    """Seconds in which an answer says something."""
    return 2 * period + LATE


def _of_stable(state: RolloutStatus) -> RolloutStatus:
    """As if stable were the canary."""
    return state.model_copy(update={"canary": state.stable})


def _first(state: RolloutStatus) -> bool:
    return state.phase is not RolloutPhase.ABORTED and state.untried and not state.ungated


def _judged(state: RolloutStatus) -> bool:
    return state.phase is not RolloutPhase.ABORTED and state.weight > 0 and not state.forced


def _record(
    query: Query,
    text: str,
    before: QueryRecord | None,
    answer: Answer | None,
    period: float,
    now: datetime,
    holds: bool,
) -> QueryRecord:
    mark = digest([text, query.min, query.max])[:8]
    known = before if before and before.digest == mark else None
    fresh = _fresh(period)
    if answer is None and known and elapsed(known.looked, now) <= fresh:
        # An operator that has just begun: what the last one saw is not old yet.
        return known.model_copy(update={"verdict": _verdict(known.why, known.failures, known.abort_at, holds)})
    seen = _seen(query, answer, fresh, now)
    failures, failed = _counted(known, seen.why, answer, period)
    return QueryRecord(
        name=query.name,
        digest=mark,
        verdict=_verdict(seen.why, failures, query.failures, holds),
        why=seen.why,
        value=None if seen.value is None else float(f"{seen.value:.6g}"),
        series=seen.series,
        min=query.min,
        max=query.max,
        failures=failures,
        abort_at=query.failures,
        failed=failed,
        looked=timestamp(answer.at if answer else now),
        message=_message(query, seen, failures),
    )


def _counted(known: QueryRecord | None, why: Why, answer: Answer | None, period: float) -> tuple[int, int | None]:
    """Looks beyond the bound, with this one, and the time of the last of them. Each counts once, however often it is
    seen, and two that came within one period count once: an operator that starts anew looks at once."""
    if why is Why.WITHIN_BOUND:
        return 0, None
    failures, failed = (known.failures, known.failed) if known else (0, None)
    if why is not Why.BEYOND_BOUND or answer is None:
        return failures, failed
    at = answer.at.timestamp()
    again = failed is not None and 0 <= at - failed < period - 1
    return (failures, failed) if again else (failures + 1, int(at))


def _verdict(why: Why, failures: int, abort_at: int, holds: bool) -> Verdict:
    if why is Why.BEYOND_BOUND and failures >= abort_at:
        return Verdict.ABORT
    return Verdict.HOLD if holds and why is not Why.WITHIN_BOUND else Verdict.CONTINUE


def _seen(query: Query, answer: Answer | None, fresh: float, now: datetime) -> _Seen:
    """By the first rule that applies; a value beyond the bound counts whatever the other series are."""
    if answer is None:
        return _Seen(Why.NO_ANSWER, "it has not been asked yet")
    if trouble := answer.trouble or _old(answer, fresh, now):
        return _Seen(*trouble)
    if not answer.values:
        return _Seen(Why.NO_ANSWER, "the answer is empty")
    return _held(query, answer.values)


def _old(answer: Answer, fresh: float, now: datetime) -> tuple[Why, str] | None:
    age = (now - answer.at).total_seconds()
    if age > fresh:
        return Why.NO_ANSWER, f"the last answer came {age:.0f} s ago"
    gap = 0.0 if answer.stamp is None else answer.at.timestamp() - answer.stamp
    if abs(gap) > STALE:
        return Why.NO_ANSWER, f"the answer is of {abs(gap):.0f} s {'ago' if gap > 0 else 'ahead'}, by its own time"
    return None


def _held(query: Query, values: Sequence[float]) -> _Seen:
    """The worst of the values against the bounds."""
    numbers = [value for value in values if math.isfinite(value)]
    worst = max(numbers, key=lambda value: _excess(query, value), default=None)
    if worst is not None and _excess(query, worst) > 0:
        above = query.max is not None and worst > query.max
        words = f"is above {query.max:g}" if above else f"is below {query.min:g}"
        return _Seen(Why.BEYOND_BOUND, words, worst, len(values))
    if worst is None or len(numbers) < len(values):
        return _Seen(Why.NO_ANSWER, "the answer is NaN or infinite", None, len(values))
    return _Seen(Why.WITHIN_BOUND, "keeps its bounds", worst, len(values))


def _excess(query: Query, value: float) -> float:
    """How far a value is beyond the nearer bound; below 0 within."""
    above = -math.inf if query.max is None else value - query.max
    below = -math.inf if query.min is None else query.min - value
    return max(above, below)


def _message(query: Query, seen: _Seen, failures: int) -> str:
    name = f"query {query.name}"
    if seen.value is None:
        neither = "" if seen.why is Why.NOT_PERMITTED else ": that is neither good nor bad"
        return f"{name}: {seen.words}{neither}"
    worst = f", the worst of {seen.series} series," if seen.series > 1 else ""
    told = f"{name}: {seen.value:.6g}{worst} {seen.words}"
    looks = f", in {failures} of {query.failures} looks in a row that give the canary up"
    return told + (looks if seen.why is Why.BEYOND_BOUND else "")
