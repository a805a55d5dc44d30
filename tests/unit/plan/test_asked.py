"""What is asked of a revision by its name: no other canary hears it, now or later, and that is said once."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pilotboat.plan.types import Refusal, Rejection
from unit.plan.test_course import Canary
from unit.plan.test_kept_canary import source_back, source_missing
from unit.plan.test_overtaken import ENOUGH, Watched, back, reached

VERBS = ["Approve", "Skip", "Promote", "Abort", "Retry"]
NEVER = "deadbeef"


def ask(cluster: Canary, verb: str, revision: str | None, name: str = "asked") -> None:
    action = {"verb": verb, "id": name} | ({"revision": revision} if revision else {})
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "action": action})


def ignored(cluster: Canary) -> list[str]:
    return [event.message for event in cluster.events if event.reason == "ActionIgnored"]


def at_rest(cluster: Canary) -> tuple[Any, ...]:
    told = {key: value for key, value in (cluster.status.get("rollout") or {}).items() if key != "started"}
    return cluster.shares, cluster.replicas, told, [event.reason for event in cluster.events]


def at_its_first_step(verb: str) -> tuple[Canary, str]:
    """A canary of which the verb asks something; given up, where that is to be tried again."""
    cluster = Canary(steps=[{"weight": 10, "hold": "1h", "approval": True}, {"weight": 50, "hold": "1h"}])
    new = cluster.push(7)
    assert cluster.settle()
    if verb == "Retry":
        ask(cluster, "Abort", None, "0")
        assert cluster.settle()
    return cluster, new


@pytest.mark.parametrize("verb", VERBS)
def test_the_canary_hears_what_is_asked_of_it_as_it_hears_what_is_asked_of_any(verb: str) -> None:
    ends = []
    for named in (False, True):
        cluster, new = at_its_first_step(verb)
        before = at_rest(cluster)
        ask(cluster, verb, new if named else None)
        assert cluster.settle()
        assert at_rest(cluster) != before
        ends.append(at_rest(cluster))
    assert ends[0] == ends[1]


def test_one_that_is_promoted_in_the_moment_it_is_asked_has_heard_it() -> None:
    cluster = Canary(steps=[{"weight": 100, "hold": "1h"}])
    new = cluster.push(7)
    assert cluster.settle()
    ask(cluster, "Promote", new)
    cluster.carry_out(cluster.plan())
    assert "rollout" not in cluster.status
    assert (cluster.status["actions"], ignored(cluster)) == (["asked"], [])


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("of", ["stable", "one that never was"])
def test_what_is_asked_of_another_changes_nothing_and_is_said_once(verb: str, of: str) -> None:
    cluster, new = at_its_first_step(verb)
    other, before = (cluster.first if of == "stable" else NEVER), at_rest(cluster)
    ask(cluster, verb, other)
    assert cluster.settle()
    (told,) = ignored(cluster)
    assert told.startswith(f"{verb} is asked of revision {other}, and the canary is {new}: nothing was done")
    assert "`pilotboat rollout status NAME`" in told
    assert at_rest(cluster)[:3] == before[:3]
    assert cluster.status["actions"][0] == "asked"
    assert cluster.settle()
    assert len(ignored(cluster)) == 1


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_asked_where_there_is_no_canary_is_said_once(verb: str) -> None:
    cluster = Canary()
    for revision in (cluster.first, NEVER):
        ask(cluster, verb, revision, revision)
        assert cluster.settle()
    told = [f"{verb} is asked of revision {each}, and there is no canary" for each in (cluster.first, NEVER)]
    assert [message.partition(":")[0] for message in ignored(cluster)] == told
    assert cluster.status["actions"] == [NEVER, cluster.first]
    assert cluster.shares == {cluster.first: 1000}


def test_what_is_left_in_git_is_not_done_to_the_next_canary_nor_to_the_same_again() -> None:
    cluster = Canary(steps=[{"weight": 10, "hold": "1h"}])
    first = cluster.push(7)
    assert cluster.settle()
    second = cluster.push(8)
    assert cluster.settle()
    ask(cluster, "Promote", first, "release-1")
    assert cluster.settle()
    assert cluster.shares == {second: 100, cluster.first: 900}
    for size in (7, 9, 7):
        new = cluster.push(size)
        assert cluster.settle()
        assert cluster.shares == {new: 100, cluster.first: 900}
    assert len(ignored(cluster)) == 1
    cluster.parent["status"].pop("actions")
    cluster.parent["status"].pop("lastAction")
    new = cluster.push(10)
    assert cluster.settle()
    assert cluster.shares == {new: 100, cluster.first: 900}, "not even where nobody remembers that it was heard"


def leaving() -> tuple[Watched, str, str]:
    """A canary on its way out, and the one that was pushed over it."""
    cluster = Watched(room=ENOUGH)
    second = reached(cluster, 50)
    third = cluster.push(8)
    cluster.carry_out(cluster.plan())
    assert cluster.status["rollout"]["phase"] == "Draining"
    return cluster, second, third


@pytest.mark.parametrize(("verb", "end"), [("Promote", 1000), ("Abort", 0)])
def test_what_is_asked_of_the_next_waits_until_it_begins(verb: str, end: int) -> None:
    cluster, second, third = leaving()
    ask(cluster, verb, third)
    cluster.carry_out(cluster.plan())
    assert cluster.shares[second] > 0, "who is on his way out does not hear it"
    assert cluster.settle()
    assert (cluster.shares.get(third, 0), ignored(cluster)) == (end, [])
    assert [each["revision"] for each in cluster.status["rollouts"]] == [third, second]


@pytest.mark.parametrize("verb", ["Approve", "Skip", "Promote", "Retry"])
def test_who_is_on_its_way_out_hears_nothing_but_abort(verb: str) -> None:
    cluster, second, third = leaving()
    ask(cluster, verb, second)
    assert cluster.settle()
    (told,) = ignored(cluster)
    assert f"revision {second}, and it is on its way out, for another change came" in told
    assert cluster.shares == {third: 250, cluster.first: 750}


def test_who_is_on_its_way_out_is_aborted_at_once() -> None:
    cluster, second, third = leaving()
    ask(cluster, "Abort", second)
    cluster.carry_out(cluster.plan())
    assert cluster.shares == {cluster.first: 1000}
    assert cluster.settle()
    assert (cluster.shares, ignored(cluster)) == ({third: 250, cluster.first: 750}, [])


@pytest.mark.parametrize("then", ["a fourth", "the spec as it was", "rollbackTo"])
def test_what_waits_for_one_that_never_begins_is_given_up(then: str) -> None:
    cluster, _, third = leaving()
    ask(cluster, "Promote", third)
    cluster.carry_out(cluster.plan())
    assert not ignored(cluster)
    if then == "a fourth":
        last = cluster.push(9)
        shares = {last: 250, cluster.first: 750}
    else:
        back(cluster, then)
        shares = {cluster.first: 1000}
    assert cluster.settle()
    assert (cluster.shares, len(ignored(cluster))) == (shares, 1)


def test_what_is_asked_while_nothing_is_wanted_waits_for_its_canary_alone() -> None:
    cluster, new = at_its_first_step("Promote")
    cluster.edit(replicas=0)
    assert cluster.settle()
    ask(cluster, "Promote", NEVER, "1")
    assert cluster.settle()
    assert len(ignored(cluster)) == 1
    ask(cluster, "Promote", new, "2")
    assert cluster.settle()
    assert cluster.status["actions"] == ["1"]
    cluster.edit(replicas=4)
    assert cluster.settle()
    assert (cluster.shares, len(ignored(cluster))) == ({new: 1000}, 1)


@pytest.mark.parametrize("of_it", [True, False], ids=["of the canary", "of another"])
def test_while_the_source_is_missing_nobody_knows_who_is_next_so_it_waits(of_it: bool) -> None:
    cluster = Watched(room=ENOUGH)
    canary = reached(cluster, 50)
    source_missing(cluster)
    ask(cluster, "Promote", canary if of_it else NEVER)
    assert cluster.settle()
    assert "asked" not in cluster.status["actions"]
    assert not ignored(cluster)
    source_back(cluster)
    assert cluster.settle()
    assert cluster.shares == ({canary: 1000} if of_it else {canary: 500, cluster.first: 500})
    assert len(ignored(cluster)) == (not of_it)


def test_an_abort_that_could_not_be_written_waits() -> None:
    """Where the API server refuses the route, also of a canary on its way out."""
    cluster, second, _ = leaving()
    ask(cluster, "Abort", second)
    route = next(ref for ref in cluster.objects if ref.name == "chat-route")
    rejected = {route: Rejection(Refusal.INVALID, "no")}
    refused = cluster.plan(dataclasses.replace(cluster.observed, rejected=rejected))
    assert refused.status is not None
    assert "asked" not in refused.status["actions"]
    assert "ActionIgnored" not in [event.reason for event in refused.events]
    cluster.carry_out(cluster.plan())
    assert cluster.shares == {cluster.first: 1000}
