"""Steps that are edited under a canary: it is at the step that it was at, and nothing is promoted by an edit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.rollout import Rollout, RolloutPhase
from pilotboat.plan import steps
from pilotboat.plan.build import timestamp
from pilotboat.plan.progression import begin
from unit.plan.test_progression import HOLD, Life
from unit.plan.world import NOW

THREE = [{"weight": weight, "hold": "1h", "approval": True} for weight in (5, 25, 50)]


def of(*weights: int) -> list[dict[str, Any]]:
    return [{"weight": weight, "hold": "1h", "approval": True} for weight in weights]


def at(step: int) -> Life:
    """A canary that has been at that step of three for a minute, and is approved there."""
    life = Life(Rollout.model_validate({"steps": THREE}), want=8, stable=8, room=16, decision=HOLD)
    life.settle()
    for _ in range(step):
        life.state = steps.entered(life.state, life.state.step + 1, life.now).model_copy(update={"goal": None})
        life.settle()
    life.state = life.state.model_copy(update={"approved": True})
    life.now += timedelta(minutes=1)
    return life


@pytest.mark.parametrize(
    ("step", "weights", "now_at", "weight", "anew"),
    [
        (2, (5, 50), 1, 50, False),
        (1, (25, 50), 0, 25, False),
        (1, (1, 5, 25, 50), 2, 25, False),
        (1, (5, 25), 1, 25, False),
        (1, (5, 25, 40, 50), 1, 25, False),
        (1, (5, 50), 1, 50, True),
        (2, (5, 25), 1, 50, True),
        (2, (5,), 0, 50, True),
        (0, (10, 25, 50), 0, 10, True),
        (2, (5, 25, 75), 2, 75, True),
    ],
    ids=[
        *("one before gone", "the first gone", "one put in front", "the last gone", "one put behind"),
        *("its own gone", "its own gone, the last", "all but the first gone", "raised", "the last raised"),
    ],
)
def test_the_step_is_found_again_by_its_weight(
    step: int, weights: tuple[int, ...], now_at: int, weight: int, anew: bool
) -> None:
    life = at(step)
    since = life.state.since
    life.spec = Rollout.model_validate({"steps": of(*weights)})
    state = life.settle()
    assert (state.phase, state.step, state.weight) == (RolloutPhase.PROGRESSING, now_at, weight)
    assert (state.since != since, state.approved) == (anew, not anew)
    life.after(86400)
    assert life.state.phase is not RolloutPhase.ABORTED, "no pods are awaited any more"
    assert life.state.step < len(weights), "no evidence, and nobody approved of this step"


@given(st.lists(st.integers(1, 100), min_size=1, max_size=6, unique=True).map(sorted), st.integers(0, 2))
def test_no_edit_promotes(weights: list[int], step: int) -> None:
    life = at(step)
    life.spec = Rollout.model_validate({"steps": of(*weights)})
    life.settle()
    assert life.state.phase in (RolloutPhase.PROGRESSING, RolloutPhase.AWAITING_APPROVAL)
    assert life.state.step < len(weights)
    assert life.state.weight >= (5, 25, 50)[step], "nor takes traffic away"


def test_nor_does_an_edit_take_a_promotion_back() -> None:
    promoting = begin("old", "new", NOW).model_copy(update={"phase": RolloutPhase.PROMOTING, "step": 2, "goal": 100})
    for weights in ((10,), (10, 50, 80, 90)):
        spec = Rollout.model_validate({"steps": of(*weights)})
        assert steps.done(steps.found(promoting, spec, NOW), spec)


def test_of_an_operator_that_did_not_remember_the_weight_the_place_is_taken() -> None:
    known = begin("old", "new", NOW).model_copy(update={"step": 1, "weight": 25, "since": timestamp(NOW)})
    assert steps.found(known, Rollout.model_validate({"steps": THREE}), NOW).step == 1
    assert steps.found(known, Rollout.model_validate({"steps": of(25)}), NOW).step == 0
