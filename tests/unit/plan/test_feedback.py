"""Posts added up: nothing twice, nothing lost, nothing from before; whatever restarts and whoever is asked again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotboat.api.outcomes import MOST_GATEWAYS, MOST_OUTCOMES, OTHER, Outcomes, Result, Side
from pilotboat.api.rollout import RolloutPhase, RolloutStatus
from pilotboat.api.routing import Evidence, Minute
from pilotboat.plan.feedback import Base, absorb, effects, kept, look
from unit.plan.world import NOW

BEGAN = int(NOW.timestamp())
STATE = RolloutStatus(phase=RolloutPhase.PROGRESSING, stable="old", canary="new", weight=50, highest=50)
EMPTY = Outcomes(since="2026-05-01T12:00:00Z", time="2026-05-01T12:00:00Z")
assert EMPTY.since == NOW.strftime("%Y-%m-%dT%H:%M:%SZ")


def told(gateway: str, after: float, *, began: float = 1, requests: int = 0, **posts: dict[str, int]) -> Evidence:
    """Evidence `after` seconds from the beginning, of a gateway that began `began` seconds from it."""
    minutes = {name: [Minute(start=BEGAN + 60, requests=requests)] for name in ("old", "new")} if requests else {}
    return Evidence(gateway=gateway, now=BEGAN + after, began=BEGAN + began, minutes=minutes, feedback=posts)


def absorbed(*evidence: Evidence, known: Outcomes = EMPTY) -> Outcomes:
    return absorb(known, evidence, "old", "new")


def posts(found: Result) -> tuple[dict[str, int], dict[str, int]]:
    return found.stable.posts, found.canary.posts


def test_gateways_are_added_up_and_other_revisions_left_out() -> None:
    found = absorbed(
        told("a", 10, old={"up": 3, "down": 1}, new={"up": 2}), told("b", 11, old={"up": 4}, third={"up": 99})
    )
    assert posts(found) == ({"up": 7, "down": 1}, {"up": 2})


def test_a_gateway_that_starts_anew_adds_to_what_it_had() -> None:
    before = told("a", 10, new={"up": 5})
    found = absorbed(before, told("a-again", 20, began=15, new={"up": 2}), before)
    assert posts(found)[1] == {"up": 7}


@pytest.mark.parametrize("began", [-3600, -BEGAN], ids=["older", "not told"])
def test_of_an_older_gateway_only_what_comes_from_now_on_counts(began: float) -> None:
    found = absorbed(told("a", 5, began=began, old={"up": 1000}, new={"up": 10}))
    assert posts(found) == ({"up": 0}, {"up": 0})
    assert effects(found, Base.POSTS) == ()
    found = absorbed(told("a", 65, began=began, old={"up": 1003}, new={"up": 11, "down": 1}), known=found)
    assert posts(found) == ({"up": 3}, {"up": 1, "down": 1})


def test_requests_are_those_of_whole_minutes_since_the_beginning() -> None:
    assert absorbed(told("a", 119, requests=7)).canary.requests == 0
    found = absorbed(told("a", 123, began=-3600, requests=7), told("b", 124, requests=5))
    assert (found.stable.requests, found.canary.requests) == (12, 12)
    assert absorbed(told("a", 300, requests=7), known=found).canary.requests == 12


def test_more_outcomes_than_are_kept_count_as_other() -> None:
    many = {f"o{number:02}": 1 for number in range(MOST_OUTCOMES + 5)}
    found = absorbed(told("a", 10, new={"zz": 2}), told("a", 20, new=many | {"zz": 3}, old=many))
    assert found.canary.posts["zz"] == 3
    assert len(found.canary.posts) == MOST_OUTCOMES + 1
    assert (found.canary.posted, found.canary.posts[OTHER]) == (MOST_OUTCOMES + 5 + 3, 6)


def test_silent_gateways_make_room_and_are_never_added_again() -> None:
    first = [told(f"g{number}", number + 1, new={"up": 1}) for number in range(MOST_GATEWAYS)]
    found = absorbed(*first)
    late = told("late", 30, began=25, new={"up": 1})
    assert absorbed(late, known=found) == found, "all that are remembered answer still: none is dropped"
    found = absorbed(told("late", 130, began=25, new={"up": 1}), known=found)
    assert found.canary.posted == MOST_GATEWAYS + 1
    assert absorbed(*first, known=found) == found
    back = absorbed(told("g0", 140, new={"up": 5}), known=found)
    assert back.canary.posted == MOST_GATEWAYS + 1, "what it posted before it was dropped is not known apart"
    assert absorbed(told("g0", 150, new={"up": 7}), known=back).canary.posted == MOST_GATEWAYS + 3


@dataclass
class Gateway:
    """One agent as it counts."""

    name: str
    began: float
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def post(self, revision: str, outcome: str, count: int) -> None:
        of = self.counts.setdefault(revision, {})
        of[outcome] = of.get(outcome, 0) + count

    def evidence(self, now: float) -> Evidence:
        counts = {revision: dict(of) for revision, of in self.counts.items()}
        return Evidence(gateway=self.name, now=now, began=self.began, feedback=counts)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("post"),
            st.integers(0, 2),
            st.sampled_from(["old", "new"]),
            st.sampled_from("abc"),
            st.integers(1, 9),
        ),
        st.tuples(st.just("restart"), st.integers(0, 2)),
        st.tuples(st.just("look")),
        st.tuples(st.just("again"), st.integers(0, 50)),
        st.tuples(st.just("operator restarts")),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_every_post_that_was_asked_for_counts_once(actions: list[tuple[str, ...]]) -> None:
    """Gateways and operators restart as they like, and old evidence comes again: the totals are those of the posts."""
    now, serial = float(BEGAN + 10), 3
    gateways = [Gateway(str(number), BEGAN + 1) for number in range(3)]
    known, heard, truth = EMPTY, list[Evidence](), {"old": dict[str, int](), "new": dict[str, int]()}
    for action, *rest in [*actions, ("look",)]:
        now += 1
        before = known
        if action == "post":
            which, revision, outcome, count = rest
            gateways[int(which)].post(revision, outcome, int(count))
            truth[revision][outcome] = truth[revision].get(outcome, 0) + int(count)
        elif action == "restart":
            heard.append(gateways[int(rest[0])].evidence(now))
            known = absorbed(heard[-1], known=known)
            gateways[int(rest[0])] = Gateway(str(serial), now)
            serial += 1
        elif action == "look":
            heard += [gateway.evidence(now) for gateway in gateways]
            known = absorbed(*heard[-3:], known=known)
        elif action == "again" and heard:
            known = absorbed(heard[int(rest[0]) % len(heard)], known=known)
        else:
            known = Outcomes.model_validate(known.wire())
        for revision, side in (("old", known.stable), ("new", known.canary)):
            earlier = before.stable if revision == "old" else before.canary
            assert all(side.posts[outcome] >= count for outcome, count in earlier.posts.items()), "totals never fall"
            assert all(count <= truth[revision].get(outcome, 0) for outcome, count in side.posts.items())
        assert len(known.counters) <= MOST_GATEWAYS
    if serial <= MOST_GATEWAYS:
        for revision, side in (("old", known.stable), ("new", known.canary)):
            assert {outcome: count for outcome, count in side.posts.items() if count} == truth[revision]


def test_status_changes_once_a_minute_at_most_and_only_for_news() -> None:
    assert look(STATE.model_copy(update={"highest": 0}), [told("a", 5)], NOW).outcomes is None
    assert look(STATE, [], NOW) is STATE
    first = look(STATE, [told("a", 5, new={"up": 1})], NOW)
    assert first.outcomes
    assert first.outcomes.canary.posted == 1
    news = [told("a", 40, new={"up": 2})]
    assert look(first, news, NOW + timedelta(seconds=59)) is first
    second = look(first, news, NOW + timedelta(seconds=60))
    assert second.outcomes
    assert second.outcomes.canary.posted == 2
    assert look(second, news, NOW + timedelta(hours=1)) is second


def test_the_record_has_the_last_posts_and_no_counters() -> None:
    first = look(STATE, [told("a", 5, new={"up": 60, "down": 40}, old={"up": 500, "down": 500})], NOW)
    record = kept(first, [told("a", 9, new={"up": 61, "down": 40}, old={"up": 500, "down": 500})], NOW)
    assert record
    assert record.canary.posts == {"up": 61, "down": 40}
    assert "counters" not in record.wire()
    (down, up) = record.effects
    assert (up.outcome, up.stable, up.canary, up.effect) == ("up", 0.5, 0.604, 0.104)
    assert 0 < up.low < up.effect < up.high
    assert up.settled
    assert down.settled
    assert kept(STATE, [told("a", 5)], NOW) is None


@pytest.mark.parametrize(
    ("base", "shares"), [(Base.POSTS, (1.0, 1.0)), (Base.REQUESTS, (0.3, 0.4))], ids=["posts", "requests"]
)
def test_a_share_is_of_posts_or_of_requests(base: Base, shares: tuple[float, float]) -> None:
    """Of an application that posts a single outcome, only the share of requests says anything."""
    result = Result(stable=Side(requests=100, posts={"bought": 30}), canary=Side(requests=50, posts={"bought": 20}))
    (found,) = effects(result, base)
    assert (found.a.estimate, found.b.estimate) == shares


def test_more_posts_than_requests_are_a_share_of_one() -> None:
    result = Result(stable=Side(requests=1, posts={"up": 5}), canary=Side(posts={"up": 5}))
    (found,) = effects(result, Base.REQUESTS)
    assert (found.a.estimate, found.b.estimate, found.effect.settled) == (1.0, 0.0, False)
