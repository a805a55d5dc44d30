"""Parents and hostnames that others add stay; ours come and go with the spec, whoever was there first."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api import labels
from pilotboat.plan.http_reach import GROUP, Reach, merged, without

Json = dict[str, Any]
NS = "ml"


def gateway(name: str, **more: Any) -> Json:
    return {"group": GROUP, "kind": "Gateway", "name": name} | more


EDGE, INNER = gateway("edge"), gateway("inner", sectionName="http")


def written(live: Json | None, asked: Reach) -> Json:
    """The route after one pass, as the API server has it: a list that we do not write goes if we wrote it before."""
    before = copy.deepcopy(live)
    reach, mine = merged(live, asked, NS)
    assert live == before
    kept = live["spec"] if live and "hostnames" not in live["metadata"]["annotations"].get(labels.REACH, "") else {}
    return {"metadata": {"annotations": mine.note}, "spec": {**kept, **reach.body}}


def edited(live: Json, **lists: list[Any]) -> Json:
    """Somebody sets lists of the route as they like."""
    return {**live, "spec": {**live["spec"], **lists}}


def test_what_is_asked_for_is_written_and_remembered() -> None:
    live = written(None, Reach([EDGE], ["a.example"]))
    assert live["spec"] == {"parentRefs": [EDGE], "hostnames": ["a.example"]}
    assert written(live, Reach([EDGE], ["a.example"])) == live
    assert written(live, Reach([INNER], ["b.example"]))["spec"] == {"parentRefs": [INNER], "hostnames": ["b.example"]}


def test_what_others_add_keeps_its_place_while_ours_changes() -> None:
    live = written(None, Reach([EDGE], ["a.example"]))
    live = edited(live, parentRefs=[INNER, EDGE], hostnames=["z.example", "a.example", "y.example"])
    assert written(live, Reach([EDGE], ["a.example"]))["spec"] == live["spec"]
    live = written(live, Reach([gateway("other")], ["b.example"]))
    assert live["spec"]["parentRefs"] == [INNER, gateway("other")]
    assert live["spec"]["hostnames"] == ["z.example", "y.example", "b.example"]


@pytest.mark.parametrize(
    "same",
    [
        pytest.param({"name": "edge", "namespace": NS}, id="written out"),
        pytest.param({"name": "edge"}, id="with what may be left out"),
    ],
)
def test_a_parent_that_others_had_there_first_is_not_doubled_and_stays_theirs(same: Json) -> None:
    live = edited(written(None, Reach([INNER])), parentRefs=[INNER, same])
    live = written(live, Reach([EDGE]))
    assert live["spec"]["parentRefs"] == [same]
    assert written(live, Reach([INNER]))["spec"]["parentRefs"] == [same, INNER]


@pytest.mark.parametrize(
    "theirs",
    [
        gateway("edge", sectionName="http"),
        gateway("edge", port=8080),
        gateway("edge", namespace="net"),
        {"group": "", "kind": "Service", "name": "edge"},
    ],
)
def test_a_parent_that_differs_in_anything_is_another(theirs: Json) -> None:
    live = edited(written(None, Reach([EDGE])), parentRefs=[theirs, EDGE])
    assert written(live, Reach([EDGE]))["spec"]["parentRefs"] == [theirs, EDGE]
    assert written(live, Reach([INNER]))["spec"]["parentRefs"] == [theirs, INNER]


def test_hostnames_are_not_written_before_one_is_asked_for_and_theirs_outlive_it() -> None:
    live = edited(written(None, Reach([EDGE])), hostnames=["z.example"])
    assert "hostnames" not in merged(live, Reach([EDGE]), NS)[0].body
    assert written(live, Reach([EDGE])) == live
    live = written(live, Reach([EDGE], ["a.example"]))
    assert live["spec"]["hostnames"] == ["z.example", "a.example"]
    live = written(live, Reach([EDGE]))
    assert live["spec"]["hostnames"] == ["z.example"]
    assert written(live, Reach([EDGE])) == live, "the list is ours by now: who stops to write it takes it away"
    live = written(edited(live, hostnames=[]), Reach([EDGE]))
    assert live == written(None, Reach([EDGE]))


SPOILED = [
    "",
    "{",
    "[]",
    "7",
    '{"parentRefs": [1]}',
    '{"parentRefs": [{"name": {}}]}',
    '{"parentRefs": [], "hostnames": "a"}',
]


@pytest.mark.parametrize("note", [None, *SPOILED])
def test_without_a_memory_what_is_asked_for_is_ours_and_nothing_of_others_is_lost(note: str | None) -> None:
    asked = Reach([EDGE], ["a.example"])
    live = edited(written(None, asked), parentRefs=[INNER, EDGE], hostnames=["z.example", "a.example"])
    live["metadata"]["annotations"] = {} if note is None else {labels.REACH: note}
    again = written(live, asked)
    assert again["spec"] == live["spec"]
    assert again["metadata"] == written(None, asked)["metadata"]


def test_who_leaves_takes_what_is_ours() -> None:
    live = written(None, Reach([EDGE], ["a.example"]))
    live = edited(live, parentRefs=[EDGE, INNER], hostnames=["a.example", "z.example"])
    assert without(live, NS).body == {"parentRefs": [INNER], "hostnames": ["z.example"]}


def test_the_rules_of_others_are_not_left_without_a_parent_nor_open_to_every_host() -> None:
    live = written(None, Reach([EDGE], ["a.example"]))
    assert without(live, NS).body == live["spec"]
    open_to_all = written(None, Reach([EDGE]))
    assert without(open_to_all, NS).body == open_to_all["spec"]


HOSTS = st.sampled_from(["a", "b", "c", "d"])
ACTS = st.lists(
    st.tuples(st.just("asked"), st.lists(HOSTS, max_size=3))
    | st.tuples(st.sampled_from(["add", "take"]), st.tuples(HOSTS, st.integers(0, 3))),
    max_size=12,
)


@given(ACTS)
def test_in_any_order_of_edits_each_has_what_is_theirs(acts: list[tuple[str, Any]]) -> None:
    """Nothing that others added is lost, moved or taken for ours; nothing is there twice; what we leave is gone."""
    asked = Reach([EDGE])
    live = written(None, asked)
    theirs: list[str] = []
    for verb, what in acts:
        there = list(live["spec"].get("hostnames", ()))
        if verb == "asked":
            asked = Reach([EDGE], what or None)
        elif verb == "add" and what[0] not in there:
            place = min(what[1], len(there))
            live = edited(live, hostnames=[*there[:place], what[0], *there[place:]])
            theirs = [host for host in live["spec"]["hostnames"] if host in {*theirs, what[0]}]
        elif verb == "take" and what[0] in theirs:
            live = edited(live, hostnames=[host for host in there if host != what[0]])
            theirs.remove(what[0])
        live = written(live, asked)
        assert written(live, asked) == live
        hosts = live["spec"].get("hostnames", [])
        assert [host for host in hosts if host in theirs] == theirs
        assert sorted(hosts) == sorted({*theirs, *(asked.hostnames or ())})
    assert written(live, Reach([EDGE]))["spec"].get("hostnames", []) == theirs
