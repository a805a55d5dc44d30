"""What a look leaves behind in a rollout's status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pilotboat.api.analysis import Verdict, Why
from pilotboat.api.rollout import RolloutPhase, RolloutStatus
from pilotboat.plan import judgement
from pilotboat.plan.build import timestamp
from pilotboat.plan.canary import Settings

from .canary.worlds import START, evidence

BEGUN = datetime.fromtimestamp(START, UTC)
STATE = RolloutStatus(
    phase=RolloutPhase.PROGRESSING, stable="old", canary="new", weight=10, started=timestamp(BEGUN - timedelta(hours=1))
)


def looked(state: RolloutStatus, minutes: int, final: bool) -> RolloutStatus:
    """After a look at so many minutes of the canary, as an operator reads it that has just started."""
    stable = {START + 60 * minute: 90 for minute in range(-60, minutes)}
    canary = {START + 60 * minute: 10 for minute in range(minutes)}
    now = BEGUN + timedelta(minutes=minutes, seconds=5)
    told = [evidence("a", now.timestamp(), stable, canary)]
    return RolloutStatus.model_validate(judgement.look(state, Settings(), told, (), final, now).wire())


def test_the_first_look_that_asks_for_promotion_is_remembered_and_no_earlier_one() -> None:
    before = looked(looked(STATE, 0, final=False), 6, final=False)
    assert before.analysis.errors.asked == 0
    first = looked(before, 7, final=True)
    assert first.decision
    assert (first.decision.verdict, first.decision.why) == (Verdict.HOLD, Why.UNDECIDED)
    later = looked(first, 8, final=True)
    assert (first.analysis.errors.asked, later.analysis.errors.asked, later.analysis.errors.promote) == (70, 70, 80)


def test_the_share_that_a_rollout_has_is_what_its_minutes_are_pooled_by() -> None:
    assert looked(looked(STATE, 0, final=False), 3, final=False).analysis.weight == STATE.weight
