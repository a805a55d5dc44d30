"""What is said about a canary: its condition, where it stands, and those before it.

Owns: the words and reasons of a rollout with steps. Must not know: how it is decided (progression.py, canary/).
"""

from __future__ import annotations

from ..api import conditions as kinds
from ..api.analysis import Verdict, Why
from ..api.conditions import Condition
from ..api.reasons import Reason
from ..api.rollout import RolloutPhase, RolloutRecord, RolloutStatus
from . import outcome
from .build import Raw, dig
from .outcome import Cause

PHASES = {
    RolloutPhase.PAUSED: Reason.CANARY_PAUSED,
    RolloutPhase.AWAITING_APPROVAL: Reason.AWAITING_APPROVAL,
    RolloutPhase.HOLDING: Reason.CANARY_HOLDING,
    RolloutPhase.ABORTED: Reason.CANARY_ROLLED_BACK,
}
"""Reasons of the phases that have one of their own; else the state says what it waits for."""

KEPT_RECORDS = 10


def standing(state: RolloutStatus, steps: int) -> Cause:
    """Where the canary stands, as the cause that the new revision is not rolled out whole."""
    if state.phase is RolloutPhase.ABORTED:
        return Cause(Reason.CANARY_ROLLED_BACK, state.message)
    if state.phase is RolloutPhase.DRAINING:
        return Cause(_reason(state), f"canary {state.canary} has {state.weight} % of the traffic: {state.message}")
    told = f"step {min(state.step + 1, steps)} of {steps}, {state.weight} % of the traffic: {state.message}"
    return Cause(PHASES.get(state.phase) or _reason(state), told)


def _reason(state: RolloutStatus) -> Reason:
    """What it waits for; of another operator's words, which this one may not know, that it is under way."""
    return Reason(state.reason) if state.reason in set(Reason) else Reason.ROLLING_OUT


def canary_condition(state: RolloutStatus | None, generation: int) -> list[Condition]:
    """Whether the canary is well; none where there is none any more, Unknown where nothing can be said of it."""
    if state is None or state.phase is RolloutPhase.DRAINING:
        return []

    def told(holds: bool, reason: Reason, message: str) -> Condition:
        return outcome.condition(kinds.CANARY_HEALTHY, holds, reason, message, generation)

    decision = state.decision
    if state.phase is RolloutPhase.ABORTED:
        return [told(False, Reason.CANARY_ROLLED_BACK, state.message)]
    if decision is None or not state.weight:
        return [told(False, Reason.STARTING, state.message).model_copy(update={"status": "Unknown"})]
    if decision.verdict is Verdict.HOLD:
        barred = next((query for query in decision.queries if query.why is Why.NOT_PERMITTED), None)
        reason = Reason.PROMETHEUS_NOT_PERMITTED if barred else Reason.CANARY_HOLDING
        message = barred.message if barred else decision.message
        return [told(False, reason, message).model_copy(update={"status": "Unknown"})]
    return [told(True, Reason.SERVING, decision.message)]


def records(parent: Raw, ended: RolloutRecord | None) -> list[RolloutRecord] | None:
    """Canaries that are over, the one that has just ended first; None where there are none.

    Only the newest has its decision, which is as large as all the rest of them.
    """
    known = outcome.read_all(RolloutRecord, dig(parent, "status", "rollouts"))
    if ended:
        known = [ended, *(record.model_copy(update={"decision": None}) for record in known)]
    return known[:KEPT_RECORDS] or None
