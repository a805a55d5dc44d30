"""A probe's counts in the same gate as users' requests: nothing lost, nothing moved, and it decides."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.analysis import AnalysisState, Pool
from pilotboat.api.probing import ProbeMinute, TrafficResult
from pilotboat.api.routing import BOUNDS
from pilotboat.plan import canary
from pilotboat.plan.canary import Bounds, Settings, Stratum, Tally
from pilotboat.plan.synthetic import absorb, strata

STATE = AnalysisState(cursor=1_790_000_640, first_token_bound=BOUNDS[40], per_token_bound=BOUNDS[20])


def minutes(count: int, errors: int, slow: int) -> list[ProbeMinute]:
    """Of ten requests each."""
    latencies = {"40": 10 - errors - slow, "41": slow}
    return [
        ProbeMinute(
            start=1_790_000_040 + 60 * number,
            requests=10,
            errors=errors,
            first_token={key: count for key, count in latencies.items() if count},
            per_token={"20": 10 - errors},
        )
        for number in range(count)
    ]


def result(errors: int = 0, slow: int = 0, count: int = 5) -> TrafficResult:
    return TrafficResult(stable=minutes(count, 0, 0), canary=minutes(count, errors, slow))


def test_counts_arrive_and_the_cursor_stays() -> None:
    state = absorb(STATE, result(errors=2, slow=3), Settings())
    assert state.cursor == STATE.cursor
    assert (state.errors.canary, state.errors.canary_over, state.errors.stable_over) == (50, 10, 0)
    assert (state.first_token.canary, state.first_token.canary_over) == (40, 15)
    assert (state.per_token.canary, state.per_token.canary_over) == (40, 0)


def test_a_worse_canary_is_evidence_and_an_equal_one_is_none() -> None:
    worse = absorb(STATE, result(errors=5), Settings())
    equal = absorb(STATE, result(), Settings())
    assert max(worse.errors.stakes) > 20
    assert max(equal.errors.stakes) <= 1


def test_a_minute_of_one_version_alone_is_kept() -> None:
    alone = TrafficResult(stable=[], canary=minutes(1, 0, 0))
    [stratum] = strata(alone, Bounds())
    assert (stratum.canary.requests, stratum.stable.requests) == (10, 0)


@given(st.integers(0, 10), st.integers(1, 30))
def test_no_request_is_lost(errors: int, count: int) -> None:
    found = strata(result(errors=errors, count=count), Bounds())
    assert sum(each.canary.requests for each in found) == 10 * count
    assert sum(each.canary.errors for each in found) == errors * count


def test_a_probe_is_not_pooled_with_users_requests() -> None:
    """It gives the canary half of its requests, and users may give it a twentieth."""
    users = Stratum(STATE.cursor + 60, Tally(1), Tally(19))
    before = canary.absorb(STATE, [users], Settings())
    assert before.errors.pool.minutes == 1
    after = absorb(before, result(count=1), Settings())
    assert (after.errors.minutes, after.errors.pool) == (2, Pool())
