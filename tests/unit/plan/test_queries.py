"""Queries of a user's own: what each answer means, what is counted, and how that weighs beside the statistics."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pilotboat.api.analysis import Decision, Verdict, Why
from pilotboat.api.prometheus import Prometheus
from pilotboat.api.reasons import Reason
from pilotboat.api.rollout import RolloutPhase, RolloutStatus
from pilotboat.plan import judgement
from pilotboat.plan.build import timestamp
from pilotboat.plan.canary_status import canary_condition
from pilotboat.plan.queries import LATE, STALE, look, questions, unanswered
from pilotboat.plan.types import Answer, Observed
from unit.plan.world import NOW

TEXT = "errors{pod=~'chat-new-.*', namespace='ml'}"
QUERY = {"name": "error-rate", "query": "errors{pod=~'$name-$canary-.*', namespace='$namespace'}", "max": 0.05}
PERIOD = 30
PARENT = {"metadata": {"name": "chat", "namespace": "ml"}}
STATE = RolloutStatus(
    phase=RolloutPhase.PROGRESSING, stable="old", canary="new", weight=10, started=timestamp(NOW - timedelta(hours=1))
)


def wanted(**changes: Any) -> Prometheus:
    return Prometheus.model_validate({"url": "http://prometheus:9090", "queries": [QUERY | changes]})


def answer(*values: float, at: datetime = NOW, **changes: Any) -> Answer:
    return replace(Answer(TEXT, at, values, at.timestamp() if values else None), **changes)


def seen(given: Answer | None, state: RolloutStatus = STATE, now: datetime = NOW, **query: Any) -> RolloutStatus:
    """The rollout after a look, as a restarted operator reads it."""
    observed = Observed(PARENT, answers=(given,) if given else ())
    records = look(state, wanted(**query), observed, now)
    after = judgement.look(state, None, (), records, False, now)
    return RolloutStatus.model_validate(after.wire())


def decision(state: RolloutStatus) -> Decision:
    assert state.decision
    return state.decision


OLD = answer(0.9, stamp=NOW.timestamp() - STALE - 1)
AHEAD = answer(0.01, stamp=NOW.timestamp() + STALE + 1)
LATE_ANSWER = answer(0.01, at=NOW - timedelta(seconds=2 * PERIOD + LATE + 1))
NONE, BARRED = Why.NO_ANSWER, Why.NOT_PERMITTED
CASES: dict[str, tuple[Answer | None, Verdict, Why, str]] = {
    "kept": (answer(0.01), Verdict.CONTINUE, Why.WITHIN_BOUND, "0.01 keeps its bounds"),
    "at the bound": (answer(0.05), Verdict.CONTINUE, Why.WITHIN_BOUND, "0.05 keeps"),
    "beyond": (answer(0.2), Verdict.HOLD, Why.BEYOND_BOUND, "0.2 is above 0.05, in 1 of 3 looks"),
    "the worst of several": (answer(0.01, 0.3, 0.2), Verdict.HOLD, Why.BEYOND_BOUND, "0.3, the worst of 3 series,"),
    "all of several": (answer(0.01, 0.03), Verdict.CONTINUE, Why.WITHIN_BOUND, "0.03, the worst of 2 series,"),
    "a breach beside NaN": (answer(math.nan, 0.3), Verdict.HOLD, Why.BEYOND_BOUND, "0.3"),
    "NaN beside one that keeps": (answer(0.01, math.nan), Verdict.HOLD, NONE, "NaN or infinite"),
    "NaN": (answer(math.nan), Verdict.HOLD, NONE, "NaN or infinite: that is neither good nor bad"),
    "infinite": (answer(math.inf), Verdict.HOLD, NONE, "NaN or infinite"),
    "infinite the other way": (answer(-math.inf), Verdict.HOLD, NONE, "NaN or infinite"),
    "empty": (answer(), Verdict.HOLD, NONE, "the answer is empty"),
    "stale": (OLD, Verdict.HOLD, NONE, "the answer is of 121 s ago"),
    "ahead of us": (AHEAD, Verdict.HOLD, NONE, "the answer is of 121 s ahead"),
    "not heard of for long": (LATE_ANSWER, Verdict.HOLD, NONE, "the last answer came 121 s ago"),
    "an outage": (answer(trouble=(NONE, "it cannot be reached")), Verdict.HOLD, NONE, "it cannot be reached: that is"),
    "no right": (answer(trouble=(BARRED, "may not read")), Verdict.HOLD, BARRED, "query error-rate: may not read"),
    "not asked yet": (None, Verdict.HOLD, NONE, "it has not been asked yet"),
    "asked before this rollout": (answer(0.01, at=NOW - timedelta(hours=2)), Verdict.HOLD, NONE, "not been asked yet"),
    "another query": (answer(0.01, query="up"), Verdict.HOLD, NONE, "not been asked yet"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_an_answer_means(case: tuple[Answer | None, Verdict, Why, str]) -> None:
    given, verdict, why, words = case
    (record,) = decision(seen(given)).queries
    assert (record.verdict, record.why) == (verdict, why)
    assert record.message.startswith("query error-rate: ")
    assert words in record.message


@pytest.mark.parametrize(
    ("bounds", "value", "words"),
    [
        ({"max": None, "min": 5}, 4, "4 is below 5"),
        ({"max": 9, "min": 5}, 4, "4 is below 5"),
        ({"max": 9, "min": 5}, 10, "10 is above 9"),
        ({"max": 9, "min": 5}, 7, "7 keeps its bounds"),
        ({"max": 0}, 1e-9, "1e-09 is above 0"),
    ],
)
def test_bounds(bounds: dict[str, float | None], value: float, words: str) -> None:
    (record,) = decision(seen(answer(value), **bounds)).queries
    assert words in record.message
    assert (record.value, record.min, record.max) == (value, bounds.get("min"), bounds["max"])


def walked(*looks: Answer | None, failures: int = 3, apart: float = PERIOD) -> RolloutStatus:
    """Look after look, each planned twice, by an operator that is started anew in between."""
    state = STATE
    for number, each in enumerate(looks):
        at = NOW + timedelta(seconds=number * apart)
        stamp = None if each is None or each.stamp is None else each.stamp + number * apart
        told = each and replace(each, at=at, stamp=stamp)
        for later in (0, 2):
            state = seen(told, state, at + timedelta(seconds=later), failures=failures)
    return state


GOOD, BAD, DOWN = answer(0.01), answer(0.2), answer(trouble=(NONE, "it cannot be reached"))


@pytest.mark.parametrize(
    ("looks", "failures", "verdict", "count"),
    [
        ([BAD, BAD], 3, Verdict.HOLD, 2),
        ([BAD, BAD, BAD], 3, Verdict.ABORT, 3),
        ([BAD], 1, Verdict.ABORT, 1),
        ([BAD, BAD, GOOD], 3, Verdict.CONTINUE, 0),
        ([BAD, BAD, GOOD, BAD], 3, Verdict.HOLD, 1),
        ([BAD, DOWN, BAD], 3, Verdict.HOLD, 2),
        ([BAD, DOWN, BAD, answer(), BAD], 3, Verdict.ABORT, 3),
        ([BAD, BAD, DOWN], 2, Verdict.HOLD, 2),
        ([DOWN] * 50, 1, Verdict.HOLD, 0),
    ],
)
def test_looks_beyond_the_bound_are_counted_once_each_and_only_they_abort(
    looks: list[Answer], failures: int, verdict: Verdict, count: int
) -> None:
    made = decision(walked(*looks, failures=failures))
    assert made.queries[0].failures == count
    assert made.verdict is verdict
    assert made.message == made.queries[0].message or verdict is Verdict.CONTINUE


@pytest.mark.parametrize("given", [GOOD, BAD, DOWN, None], ids=["good", "bad", "down", "none"])
@pytest.mark.parametrize("named", [None, ["error-rate"], ["another"], []], ids=str)
def test_only_what_a_step_names_holds_it(given: Answer | None, named: list[str] | None) -> None:
    observed = Observed(PARENT, answers=(given,) if given else ())
    (record,) = look(STATE, wanted(), observed, NOW, named)
    waits = named is None or "error-rate" in named
    assert record.verdict is (Verdict.HOLD if waits and given is not GOOD else Verdict.CONTINUE)
    whole = judgement.joined(told(Verdict.PROMOTE), (record,))
    assert whole.verdict is (Verdict.HOLD if record.verdict is Verdict.HOLD else Verdict.PROMOTE)


def test_what_a_step_does_not_name_gives_up_all_the_same() -> None:
    (record,) = look(STATE, wanted(failures=1), Observed(PARENT, answers=(BAD,)), NOW, [])
    assert record.verdict is Verdict.ABORT


def test_what_was_seen_in_a_step_that_did_not_wait_for_it_holds_the_next() -> None:
    """Also where an operator has just begun, and has no answer of its own yet."""
    free = look(STATE, wanted(), Observed(PARENT, answers=(BAD,)), NOW, [])
    assert [each.verdict for each in free] == [Verdict.CONTINUE]
    before = STATE.model_copy(update={"decision": told(Verdict.CONTINUE).model_copy(update={"queries": list(free)})})
    (record,) = look(before, wanted(), Observed(PARENT), NOW, ["error-rate"])
    assert (record.verdict, record.failures) == (Verdict.HOLD, 1)


def test_an_operator_that_starts_again_and_again_does_not_count_faster() -> None:
    assert decision(walked(*[BAD] * 7, apart=PERIOD / 5)).queries[0].failures == 2


def test_a_clock_that_was_set_back_goes_on_counting() -> None:
    later = seen(answer(0.2, at=NOW + timedelta(hours=1)), now=NOW + timedelta(hours=1))
    assert decision(seen(BAD, later)).queries[0].failures == 2


def test_other_bounds_or_another_query_begin_anew() -> None:
    two = walked(BAD, BAD)
    at = NOW + timedelta(seconds=2 * PERIOD)
    assert decision(seen(answer(0.2, at=at), two, at)).queries[0].failures == 3
    assert decision(seen(answer(0.2, at=at), two, at, max=0.06)).queries[0].failures == 1
    assert decision(seen(answer(0.2, at=at, query="up"), two, at, query="up")).queries[0].failures == 1


def test_a_restart_keeps_what_was_seen_until_that_is_old() -> None:
    good = seen(GOOD)
    assert decision(seen(None, good, NOW + timedelta(seconds=60))).verdict is Verdict.CONTINUE
    assert decision(seen(None, good, NOW + timedelta(seconds=2 * PERIOD + LATE + 1))).verdict is Verdict.HOLD
    assert decision(seen(None, good, NOW + timedelta(seconds=1), max=0.001)).verdict is Verdict.HOLD


def test_status_is_no_log() -> None:
    first = seen(GOOD)
    soon = seen(answer(0.02, at=NOW + timedelta(seconds=30)), first, NOW + timedelta(seconds=30))
    assert soon == first
    later = seen(answer(0.02, at=NOW + timedelta(seconds=60)), first, NOW + timedelta(seconds=60))
    assert decision(later).queries[0].value == 0.02


@given(
    st.lists(
        st.one_of(
            st.builds(answer, st.floats(width=32)),
            st.lists(st.floats(width=32), max_size=3).map(lambda values: answer(*values)),
            st.sampled_from([DOWN, OLD, AHEAD, None]),
        ),
        max_size=8,
    ),
    st.integers(1, 4),
)
def test_only_numbers_beyond_the_bound_abort_and_nothing_promotes(looks: list[Answer | None], failures: int) -> None:
    beyond = sum(
        any(math.isfinite(value) and value > QUERY["max"] for value in each.values)  # type: ignore[operator]
        for each in looks
        if each is not None and each not in (OLD, AHEAD)
    )
    made = walked(*looks, failures=failures).decision
    assert made is None or made.verdict is not Verdict.PROMOTE
    assert made is None or made.verdict is not Verdict.ABORT or beyond >= failures


def told(verdict: Verdict, why: Why = Why.UNDECIDED) -> Decision:
    return Decision(verdict=verdict, why=why, time="2026-05-01T12:00:00Z", message=f"statistics {verdict}")


@pytest.mark.parametrize("made", [told(verdict) for verdict in Verdict], ids=lambda made: made.verdict)
@pytest.mark.parametrize("given", [GOOD, BAD, DOWN, "abort"])
def test_the_worse_of_statistics_and_queries_decides(made: Decision, given: Answer | str) -> None:
    failures = 1 if given == "abort" else 3
    observed = Observed(PARENT, answers=(given if isinstance(given, Answer) else BAD,))
    records = look(STATE, wanted(failures=failures), observed, NOW)
    whole = judgement.joined(made, records)
    order = [Verdict.PROMOTE, Verdict.CONTINUE, Verdict.HOLD, Verdict.ABORT]
    if given is GOOD:
        assert whole.verdict is made.verdict
    else:
        assert order.index(whole.verdict) == max(order.index(made.verdict), order.index(records[0].verdict))
    held = made.verdict in (Verdict.HOLD, Verdict.ABORT) and records[0].verdict is not Verdict.ABORT
    assert whole.why is (made.why if held or given is GOOD or made.verdict is Verdict.ABORT else Why(records[0].why))
    assert whole.queries == list(records)


def test_queries_beside_statistics_that_have_heard_nothing_hold() -> None:
    settings = judgement.Settings()
    records = look(STATE, wanted(), Observed(PARENT, answers=(GOOD,)), NOW)
    made = judgement.look(STATE, settings, (), records, True, NOW).decision
    assert made is not None
    assert (made.verdict, made.why) == (Verdict.HOLD, Why.NO_DATA)


def test_while_it_is_promoted_what_promoted_stays_and_a_query_may_still_give_it_up() -> None:
    promoting = {"phase": RolloutPhase.PROMOTING, "decision": told(Verdict.PROMOTE)}
    state, kept = STATE.model_copy(update=promoting), []
    for number in range(3):
        at = NOW + timedelta(seconds=number * PERIOD)
        state = seen(answer(0.2, at=at), state, at)
        kept.append((decision(state).verdict, decision(state).time, decision(state).queries[0].failures))
    since = told(Verdict.PROMOTE).time
    assert kept[:2] == [(Verdict.PROMOTE, since, 1), (Verdict.PROMOTE, since, 2)]
    assert (kept[2][0], kept[2][2]) == (Verdict.ABORT, 3)


def test_queries_that_are_taken_out_of_the_spec_hold_nothing_any_more() -> None:
    held = seen(DOWN)
    assert judgement.look(held, None, (), (), False, NOW).decision is None


def parent(state: RolloutStatus | None, **prometheus: Any) -> dict[str, Any]:
    spec = {"url": "http://prometheus:9090", "queries": [QUERY, QUERY | {"name": "again"}]} | prometheus
    status = {"rollout": state.wire()} if state else {}
    return PARENT | {"spec": {"rollout": {"analysis": {"prometheus": spec}}}, "status": status}


def test_what_is_asked_has_the_words_filled_in_and_each_query_once() -> None:
    asked = questions(parent(STATE, tokenSecretRef={"name": "token"}))
    assert asked
    assert (asked.queries, asked.period, asked.token and asked.token.key) == ((TEXT,), 30, "token")


UNTRIED = STATE.model_copy(update={"weight": 0})
OF_STABLE = TEXT.replace("new", "old")
HELD_BACK: dict[str, tuple[Answer | None, Reason | None, str]] = {
    "no series": (answer(query=OF_STABLE), Reason.QUERY_UNANSWERED, "no series, with stable in the place of $canary"),
    "a value": (answer(0.01, query=OF_STABLE), None, ""),
    "a value beyond the bound": (answer(0.9, query=OF_STABLE), None, ""),
    "NaN": (answer(math.nan, query=OF_STABLE), None, ""),
    "an outage": (
        answer(trouble=(NONE, "it cannot be reached"), query=OF_STABLE),
        Reason.QUERY_UNANSWERED,
        "it cannot be reached",
    ),
    "no right": (
        answer(trouble=(BARRED, "may not read"), query=OF_STABLE),
        Reason.PROMETHEUS_NOT_PERMITTED,
        "may not read",
    ),
    "not asked yet": (None, Reason.ROLLING_OUT, "it has not been asked yet"),
    "of the canary itself": (GOOD, Reason.ROLLING_OUT, "it has not been asked yet"),
}


@pytest.mark.parametrize("case", HELD_BACK.values(), ids=HELD_BACK)
def test_what_not_even_stable_has_series_of_keeps_the_canary_from_users(
    case: tuple[Answer | None, Reason | None, str],
) -> None:
    given, reason, words = case
    assert (asked := questions(parent(UNTRIED)))
    assert asked.queries == (OF_STABLE,)
    found = unanswered(UNTRIED, wanted(), Observed(PARENT, answers=(given,) if given else ()), NOW)
    assert (found.reason if found else None) == reason
    if found:
        assert found.message.startswith("rollout.analysis.prometheus.queries[0] (error-rate): ")
        assert words in found.message
        assert ("rollout skip chat" in found.message) is (reason is not Reason.ROLLING_OUT)


def test_a_query_that_names_no_canary_needs_series_of_its_own() -> None:
    query = {"name": "whole", "query": "errors", "max": 1}
    found = unanswered(UNTRIED, wanted(**query), Observed(PARENT, answers=(answer(query="errors"),)), NOW)
    assert found
    assert "(whole): no series: " in found.message


def test_once_a_canary_had_users_nothing_keeps_it_from_them() -> None:
    for changes in ({"weight": 1}, {"forced": True}, {"ungated": True}):
        assert unanswered(UNTRIED.model_copy(update=changes), wanted(), Observed(PARENT), NOW) is None
    later = UNTRIED.model_copy(update={"step": 1})  # which step it is at says nothing: users make the difference
    assert unanswered(later, wanted(), Observed(PARENT), NOW)
    assert unanswered(UNTRIED, None, Observed(PARENT), NOW) is None


def test_any_other_dollar_is_left_alone() -> None:
    text = "label_replace(up{a=~'b$', c=~'$names'}, '$1', '$stable')"
    asked = questions(parent(STATE, queries=[QUERY | {"query": text}]))
    assert asked
    assert asked.queries == ("label_replace(up{a=~'b$', c=~'$names'}, '$1', 'old')",)


@pytest.mark.parametrize(
    "state",
    [
        None,
        STATE.model_copy(update={"weight": 0, "ungated": True}),
        STATE.model_copy(update={"phase": RolloutPhase.ABORTED}),
        STATE.model_copy(update={"forced": True}),
    ],
    ids=["no canary", "no traffic and nothing before it", "given up", "promoted by a person"],
)
def test_nothing_is_asked_of_a_canary_that_is_not_judged(state: RolloutStatus | None) -> None:
    assert questions(parent(state)) is None
    assert look(state or STATE, None, Observed(PARENT), NOW) == ()


def test_nothing_is_asked_where_nothing_is_to_be_or_the_spec_cannot_be_read() -> None:
    assert questions(parent(STATE, url="ftp://prometheus")) is None
    assert questions(PARENT | {"spec": {}, "status": {"rollout": STATE.wire()}}) is None


def test_a_right_that_is_missing_is_a_reason_of_its_own() -> None:
    (told,) = canary_condition(seen(answer(trouble=(BARRED, "the operator may not read Secret token"))), 1)
    assert (told.status, told.reason) == ("Unknown", Reason.PROMETHEUS_NOT_PERMITTED)
    assert "Secret token" in told.message
    (told,) = canary_condition(seen(DOWN), 1)
    assert (told.status, told.reason) == ("Unknown", Reason.CANARY_HOLDING)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"queries": []}, "at least 1 item"),
        ({"queries": [QUERY, QUERY]}, "each query needs a name of its own"),
        ({"queries": [QUERY | {"max": None}]}, "give max, min or both"),
        ({"queries": [QUERY | {"min": 1}]}, "min must not be above max"),
        ({"queries": [QUERY | {"max": math.inf}]}, "finite number"),
        ({"queries": [QUERY | {"name": "Error rate"}]}, "must be a name in lower case"),
        ({"queries": [QUERY | {"failures": 0}]}, "greater than or equal to 1"),
        ({"queries": [QUERY | {"query": ""}]}, "at least 1 character"),
        ({"periodSeconds": 5}, "greater than or equal to 15"),
        ({"url": "http://user:pass@prometheus"}, "credentials do not belong in an address"),
        ({"url": "http://prometheus/?x=1"}, "without \\? and #"),
        ({"url": "prometheus:9090"}, "must be an http:// or https:// address"),
    ],
)
def test_what_would_be_misread_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Prometheus.model_validate({"url": "https://prometheus/base", "queries": [QUERY]} | changes)
