"""Events: news only, each reason once, and of milestones reached at once the last."""

from __future__ import annotations

from pilotboat.api.conditions import Condition
from pilotboat.api.reasons import Reason
from pilotboat.plan.outcome import condition, events


def conditions(artifact: Reason, available: Reason, ready: Reason) -> list[Condition]:
    told = (("ArtifactReady", artifact), ("Available", available), ("Ready", ready))
    good = (Reason.FETCHED, Reason.SERVING, Reason.ROLLED_OUT)
    return [condition(kind, reason in good, reason, f"{reason} it is", 1) for kind, reason in told]


STARTING = conditions(Reason.STARTING, Reason.STARTING, Reason.STARTING)
LOADING = conditions(Reason.FETCHED, Reason.LOADING, Reason.LOADING)
WHOLE = conditions(Reason.FETCHED, Reason.SERVING, Reason.ROLLED_OUT)
BROKEN = conditions(Reason.FETCHED, Reason.SERVING, Reason.CONTAINER_OOM_KILLED)


def reasons(old: list[Condition], new: list[Condition]) -> list[tuple[str, str]]:
    return [(event.type, event.reason) for event in events(old, new)]


def test_one_reason_of_several_conditions_is_told_once() -> None:
    assert reasons([], STARTING) == [("Normal", "Starting")]


def test_what_stands_already_is_no_news() -> None:
    assert reasons(WHOLE, WHOLE) == []


def test_of_milestones_reached_at_once_the_last_is_told() -> None:
    assert reasons(STARTING, WHOLE) == [("Normal", "RolledOut")]
    assert reasons(LOADING, WHOLE) == [("Normal", "RolledOut")]


def test_a_milestone_and_what_comes_next_are_both_told() -> None:
    assert reasons(STARTING, LOADING) == [("Normal", "Fetched"), ("Normal", "Loading")]


def test_a_fault_is_told_whatever_else_is_reached() -> None:
    assert reasons(STARTING, BROKEN) == [("Normal", "Serving"), ("Warning", "ContainerOOMKilled")]
