"""What a look at the evidence says: the rules by table, and what must hold for any evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.analysis import AnalysisState, Decision, Metric, Verdict, Why
from pilotboat.plan.canary import Count, Settings, Stratum, Tally, absorb, judge
from pilotboat.plan.canary.eprocess import purse

from .worlds import FRESH, SETTINGS, START, minutes, strata, tallies, tally

GOOD = tally(30, 0, 3, 3)
STABLE = tally(300, 3, 30, 30)


def looked(
    seen: list[Stratum],
    final: bool = True,
    settings: Settings = SETTINGS,
    state: AnalysisState = FRESH,
    open_minute: Stratum | None = None,
    late: int = 5,
) -> Decision:
    after = absorb(state, seen, settings)
    return judge(after, open_minute, settings, final, after.cursor + 60 + late)


@dataclass(frozen=True)
class Case:
    canary: Tally
    stable: Tally
    count: int
    verdict: Verdict
    why: Why
    final: bool = True


CASES = {
    "a good canary is promoted at the end": Case(GOOD, STABLE, 20, Verdict.PROMOTE, Why.AS_GOOD),
    "and goes on before": Case(GOOD, STABLE, 20, Verdict.CONTINUE, Why.MORE_TO_COME, final=False),
    "few requests hold": Case(GOOD, STABLE, 1, Verdict.HOLD, Why.TOO_FEW_REQUESTS),
    "failures abort": Case(tally(30, 6, 3, 3), STABLE, 3, Verdict.ABORT, Why.WORSE, final=False),
    "slow first tokens abort": Case(tally(30, 0, 20, 3), STABLE, 5, Verdict.ABORT, Why.WORSE, final=False),
    "slow tokens abort": Case(tally(30, 0, 3, 20), STABLE, 5, Verdict.ABORT, Why.WORSE, final=False),
    "one minute of slow tokens alone does not": Case(
        tally(30, 0, 3, 27), STABLE, 1, Verdict.CONTINUE, Why.MORE_TO_COME, final=False
    ),
    "half of ten failing aborts at once": Case(tally(10, 5), tally(90), 1, Verdict.ABORT, Why.FAILING, final=False),
    "one in ten of one request each minute": Case(tally(1, 1), tally(9), 10, Verdict.ABORT, Why.FAILING, final=False),
    "half of ten in a burst that both share does not": Case(
        tally(10, 5), tally(90, 6), 1, Verdict.CONTINUE, Why.MORE_TO_COME, final=False
    ),
    "nor four minutes of slow tokens": Case(
        tally(300, 0, 30, 300), tally(300, 3, 30, 75), 4, Verdict.CONTINUE, Why.MORE_TO_COME, final=False
    ),
    "five do": Case(tally(300, 0, 30, 300), tally(300, 3, 30, 75), 5, Verdict.ABORT, Why.WORSE, final=False),
    "an incident that both share holds": Case(
        tally(30, 6, 3, 3), tally(300, 60, 30, 30), 20, Verdict.CONTINUE, Why.MORE_TO_COME, final=False
    ),
    "even where all fail": Case(tally(30, 30), tally(300, 300), 5, Verdict.HOLD, Why.METRIC_MISSING, final=False),
    "a canary without a request holds": Case(tally(0), STABLE, 20, Verdict.HOLD, Why.NO_DATA),
    "in an early step too": Case(tally(0), STABLE, 20, Verdict.HOLD, Why.NO_DATA, final=False),
    "nothing measured of a metric holds": Case(
        Tally(30, 0, Count(30, 3)), STABLE, 20, Verdict.HOLD, Why.METRIC_MISSING, final=False
    ),
    "a stable that all left promotes nothing": Case(GOOD, tally(0), 20, Verdict.HOLD, Why.TOO_FEW_REQUESTS),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_rules(case: Case) -> None:
    made = looked(minutes(case.canary, case.stable, case.count), case.final)
    assert (made.verdict, made.why) == (case.verdict, case.why), made
    assert made.message


def test_an_incident_that_ended_on_stable_holds() -> None:
    incident = minutes(tally(30, 6, 3, 3), tally(300, 60, 30, 30), 10)
    calm = minutes(GOOD, STABLE, 20, first=10)
    before = minutes(tally(0), STABLE, 60, first=-60)
    start = absorb(FRESH.model_copy(update={"cursor": START - 3660}), before, SETTINGS)
    held = looked([*incident, *calm], state=start)
    assert (held.verdict, held.why) == (Verdict.HOLD, Why.UNDECIDED)


def test_evidence_that_stands_still_is_stale() -> None:
    made = looked(minutes(GOOD, STABLE, 20), late=SETTINGS.stale_after + 1)
    assert (made.verdict, made.why) == (Verdict.HOLD, Why.STALE_DATA)


def test_the_open_minute_may_abort_and_never_promotes() -> None:
    seen = minutes(GOOD, STABLE, 20)
    worse = Stratum(START + 1200, tally(30, 14, 3, 3), STABLE)
    assert looked(seen, open_minute=worse).verdict is Verdict.ABORT
    few = minutes(GOOD, STABLE, 1)
    assert looked(few, open_minute=Stratum(START + 60, tally(3000), STABLE)).why is Why.TOO_FEW_REQUESTS


@pytest.mark.parametrize("late", [Metric.FIRST_TOKEN, Metric.PER_TOKEN])
def test_a_metric_without_a_bound_does_not_abort_but_is_waited_for(late: Metric) -> None:
    field = "first_token_bound" if late is Metric.FIRST_TOKEN else "per_token_bound"
    state = FRESH.model_copy(update={field: None})
    bare = replace(GOOD, first_token=Count()) if late is Metric.FIRST_TOKEN else replace(GOOD, per_token=Count())
    seen = minutes(bare, STABLE, 20)
    assert looked(seen, final=False, state=state).verdict is Verdict.CONTINUE
    assert looked(seen, state=state).why is Why.UNJUDGED
    without = Settings(metrics=tuple(metric for metric in Metric if metric is not late))
    assert looked(seen, state=state, settings=without).verdict is Verdict.PROMOTE


def test_warm_up_is_not_judged_but_the_hard_stop_is_awake() -> None:
    settings = Settings(warmup=40)
    cold = minutes(tally(30, 0, 30, 30), STABLE, 2)
    warm = minutes(GOOD, STABLE, 20, first=2)
    state = absorb(FRESH, [*cold, *warm], settings)
    assert state.errors.canary == 600
    assert looked([*cold, *warm], settings=settings).verdict is Verdict.PROMOTE
    found = looked(minutes(tally(30, 20), STABLE, 1), settings=settings)
    assert found.why is Why.FAILING
    assert found.message.endswith("errors in 20 of 30")


@given(strata(), st.integers(0, 12), tallies())
def test_more_failures_never_lower_the_evidence(seen: list[Stratum], which: int, other: Tally) -> None:
    """In the last minute, so that what is learned of stable stays the same."""
    last = seen[-1]
    worse = replace(last, canary=replace(last.canary, errors=min(last.canary.requests, last.canary.errors + which)))
    before = absorb(FRESH, [*seen[:-1], last], SETTINGS).errors
    after = absorb(FRESH, [*seen[:-1], worse], SETTINGS).errors
    assert purse(after.stakes, after.minutes) >= purse(before.stakes, before.minutes) * (1 - 1e-9)


@given(strata(), st.lists(st.integers(0, 12), max_size=4), st.integers(-60, 720))
def test_minutes_may_come_in_any_pieces_and_twice(seen: list[Stratum], cuts: list[int], since: int) -> None:
    settings = replace(SETTINGS, since=START + since)
    whole = absorb(FRESH, seen, settings)
    assert whole.heard == sum(minute.canary.requests for minute in seen if minute.start >= START + since)
    state = FRESH
    for cut in [*sorted(cuts), len(seen)]:
        state = absorb(state, seen[:cut], settings)
        state = AnalysisState.model_validate_json(state.model_dump_json(by_alias=True, exclude_none=True))
    assert state == whole


@given(strata(), st.booleans())
def test_any_evidence_gives_a_decision_that_can_be_written(seen: list[Stratum], final: bool) -> None:
    made = looked(seen, final)
    assert Decision.model_validate_json(made.model_dump_json(by_alias=True)) == made
    assert final or made.verdict is not Verdict.PROMOTE
    assert {record.metric for record in made.metrics} == set(Metric)


@given(strata())
def test_a_canary_that_is_stable_itself_is_never_worse(seen: list[Stratum]) -> None:
    alike = [replace(stratum, canary=stratum.stable) for stratum in seen]
    assert looked(alike, final=False).verdict is not Verdict.ABORT


@given(tallies(), tallies(200), st.integers(1, 5))
def test_of_two_revisions_at_most_one_is_worse(canary: Tally, stable: Tally, count: int) -> None:
    one, two = (absorb(FRESH, minutes(*pair, count), SETTINGS).errors for pair in ((canary, stable), (stable, canary)))
    assert min(purse(one.stakes, one.minutes), purse(two.stakes, two.minutes)) < SETTINGS.abort_at(Metric.ERRORS)
