"""What applications post of both revisions, added up over gateways and restarts, and what can be said from it.

Owns: totals that only grow, however often evidence comes again, and the effects told from them. Must not know: what a
rollout does with them (nothing: people decide), how intervals are made (canary/effects.py).

A gateway counts from its own start and has a new name with each. So of each name what was added is remembered, and the
rest is added. A gateway met for the first time is added whole where it began after the canary had traffic; of an older
one only what is posted from now on counts, for the rest may be from before: both revisions are compared over one time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from ..api.analysis import PERIOD
from ..api.outcomes import MOST_GATEWAYS, MOST_OUTCOMES, OTHER, Counter, Effect, Outcomes, Result, Side
from ..api.rollout import RolloutStatus
from ..api.routing import Evidence
from .build import elapsed, timestamp
from .canary.counts import SETTLES, TOGETHER
from .canary.effects import Interval, OutcomeEffect, difference, share

EVERY = 60
"""Seconds between two updates of status: it is no log."""
DIGITS = 4
"""Of a share: one in ten thousand."""


class Base(StrEnum):
    """What a share is of: posts, for applications that post something of many requests, or requests."""

    POSTS = "posts"
    REQUESTS = "requests"


def look(state: RolloutStatus, evidence: Sequence[Evidence], now: datetime, last: bool = False) -> RolloutStatus:
    """The rollout with what was posted: when a minute has passed since the last update, or for the last time."""
    known = state.outcomes
    if not state.highest or (known and not last and elapsed(known.time, now) < EVERY):
        return state
    if known is None and not evidence:
        return state
    begun = known or Outcomes(since=timestamp(now), time=timestamp(now))
    grown = absorb(begun, evidence, state.stable, state.canary)
    if known is not None and grown == known:
        return state
    told = {"time": timestamp(now), "effects": [_written(each) for each in effects(grown, Base.POSTS)]}
    return state.model_copy(update={"outcomes": grown.model_copy(update=told)})


def kept(state: RolloutStatus, evidence: Sequence[Evidence], now: datetime) -> Result | None:
    """What stays of it when the rollout is over; None where nothing was posted."""
    found = look(state, evidence, now, last=True).outcomes
    return found.result if found and (found.stable.posted or found.canary.posted) else None


def absorb(known: Outcomes, evidence: Iterable[Evidence], stable: str, canary: str) -> Outcomes:
    """The totals with all that is new in the evidence; the same evidence again adds nothing."""
    for each in sorted(evidence, key=lambda each: (each.now, each.gateway)):
        known = _with(known, each, stable, canary)
    return known


def effects(result: Result, base: Base) -> tuple[OutcomeEffect, ...]:
    """Every outcome that was posted, in the share asked for. Of requests, those beyond all requests are left out."""
    of_stable, of_canary = (_of(side, base) for side in (result.stable, result.canary))
    found = []
    for outcome in sorted(result.stable.posts.keys() | result.canary.posts.keys()):
        a = min(result.stable.posts.get(outcome, 0), of_stable)
        b = min(result.canary.posts.get(outcome, 0), of_canary)
        if a or b:
            gap = difference(b, of_canary, a, of_stable)
            found.append(OutcomeEffect(outcome, share(a, of_stable), share(b, of_canary), gap))
    return tuple(found)


def _of(side: Side, base: Base) -> int:
    return side.posted if base is Base.POSTS else side.requests


def _written(told: OutcomeEffect) -> Effect:
    gap: Interval = told.effect
    return Effect(
        outcome=told.outcome,
        stable=round(told.a.estimate, DIGITS),
        canary=round(told.b.estimate, DIGITS),
        effect=round(gap.estimate, DIGITS),
        low=round(gap.low, DIGITS),
        high=round(gap.high, DIGITS),
        settled=gap.settled,
    )


def _with(known: Outcomes, told: Evidence, stable: str, canary: str) -> Outcomes:
    """The totals with what is new in one gateway's evidence."""
    before = next((counter for counter in known.counters if counter.gateway == told.gateway), None)
    if told.now <= (before.now if before else known.forgotten):
        return known
    if before is None:
        known = _roomy(known, told.now)
        if len(known.counters) == MOST_GATEWAYS:
            return known
    names = _names(known, told, stable, canary)
    posted = [_folded(told.feedback.get(revision, {}), names) for revision in (stable, canary)]
    old = before or _met(known, told, *posted)
    new = Counter(gateway=told.gateway, now=told.now, minute=_whole(told), stable=posted[0], canary=posted[1])
    others = [counter for counter in known.counters if counter.gateway != told.gateway]
    return known.model_copy(
        update={
            "stable": _grown(known.stable, old.stable, new.stable, _requests(told, stable, old, new)),
            "canary": _grown(known.canary, old.canary, new.canary, _requests(told, canary, old, new)),
            "counters": [*others, new.model_copy(update={"minute": max(old.minute, new.minute)})],
        }
    )


def _roomy(known: Outcomes, now: float) -> Outcomes:
    """With room for one gateway more, where one has been silent: one that answers is never dropped, or it would be
    taken for a new one."""
    if len(known.counters) < MOST_GATEWAYS:
        return known
    oldest = min(known.counters, key=lambda counter: counter.now)
    if now - oldest.now <= TOGETHER:
        return known
    rest = [counter for counter in known.counters if counter is not oldest]
    return known.model_copy(update={"counters": rest, "forgotten": max(known.forgotten, oldest.now)})


def _met(known: Outcomes, told: Evidence, stable: Mapping[str, int], canary: Mapping[str, int]) -> Counter:
    """What is taken as added already of a gateway met for the first time."""
    since = datetime.fromisoformat(known.since).timestamp()
    minute = int(since) // PERIOD * PERIOD
    if told.began > max(since, known.forgotten):
        return Counter(gateway=told.gateway, now=told.now, minute=minute)
    if known.forgotten:  # it may be one that was dropped: what it saw before it was met again may have been added
        minute = max(minute, int(known.forgotten))
    return Counter(gateway=told.gateway, now=told.now, minute=minute, stable=dict(stable), canary=dict(canary))


def _whole(told: Evidence) -> int:
    """The beginning of the last minute that will not grow any more."""
    return int(told.now - SETTLES) // PERIOD * PERIOD - PERIOD


def _requests(told: Evidence, revision: str, old: Counter, new: Counter) -> int:
    return sum(each.requests for each in told.minutes.get(revision, ()) if old.minute < each.start <= new.minute)


def _names(known: Outcomes, told: Evidence, stable: str, canary: str) -> frozenset[str]:
    """Outcomes with a total of their own: those that have one, and new ones while there is room."""
    names = dict.fromkeys([*known.stable.posts, *known.canary.posts])
    names.pop(OTHER, None)
    came = {*told.feedback.get(stable, {}), *told.feedback.get(canary, {})} - {OTHER}
    for name in sorted(came - names.keys())[: MOST_OUTCOMES - len(names)]:
        names[name] = None
    return frozenset(names)


def _folded(posts: Mapping[str, int], names: frozenset[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for outcome, count in sorted(posts.items()):
        name = outcome if outcome in names else OTHER
        found[name] = found.get(name, 0) + count
    return found


def _grown(side: Side, old: Mapping[str, int], new: Mapping[str, int], requests: int) -> Side:
    more = {outcome: max(0, count - old.get(outcome, 0)) for outcome, count in new.items()}
    posts = {outcome: side.posts.get(outcome, 0) + more.get(outcome, 0) for outcome in sorted({*side.posts, *more})}
    return Side(requests=side.requests + requests, posts=posts)
