"""The arithmetic of a rollout: its four invariants from any state, and the stories they are there for."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.plan.rollout import SURGE, Revision, Step, step

counts = st.integers(0, 6)


@st.composite
def revisions(draw: st.DrawFn, name: str) -> Revision:
    replicas, known = draw(counts), draw(st.booleans())
    ready = draw(st.integers(0, replicas + 2))
    return Revision(name, replicas, ready, known, draw(st.integers(0, max(0, replicas - ready))))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[int, Revision, list[Revision], bool]:
    others = [draw(revisions(name)) for name in "abc"[: draw(st.integers(0, 3))]]
    return draw(counts), draw(revisions("target")), others, draw(st.booleans())


def kept_ready(revision: Revision, replicas: int) -> int:
    """Ready replicas that a revision has after scaling: the ReplicaSet takes those first that are not ready."""
    return min(revision.serving, replicas)


@given(worlds())
def test_nothing_is_added_beyond_the_surge(world: tuple[int, Revision, list[Revision], bool]) -> None:
    want, target, others, starved = world
    made = step(want, target, others, starved)
    grown = max(0, made.target - target.replicas) + sum(max(0, made.others[r.name] - r.replicas) for r in others)
    assert not grown or made.target + sum(made.others.values()) <= want + SURGE + target.useless


@given(worlds())
def test_ready_replicas_go_only_where_enough_remain(world: tuple[int, Revision, list[Revision], bool]) -> None:
    want, target, others, starved = world
    made = step(want, target, others, starved)
    before = target.serving + sum(r.serving for r in others)
    after = kept_ready(target, made.target) + sum(kept_ready(r, made.others[r.name]) for r in others)
    assert after >= min(want, before)


@given(worlds())
def test_older_replicas_of_which_nothing_is_known_stay(world: tuple[int, Revision, list[Revision], bool]) -> None:
    want, target, others, starved = world
    made = step(want, target, others, starved)
    assert all(made.others[r.name] == (r.replicas if want else 0) for r in others if not r.known)


@given(worlds())
def test_idle_replicas_go_only_for_a_target_that_proved_itself_or_starves_or_has_no_room(
    world: tuple[int, Revision, list[Revision], bool],
) -> None:
    want, target, others, starved = world
    made = step(want, target, others, starved)
    if want and not starved and not target.serving:
        assert sum(made.others.values()) >= min(want, sum(r.replicas for r in others))


@dataclass
class Cluster:
    """Deployments by name; replicas become ready one a tick, unless their revision is broken."""

    replicas: dict[str, int]
    broken: frozenset[str] = frozenset()
    ready: dict[str, int] = field(default_factory=dict)
    stale: frozenset[str] = frozenset()
    gpus: int | None = None
    lowest: int = 99

    def revision(self, name: str) -> Revision:
        return Revision(name, self.replicas.get(name, 0), self.ready.get(name, 0), name not in self.stale)

    def starves(self, name: str) -> bool:
        return self.gpus is not None and sum(self.replicas.values()) > self.gpus and self._idle(name) > 0

    def _idle(self, name: str) -> int:
        return self.replicas.get(name, 0) - self.ready.get(name, 0)

    def tick(self, want: int, target: str) -> Step:
        """One pass of the planner, and the cluster following."""
        others = sorted((n for n in self.replicas if n != target), key=lambda n: (self.ready.get(n, 0) > 0, n))
        made = step(want, self.revision(target), [self.revision(n) for n in others], self.starves(target))
        wanted = {target: made.target, **made.others}
        self.stale = frozenset(n for n in wanted if wanted[n] != self.replicas.get(n, 0))
        self.replicas = wanted
        self.ready = {n: min(self.ready.get(n, 0), count) for n, count in wanted.items()}
        self.lowest = min(self.lowest, sum(self.ready.values()))
        self._schedule(target)
        return made

    def _schedule(self, target: str) -> None:
        for name in (target, *(n for n in self.replicas if n != target)):
            free = self.gpus is None or sum(self.ready.values()) + self._bound(name) < self.gpus
            if name not in self.broken and self._idle(name) and free:
                self.ready[name] = self.ready.get(name, 0) + 1

    def _bound(self, name: str) -> int:
        """GPUs held by idle replicas of other revisions, which were placed before."""
        return sum(self._idle(n) for n in self.replicas if n != name and n in self.broken)

    def settle(self, want: int, target: str, ticks: int = 60) -> Step:
        made = self.tick(want, target)
        for _ in range(ticks):
            made = self.tick(want, target)
        return made


@given(
    want=counts,
    old=st.dictionaries(st.sampled_from("abc"), st.tuples(counts, st.booleans()), max_size=3),
    reappears=st.booleans(),
)
def test_it_ends_with_the_target_alone_from_any_state(
    want: int, old: dict[str, tuple[int, bool]], reappears: bool
) -> None:
    target = "a" if reappears else "target"
    broken = frozenset(name for name, (_, bad) in old.items() if bad and name != target)
    cluster = Cluster({name: count for name, (count, _) in old.items()}, broken)
    cluster.ready = {name: count for name, (count, bad) in old.items() if not bad}
    ready = min(want, sum(cluster.ready.values()))
    made = cluster.settle(want, target)
    assert made.done
    assert made.target == want
    assert cluster.lowest >= ready


@given(want=st.integers(1, 6), stages=st.lists(st.tuples(st.sampled_from("abcd"), counts), min_size=1, max_size=6))
def test_changes_of_mind_mid_rollout_never_lower_what_serves(want: int, stages: list[tuple[str, int]]) -> None:
    """A → B → A, C before B was ready, with the first revision good and some later ones broken."""
    cluster = Cluster({"a": want}, broken=frozenset("bd"), ready={"a": want})
    for target, ticks in stages:
        for _ in range(ticks):
            cluster.tick(want, target)
    assert cluster.lowest >= want
    assert cluster.settle(want, "c").done


@pytest.mark.parametrize("want", [1, 2, 5])
def test_a_broken_target_leaves_the_old_revision_serving(want: int) -> None:
    cluster = Cluster({"old": want}, broken=frozenset({"new"}), ready={"old": want})
    made = cluster.settle(want, "new")
    assert made == Step(1, {"old": want})


@pytest.mark.parametrize("want", [1, 2, 5])
def test_a_broken_middle_revision_does_not_block_its_fix(want: int) -> None:
    cluster = Cluster({"old": want, "broken": 1}, broken=frozenset({"broken"}), ready={"old": want})
    assert cluster.settle(want, "fix") == Step(want, {"broken": 0, "old": 0})


def test_a_fix_that_also_scales_down_gets_room_among_many_broken_replicas() -> None:
    cluster = Cluster({"old": 10}, broken=frozenset({"old"}))
    assert cluster.settle(2, "fix") == Step(2, {"old": 0})


def test_a_status_older_than_its_spec_costs_no_serving_replica() -> None:
    """Found once: right after a scale-down the old revision counted as not ready, and all of it was given up."""
    made = step(3, Revision("new", 2, 1), [Revision("old", 2, 3, known=False)])
    assert made.others == {"old": 2}


def test_starving_for_a_gpu_gives_up_replicas_that_do_not_serve() -> None:
    cluster = Cluster({"old": 2}, broken=frozenset({"old"}), gpus=2)
    assert cluster.settle(2, "fix") == Step(2, {"old": 0})


def test_starving_for_a_gpu_gives_up_nothing_that_serves() -> None:
    cluster = Cluster({"old": 2}, ready={"old": 2}, gpus=2)
    assert cluster.settle(2, "new") == Step(1, {"old": 2})


def test_scaling_down_during_such_a_rollout_frees_its_gpu() -> None:
    cluster = Cluster({"old": 2}, ready={"old": 2}, gpus=2)
    cluster.settle(2, "new")
    assert cluster.settle(1, "new") == Step(1, {"old": 0})


def test_scaling_up_while_the_target_is_broken_grows_what_serves() -> None:
    cluster = Cluster({"old": 3}, broken=frozenset({"new"}), ready={"old": 3})
    cluster.settle(3, "new")
    assert cluster.settle(6, "new") == Step(1, {"old": 6})


def test_scaling_to_zero_takes_everything() -> None:
    assert step(0, Revision("new", 1, 0), [Revision("old", 3, 3, known=False)]) == Step(0, {"old": 0})
