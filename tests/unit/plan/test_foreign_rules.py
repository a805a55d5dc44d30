"""A ModelDeployment's weights in the rules of an HTTPRoute of others: where it is named, and nowhere else."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api import routing
from pilotboat.api.routing import SERVER_PORT, WHOLE, Lane
from pilotboat.plan.foreign_rules import Mine, merged, named, services, too_coarse, without

Json = dict[str, Any]
OLD, NEW, GONE = "0a0a0a0a", "1b1b1b1b", "2c2c2c2c"
LEGACY: Json = {"group": "", "kind": "Service", "name": "legacy", "port": 80, "weight": 20}
CHAT: Json = {"path": {"type": "PathPrefix", "value": "/chat"}}
TESTERS = routing.Testers(header="X-Test", value="yes", revision=NEW)
ASKS: Json = {"type": "Exact", "name": "X-Test", "value": "yes"}


def mine(share: int = 50, testers: routing.Testers | None = None) -> Mine:
    pairs = ((NEW, share), (OLD, WHOLE - share))
    return Mine("chat", "ml", 9000, [Lane(revision=r, service=f"chat-{r}", share=s) for r, s in pairs], testers)


def plain(weight: int = 1, **more: Any) -> Json:
    return {"group": "", "kind": "Service", "name": "chat", "port": 9000, "weight": weight} | more


def split(revision: str, weight: int, **more: Any) -> Json:
    return plain(weight) | {"name": f"chat-{revision}-backend", "port": SERVER_PORT} | more


def rule(*refs: Json, **more: Any) -> Json:
    return {"matches": [CHAT], "backendRefs": list(refs)} | more


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        pytest.param([plain()], [split(NEW, 50), split(OLD, 950)], id="alone: per mille"),
        pytest.param([plain(0)], [split(NEW, 0), split(OLD, 0)], id="who is switched off stays so"),
        pytest.param([plain(80), LEGACY], [split(NEW, 4), split(OLD, 76), LEGACY], id="80 of 100 stay 80"),
        pytest.param([LEGACY, plain(80)], [LEGACY, split(NEW, 4), split(OLD, 76)], id="in its place"),
        pytest.param(
            [split(GONE, 60), LEGACY, split(OLD, 20)], [split(NEW, 4), split(OLD, 76), LEGACY], id="of before: the sum"
        ),
        pytest.param(
            [split(NEW, 1), split(OLD, 9), plain(40), LEGACY],
            [split(NEW, 2), split(OLD, 38), LEGACY],
            id="written back: the word of others counts",
        ),
        pytest.param(
            [plain(filters=["f"])], [split(NEW, 50, filters=["f"]), split(OLD, 950, filters=["f"])], id="its filters"
        ),
        pytest.param([plain(namespace="others")], [plain(namespace="others")], id="another namespace's is not ours"),
        pytest.param([plain(kind="InferencePool")], [plain(kind="InferencePool")], id="nor is another kind's"),
    ],
)
def test_backend_refs(live: list[Json], wanted: list[Json]) -> None:
    before = rule(*live, filters=["theirs"], timeouts={"request": "1s"}, name="one")
    assert merged([before], mine()) == [{**before, "backendRefs": wanted}]


@pytest.mark.parametrize(
    ("live", "back"),
    [
        pytest.param([split(NEW, 50), split(OLD, 950)], [plain(1)], id="alone"),
        pytest.param([split(NEW, 0), split(OLD, 0)], [plain(0)], id="switched off"),
        pytest.param([LEGACY, split(NEW, 4), split(OLD, 76)], [LEGACY, plain(80)], id="beside others: the part it had"),
        pytest.param([plain(7)], [plain(7)], id="what nobody split"),
    ],
)
def test_it_is_given_back(live: list[Json], back: list[Json]) -> None:
    assert without([rule(*live)], mine()) == [rule(*back)]


@pytest.mark.parametrize(
    ("refs", "share", "told"),
    [
        ([plain(1), LEGACY], 5, (0, 1, 20)),
        ([plain(19), LEGACY], 5, (0, 19, 2)),
        ([plain(20), LEGACY], 5, None),
        ([plain(1)], 1, None),
        ([plain(0), LEGACY], 5, None),
        ([LEGACY], 5, None),
    ],
)
def test_a_weight_that_cannot_be_split(refs: list[Json], share: int, told: tuple[int, int, int] | None) -> None:
    assert too_coarse([rule(*refs)], mine(), share) == told
    if told:
        more = [{**ref, "weight": ref["weight"] * told[2]} for ref in refs]
        assert too_coarse([rule(*more)], mine(), share) is None


def test_testers_have_a_copy_of_each_rule_that_is_ours_until_there_is_no_canary() -> None:
    theirs = rule(LEGACY)
    shared = rule(plain(80), LEGACY, name="one", filters=["f"])
    made = merged([theirs, shared], mine(testers=TESTERS))
    behind = plain() | {"name": "chat-testers-backend", "port": SERVER_PORT}
    copied = {"matches": [CHAT | {"headers": [ASKS]}], "backendRefs": [behind], "filters": ["f"]}
    assert made == [theirs, shared | {"backendRefs": [split(NEW, 4), split(OLD, 76), LEGACY]}, copied]
    assert merged(made, mine(testers=TESTERS)) == made
    assert merged(made, mine()) == made[:2]
    assert without(made, mine()) == [theirs, shared]
    assert services(made, mine()) == {f"chat-{NEW}-backend", f"chat-{OLD}-backend", "chat-testers-backend"}


@pytest.mark.parametrize(
    "live",
    [
        pytest.param(
            rule(plain(), matches=[CHAT | {"headers": [ASKS | {"name": "x-test"}]}]), id="the header is asked"
        ),
        pytest.param(rule(plain(0), LEGACY), id="the rule sends us nothing"),
    ],
)
def test_where_testers_have_no_copy(live: Json) -> None:
    assert len(merged([live], mine(testers=TESTERS))) == 1


OTHERS = st.builds(
    lambda name, weight, near: {"kind": "Service", "name": name, "weight": weight} | near,
    st.sampled_from(["legacy", "chats", "chat-backend", "chats-0a0a0a0a-backend", "other-testers-backend"]),
    st.integers(0, 100),
    st.sampled_from([{}, {"namespace": "others"}]),
)
OURS = st.builds(plain, st.integers(0, 100)) | st.builds(split, st.sampled_from([OLD, NEW, GONE]), st.integers(0, 100))
RULES = st.lists(
    st.builds(
        lambda refs, more: rule(*refs, **more),
        st.lists(OTHERS | OURS, max_size=4),
        st.sampled_from([{}, {"filters": [{"type": "URLRewrite"}]}, {"matches": [CHAT, {"method": "GET"}]}]),
    ),
    max_size=4,
)
WANTED = st.builds(mine, st.integers(0, WHOLE), st.sampled_from([None, TESTERS]))


def of_others(rules: list[Json], wanted: Mine) -> list[Json]:
    """All that is not ours."""
    return [
        {**each, "backendRefs": [ref for ref in each["backendRefs"] if not (wanted.plain(ref) or wanted.split(ref))]}
        for each in rules
        if not wanted.copied(each)
    ]


@given(RULES, WANTED)
def test_nothing_of_others_changes_and_twice_is_once(live: list[Json], wanted: Mine) -> None:
    before = copy.deepcopy(live)
    made = merged(live, wanted)
    assert live == before
    assert of_others(made, wanted) == of_others(live, wanted)
    assert merged(made, wanted) == made
    back = without(made, wanted)
    assert of_others(back, wanted) == of_others(live, wanted)
    assert services(back, wanted) == set()
    assert named(back, wanted) == named(live, wanted)
    assert merged(back, wanted) == made


@given(RULES, WANTED)
def test_ours_keep_beside_others_what_they_had_in_sum(live: list[Json], wanted: Mine) -> None:
    for old, new in zip(live, merged(live, Mine("chat", "ml", 9000, wanted.lanes)), strict=True):
        words = [ref for ref in old["backendRefs"] if wanted.plain(ref)]
        had = sum(ref["weight"] for ref in words or filter(wanted.split, old["backendRefs"]))
        has = sum(ref["weight"] for ref in new["backendRefs"] if wanted.split(ref))
        assert has == had or (has == WHOLE and all(map(wanted.split, new["backendRefs"])) and had > 0)
