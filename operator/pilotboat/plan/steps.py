"""The steps of a rollout as the spec has them now: which one it is at, and what that asks for.

Owns: the place in the steps, also in steps that were edited meanwhile. Must not know: why a step ends, replicas.
"""

from __future__ import annotations

from datetime import datetime

from ..api.rollout import Rollout, RolloutPhase, RolloutStatus, RolloutStep
from .build import timestamp


def goal(state: RolloutStatus, spec: Rollout) -> int:
    """The weight that is to be reached, in per cent."""
    return 100 if done(state, spec) else spec.steps[state.step].weight


def done(state: RolloutStatus, spec: Rollout) -> bool:
    """Whether no step is left: the canary is promoted."""
    return state.step >= len(spec.steps)


def at(state: RolloutStatus, spec: Rollout) -> RolloutStep | None:
    """The step that it is at; None while it is promoted, or leaves steps that the spec has no more."""
    return spec.steps[state.step] if 0 <= state.step < len(spec.steps) else None


def last(state: RolloutStatus, spec: Rollout) -> bool:
    """Whether none comes after the step that it is at."""
    return state.step + 1 >= len(spec.steps)


def entered(state: RolloutStatus, step: int, now: datetime) -> RolloutStatus:
    """At the beginning of that step."""
    anew = {"since": None, "waiting_since": timestamp(now), "approved": False, "message": ""}
    unheard = state.analysis.model_copy(update={"heard": 0})
    return state.model_copy(update={"step": step, "analysis": unheard} | anew)


def found(state: RolloutStatus, spec: Rollout, now: datetime) -> RolloutStatus:
    """In the steps as they are now. To edit them is no promotion, and takes none back.

    A step is the same while its weight is. One that is gone is taken up by the next of those that are left, or by the
    last, and begins anew: neither the time nor the approval that it had was for this one.
    """
    if state.phase in (RolloutPhase.PROMOTING, RolloutPhase.ABORTED):
        step = len(spec.steps) if state.phase is RolloutPhase.PROMOTING else state.step
        return state.model_copy(update={"step": step})
    last = len(spec.steps) - 1
    if state.goal is None:  # of an operator that did not remember it
        return state.model_copy(update={"step": min(state.step, last)})
    step = next((place for place, each in enumerate(spec.steps) if each.weight >= state.goal), last)
    if spec.steps[step].weight == state.goal:
        return state.model_copy(update={"step": step})
    return entered(state, step, now)
