"""Replicas and weights of a canary: what holds for every move, and the whole way from any start."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.rollout import Surge
from pilotboat.plan.capacity import Standing, back, carries, move, need
from pilotboat.plan.rollout import Revision

weights = st.integers(0, 100)
wholes = st.integers(1, 40)


@given(weights, wholes)
def test_both_needs_take_one_replica_more_than_the_whole_at_most(weight: int, whole: int) -> None:
    assert need(weight, whole) + need(100 - weight, whole) <= whole + 1


@given(weights, wholes)
def test_what_a_weight_needs_carries_it(weight: int, whole: int) -> None:
    assert carries(need(weight, whole), whole) >= weight


@dataclass
class World:
    """A stable revision, a canary, and a cluster with room for so many pods."""

    want: int
    room: int
    surge: Surge = Surge.AUTO
    borrowing: bool = False
    stable: int = 0
    canary: int = 0
    weight: int = 0

    def __post_init__(self) -> None:
        self.stable = self.want

    def standing(self, goal: int) -> Standing:
        ready = min(self.canary, max(0, self.room - self.stable))
        return Standing(
            self.want,
            Revision("stable", self.stable, self.stable),
            Revision("canary", self.canary, ready),
            self.weight,
            goal,
            self.surge,
            self.borrowing,
        )

    def go(self, goal: int) -> bool:
        """One move; False where nothing changed."""
        at = self.standing(goal)
        before = (self.stable, self.canary, self.weight)
        made = move(at)
        whole = at.whole
        assert at.canary.serving >= need(made.weight, whole) or made.weight == self.weight, (
            "weight beyond what is ready"
        )
        assert made.stable >= need(100 - made.weight, whole), "stable below what its weight needs"
        assert self.weight <= made.weight <= max(goal, self.weight)
        if made.weight < 100:
            assert made.stable + max(made.canary, self.canary) <= max(at.most, self.stable + self.canary)
        self.stable, self.canary, self.weight = made.stable, made.canary, made.weight
        return (self.stable, self.canary, self.weight) != before


goals = st.lists(weights.filter(bool), min_size=1, max_size=5, unique=True).map(sorted)


@given(st.integers(1, 12), goals, st.sampled_from([Surge.AUTO, Surge.ALWAYS]))
def test_with_room_for_one_more_every_weight_is_reached(want: int, steps: list[int], surge: Surge) -> None:
    world = World(want, room=2 * want if surge is Surge.ALWAYS else want + 1, surge=surge)
    for goal in [*steps, 100]:
        for _ in range(5 * want + 5):
            if not world.go(goal):
                break
        assert world.weight == goal
    assert (world.stable, world.canary) == (0, want)


@given(st.integers(2, 12), goals)
def test_with_no_room_a_borrowed_replica_is_enough(want: int, steps: list[int]) -> None:
    world = World(want, room=want, borrowing=True)
    for goal in [*steps, 100]:
        for _ in range(5 * want + 5):
            assert world.stable + min(world.canary, want) <= 2 * want
            if not world.go(goal):
                break
        assert world.weight == goal
    assert (world.stable, world.canary) == (0, want)


@pytest.mark.parametrize("want", [1, 2, 4])
def test_without_room_and_without_borrowing_stable_keeps_everything(want: int) -> None:
    world = World(want, room=want)
    for _ in range(20):
        world.go(5)
    assert (world.stable, world.weight) == (want, 0)


def test_stable_always_stays_whole_under_always() -> None:
    at = Standing(4, Revision("s", 4, 4), Revision("c", 2, 2), 0, 50, Surge.ALWAYS)
    assert move(at).stable == 4
    assert move(replace(at, canary=Revision("c", 0, 0))).canary == 2


@given(st.integers(1, 12), goals, st.sampled_from(Surge), st.booleans())
def test_what_was_given_comes_back_as_stable_can_take_it(
    want: int, steps: list[int], surge: Surge, borrowing: bool
) -> None:
    borrowing = borrowing and want > 1
    world = World(want, room=2 * want, surge=surge, borrowing=borrowing)
    for goal in filter(lambda goal: goal < 100, steps):
        while world.go(goal):
            pass
    world.room = max(world.stable + world.canary, want)
    before = None
    while before != (before := (world.stable, world.canary, world.weight)):
        at = replace(
            world.standing(0), stable=Revision("s", world.stable, min(world.stable, world.room - world.canary))
        )
        made = back(at)
        assert at.stable.serving >= need(100 - made.weight, at.whole) or made.weight == world.weight
        assert made.canary >= need(made.weight, at.whole)
        assert (made.weight, made.canary) <= (world.weight, world.canary)
        assert world.stable <= made.stable
        world.stable, world.canary, world.weight = made.stable, made.canary, made.weight
    assert before == (want, 0, 0)


def test_a_goal_below_the_weight_takes_no_replica_that_the_weight_needs() -> None:
    at = Standing(8, Revision("s", 5, 5), Revision("c", 4, 4), 50, 10)
    assert (move(at).canary, move(at).weight) == (4, 50)


@given(st.integers(1, 12), st.sampled_from(Surge), st.booleans())
def test_a_step_of_the_whole_traffic_leaves_stable_something(want: int, surge: Surge, borrowing: bool) -> None:
    borrowing = borrowing and want > 1
    whole = want - borrowing
    at = Standing(want, Revision("s", 1, 1), Revision("c", whole, whole), 90, 100, surge, borrowing, ends=False)
    made = move(at)
    assert made.weight == 100
    assert made.stable == (want if surge is Surge.ALWAYS else 1)
    assert made.canary == whole
    assert move(replace(at, ends=True)).stable == 0


@given(st.data(), st.integers(1, 12), weights, weights, st.sampled_from(Surge), st.booleans(), st.booleans())
def test_beside_replicas_of_no_use_there_may_be_as_many_more(
    data: st.DataObject, want: int, weight: int, goal: int, surge: Surge, borrowing: bool, ends: bool
) -> None:
    """They carry nothing; the canary has `want` replicas at most, and stable what is left to it needs."""
    stable = data.draw(st.integers(0, want))
    replicas = data.draw(st.integers(0, want))
    useless = data.draw(st.integers(0, replicas))
    canary = Revision("c", replicas, replicas - useless, useless=useless)
    at = Standing(want, Revision("s", stable, stable), canary, weight, goal, surge, borrowing and want > 1, ends)
    made, plain = move(at), move(replace(at, canary=replace(canary, useless=0)))
    assert made.weight == plain.weight
    assert plain.canary <= made.canary <= min(want, plain.canary + useless)
    assert made.stable >= min(plain.stable, max(1, need(100 - made.weight, at.whole))) or made.weight == 100
    assert made.stable + made.canary <= max(at.most + useless, made.stable + replicas)
