"""The record of a canary that is over, as status keeps it.

Owns: its words and figures. Must not know: when a canary is over (progression.py, course.py), how many are kept.
"""

from __future__ import annotations

from datetime import datetime

from ..api.rollout import RolloutPhase, RolloutRecord, RolloutStatus
from . import feedback
from .build import timestamp
from .types import Observed

BY_REQUEST = "promoted by request"
"""Message of a promotion that no figures would have stopped."""


def record(state: RolloutStatus, how: str, observed: Observed, now: datetime) -> RolloutRecord:
    """`how`: Promoted, Aborted or Superseded."""
    return RolloutRecord(
        revision=state.canary,
        stable=state.stable,
        outcome=how,
        message=_message(state, how),
        weight=state.highest,
        started=state.started,
        finished=timestamp(now),
        outcomes=feedback.kept(state, observed.evidence, now),
        decision=state.decision if state.highest else None,
    )


def superseded(known: RolloutStatus | None, observed: Observed, now: datetime) -> RolloutRecord | None:
    """The record of a canary that another change has overtaken, unless it has one already."""
    if known is None or known.phase in (RolloutPhase.ABORTED, RolloutPhase.DRAINING):
        return None
    return record(known.model_copy(update={"message": "another change came"}), "Superseded", observed, now)


def _message(state: RolloutStatus, how: str) -> str:
    if how != "Promoted":
        return state.message
    if state.forced:
        return BY_REQUEST
    return state.decision.message if state.decision else ""
