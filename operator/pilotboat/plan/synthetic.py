"""Synthetic traffic as evidence: what a probe counted of both versions, for the gate that judges users' traffic.

Owns: the step from a TrafficResult to strata. Must not know: when a probe is sent, what the gate decides.

The strata stay apart from those of users' requests, though their minutes are the same: a canary gets half of the
probe's requests and a twentieth of the users', and in one stratum with both, a difference between the two kinds would
look like one between the versions. So each result is absorbed once, and does not move the cursor.
"""

from __future__ import annotations

from ..api.analysis import AnalysisState
from ..api.probing import ProbeMinute, TrafficResult
from . import canary
from .canary import Bounds, Settings, Stratum, Tally, memory
from .canary.counts import judged


def strata(traffic: TrafficResult, bounds: Bounds) -> tuple[Stratum, ...]:
    """By minute (or as many minutes as the probe counted together), both versions side by side."""
    sides = [_by_start(minutes, bounds) for minutes in (traffic.canary, traffic.stable)]
    starts = sorted({start for side in sides for start in side})
    return tuple(Stratum(start, *(side.get(start, Tally()) for side in sides)) for start in starts)


def absorb(state: AnalysisState, traffic: TrafficResult, settings: Settings) -> AnalysisState:
    """The state with a probe's counts in it. They are added each time this is called: call it once a probe."""
    bounds = Bounds(state.first_token_bound, state.per_token_bound)
    apart = memory.closed(state, settings).model_copy(update={"cursor": 0})
    fed = memory.closed(canary.absorb(apart, strata(traffic, bounds), settings), settings)
    return fed.model_copy(update={"cursor": state.cursor})


def _by_start(minutes: list[ProbeMinute], bounds: Bounds) -> dict[int, Tally]:
    return {
        minute.start: Tally(
            minute.requests,
            minute.errors,
            judged(minute.first_token, bounds.first_token),
            judged(minute.per_token, bounds.per_token),
        )
        for minute in minutes
    }
