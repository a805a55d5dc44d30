"""A canary while nothing is wanted (`replicas: 0`), and until stable serves again: nobody is promoted by that.

Owns: what is remembered of it, and when it goes on. Must not know: steps, verdicts, replicas.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ..api.reasons import Reason
from ..api.rollout import RolloutPhase, RolloutStatus, Verb
from .outcome import Cause
from .progression import Facts, begin


def kept(known: RolloutStatus, canary: str, now: datetime) -> RolloutStatus:
    """What is remembered while nothing is wanted: one that was given up stays so, any other will begin anew. So will
    one that has taken its place meanwhile."""
    if known.canary == canary and known.phase is RolloutPhase.ABORTED:
        return known
    begun = begin(known.stable, canary, now)
    same = {"started": known.started} if known.canary == canary else {}
    told = f"nothing is wanted (spec.replicas is 0): it begins anew when {known.stable} serves again"
    asleep = {"asleep": True, "waiting_since": None, "reason": Reason.SCALED_TO_ZERO, "message": told}
    return begun.model_copy(update=same | asleep)


def woken(state: RolloutStatus, facts: Facts) -> tuple[RolloutStatus, Facts]:
    """Once replicas are wanted it waits for stable, which it is compared with, or for a person to promote it."""
    promoted = state.forced or (facts.action is not None and facts.action.verb is Verb.PROMOTE)
    if not state.asleep or facts.stable.serving or promoted:
        return state.model_copy(update={"asleep": False}), facts
    waits = Cause(Reason.STARTING, f"after replicas 0 it begins anew when {state.stable} serves again")
    return state, replace(facts, unrouted=facts.unrouted or waits)
