"""Whatever others put into an HTTPRoute stays as it is; ours is what the rollout says, and saying it twice is once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api import routing
from pilotboat.api.routing import SERVER_PORT, WHOLE, Lane
from pilotboat.plan.http_behind import backend
from pilotboat.plan.http_rules import Mark, Ours, merged, without

Json = dict[str, Any]
OLD, NEW, GONE = "0a0a0a0a", "1b1b1b1b", "2c2c2c2c"
EVERYTHING: Json = {"path": {"type": "PathPrefix", "value": "/"}}
FOREIGN: Json = {"group": "", "kind": "Service", "name": "theirs", "port": 80, "weight": 7}


def lanes(share: int = 50) -> list[Lane]:
    pairs = ((NEW, share), (OLD, WHOLE - share))
    return [Lane(revision=name, service=f"chat-{name}", share=weight) for name, weight in pairs]


def ours(share: int = 50, testers: routing.Testers | None = None, before: Mark | None = None) -> Ours:
    return Ours("chat", "ml", lanes(share), "0h10m0s", testers, before)


def ref(revision: str, weight: int = 1, **more: Any) -> Json:
    name = f"chat-{revision}-backend"
    return {"group": "", "kind": "Service", "name": name, "port": SERVER_PORT, "weight": weight} | more


def by_header(header: str = "X-Test", value: str = "yes") -> Json:
    return EVERYTHING | {"headers": [{"type": "Exact", "name": header, "value": value}]}


TESTERS = routing.Testers(header="X-Test", value="yes", revision=NEW)
MARK = Mark("X-Test", "yes")
MAIN: Json = {
    "matches": [EVERYTHING],
    "backendRefs": [ref(NEW, 50), ref(OLD, 950)],
    "timeouts": {"request": "0h10m0s"},
}


def test_an_empty_route_gets_our_rule() -> None:
    assert merged([], ours()) == [MAIN]


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        pytest.param([ref(OLD, 1000)], [ref(OLD, 950), ref(NEW, 50)], id="a new revision comes last"),
        pytest.param([ref(GONE, 3), ref(OLD, 9)], [ref(OLD, 950), ref(NEW, 50)], id="a revision that is gone"),
        pytest.param([ref(OLD), FOREIGN], [ref(OLD, 950), FOREIGN, ref(NEW, 50)], id="theirs keeps place and weight"),
        pytest.param([ref(OLD), ref(OLD)], [ref(OLD, 950), ref(NEW, 50)], id="ours twice"),
        pytest.param(
            [ref(OLD, filters=["x"])], [ref(OLD, 950, filters=["x"]), ref(NEW, 50)], id="a filter on ours stays"
        ),
        pytest.param(
            [ref(OLD), ref(NEW, namespace="others")],
            [ref(OLD, 950), ref(NEW, namespace="others"), ref(NEW, 50)],
            id="another namespace's is theirs",
        ),
    ],
)
def test_backend_refs_of_our_rule(live: list[Json], wanted: list[Json]) -> None:
    (rule,) = merged([{"matches": [EVERYTHING], "backendRefs": live}], ours())
    assert rule["backendRefs"] == wanted


@pytest.mark.parametrize(
    ("before", "live", "testers", "count"),
    [
        pytest.param(None, [MAIN], TESTERS, 2, id="asked for"),
        pytest.param(MARK, [MAIN, {"matches": [by_header()], "backendRefs": [ref(NEW)]}], None, 1, id="over"),
        pytest.param(
            Mark("X-Old", "yes"),
            [MAIN, {"matches": [by_header("X-Old")], "backendRefs": [ref(NEW)]}],
            TESTERS,
            2,
            id="by another header",
        ),
        pytest.param(
            MARK, [{"matches": [by_header()], "backendRefs": [ref(NEW), FOREIGN]}], None, 2, id="theirs in it"
        ),
    ],
)
def test_the_rule_for_testers(
    before: Mark | None, live: list[Json], testers: routing.Testers | None, count: int
) -> None:
    made = merged(live, ours(testers=testers, before=before))
    assert len(made) == count
    special = [rule for rule in made if rule["matches"] == [by_header()]]
    if testers:
        (rule,) = special
        assert rule["backendRefs"] == [ref(NEW, WHOLE)]
    elif special:
        assert special[0]["backendRefs"] == [ref(NEW, 50), FOREIGN, ref(OLD, 950)]


def test_a_match_that_somebody_changed_stays_and_is_split_as_ours() -> None:
    live = [{"matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}], "backendRefs": [ref(OLD)]}]
    assert merged(live, ours()) == [{**live[0], "backendRefs": [ref(OLD, 950), ref(NEW, 50)]}]


FOREIGN_REFS = st.builds(
    lambda name, weight, kind, near: {"name": name, "weight": weight, "kind": kind} | near,
    st.sampled_from(["theirs", "chat", "chat-backend", "chats-0a0a0a0a-backend", "chat-0a0a0a0a", "x"]),
    st.integers(0, 1000),
    st.sampled_from(["Service", "InferencePool"]),
    st.sampled_from([{}, {"namespace": "others"}]),
)
OUR_REFS = st.builds(ref, st.sampled_from([OLD, NEW, GONE]), st.integers(0, 1000))
RULES = st.lists(
    st.builds(
        lambda match, refs, more: {"matches": match, "backendRefs": refs} | more,
        st.sampled_from([[EVERYTHING], [by_header()], [by_header("X-Old")], [EVERYTHING, by_header()], []]),
        st.lists(FOREIGN_REFS | OUR_REFS, max_size=4),
        st.sampled_from([{}, {"filters": [{"type": "URLRewrite"}]}, {"timeouts": {"backendRequest": "1s"}}]),
    ),
    max_size=5,
)
WANTED = st.builds(
    ours,
    st.integers(0, WHOLE),
    st.sampled_from([None, TESTERS, routing.Testers(header="X-Old", value="yes", revision=NEW)]),
    st.sampled_from([None, MARK, Mark("X-Old", "yes")]),
)


def foreign(rules: list[Json], wanted: Ours) -> list[Any]:
    """What is not ours, rule by rule, with all that a rule has beside its backends where others have some in it."""
    kept = []
    for rule in rules:
        refs = [each for each in rule["backendRefs"] if not wanted.owns(each)]
        if len(refs) == len(rule["backendRefs"]):
            kept.append(rule)
        elif refs:
            kept.append({"matches": rule["matches"], "filters": rule.get("filters"), "backendRefs": refs})
    return kept


@given(RULES, WANTED)
def test_nothing_of_others_is_lost_or_reordered(live: list[Json], wanted: Ours) -> None:
    before = copy.deepcopy(live)
    made = merged(live, wanted)
    assert live == before
    assert foreign(made, wanted) == foreign(live, wanted)
    assert foreign(without(live, wanted), wanted) == [
        {**rule, "backendRefs": [each for each in rule["backendRefs"] if not wanted.owns(each)]}
        for rule in live
        if not rule["backendRefs"] or any(not wanted.owns(each) for each in rule["backendRefs"])
    ]


@given(RULES, WANTED)
def test_twice_is_once(live: list[Json], wanted: Ours) -> None:
    made = merged(live, wanted)
    again = Ours(wanted.name, wanted.namespace, wanted.lanes, wanted.timeout, wanted.testers, wanted.mark)
    assert merged(made, again) == made
    assert without(without(made, again), again) == without(made, again)


@given(RULES, WANTED)
def test_every_rule_of_ours_has_the_split_or_is_for_testers(live: list[Json], wanted: Ours) -> None:
    made = merged(live, wanted)
    split = {backend(lane): lane.share for lane in wanted.lanes}
    special = {backend(lane): WHOLE for lane in wanted.lanes if lane.revision == NEW}
    mine = [{each["name"]: each["weight"] for each in r["backendRefs"] if wanted.owns(each)} for r in made]
    assert all(weights in ({}, split, special) for weights in mine)
    assert split in mine
    assert (special in mine) is (wanted.testers is not None or split == special)
