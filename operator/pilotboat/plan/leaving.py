"""The way out of a canary that another change has overtaken: it gives back what it carries, as fast as stable takes it.

Owns: one look at it, how long it may make no way before that is said, and the words. Must not know: steps, verdicts,
how replicas are counted out (capacity.py).

No deadline ends the wait. Where stable cannot have the replicas that all of the traffic needs, each of those there are
carries more than its part already: to send them the rest, or to end the canary's pods and wait for stable's to load,
would be paid by those who ask, and the next change would find no room either. So it is said what is missing, and left
to a person: more room, fewer replicas in the spec, which is what all of the traffic then needs, or Abort.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ..api.reasons import Reason
from ..api.rollout import Rollout, RolloutPhase, RolloutStatus
from . import capacity
from .build import elapsed, timestamp
from .capacity import Standing
from .progression import Advance, Facts, failure


def leave(state: RolloutStatus, spec: Rollout, facts: Facts, now: datetime) -> Advance:
    """One look. It goes on serving what stable does not carry yet, unless something speaks against it: then it goes at
    once, as any other."""
    before = state
    if facts.canary.down or failure(state, facts):
        state = state.model_copy(update={"weight": 0})
    lend = state.borrowing or facts.starved is not None  # the canary has what stable's pod waits for
    state = state.model_copy(update={"borrowing": lend and capacity.can_borrow(facts.want)})
    at = Standing(facts.want, facts.stable, facts.canary, state.weight, 0, borrowing=state.borrowing)
    made = capacity.back(at)
    since = before.waiting_since if before.phase is RolloutPhase.DRAINING and made.weight == before.weight else None
    changes = {
        "phase": RolloutPhase.DRAINING,
        "weight": made.weight,
        "since": None,
        "waiting_since": (since or timestamp(now)) if made.weight else None,
    }
    left, again = _told(state.model_copy(update=changes), spec, facts, now)
    return Advance(left, made, again)


def _told(state: RolloutStatus, spec: Rollout, facts: Facts, now: datetime) -> tuple[RolloutStatus, timedelta | None]:
    """With what it waits for, and when more is to be said of that."""
    if state.waiting_since is None:
        return _says(state, Reason.ROLLING_OUT, "its pods go"), None
    told = f"its {state.weight} % go back as replicas of {state.stable} become ready"
    left = spec.deadline_seconds - elapsed(state.waiting_since, now)
    if left > 0:
        return _says(state, Reason.ROLLING_OUT, told), timedelta(seconds=max(1.0, left))
    ready = facts.stable.serving
    told = f"{told}, and none did within {spec.deadline}. The {ready} that are ready carry no more: make room, lower "
    told += "spec.replicas to what there is room for, or put all on them: `pilotboat rollout abort NAME`"
    if facts.starved:
        return _says(state, Reason.INSUFFICIENT_SURGE_CAPACITY, f"{told}; {facts.starved}"), None
    return _says(state, Reason.DEADLINE_EXCEEDED, told), None


def _says(state: RolloutStatus, reason: Reason, words: str) -> RolloutStatus:
    return state.model_copy(update={"reason": reason, "message": f"another change came: {words}"})
