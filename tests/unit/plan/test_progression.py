"""A rollout's life by the clock: steps, holds, verbs, deadlines, failures at every point, restarts in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.analysis import Decision, QueryRecord, Verdict, Why
from pilotboat.api.reasons import Reason
from pilotboat.api.rollout import Action, Rollout, RolloutPhase, RolloutStatus, Verb
from pilotboat.plan.outcome import Cause
from pilotboat.plan.progression import Facts, advance, begin, finished, resumed
from pilotboat.plan.rollout import Revision
from unit.plan.world import NOW

STEPS = [{"weight": 10, "hold": "1m"}, {"weight": 50, "hold": "2m"}]
PROMOTE, HOLD, ABORT, CONTINUE = (
    Decision(verdict=verdict, why=Why.UNDECIDED, time="2026-05-01T12:00:00Z", message=f"told {verdict}")
    for verdict in (Verdict.PROMOTE, Verdict.HOLD, Verdict.ABORT, Verdict.CONTINUE)
)


def rollout(**changes: object) -> Rollout:
    return Rollout.model_validate({"steps": STEPS} | changes)


@dataclass
class Life:
    """One rollout; the cluster follows at once, as far as there is room."""

    spec: Rollout = field(default_factory=rollout)
    want: int = 4
    room: int = 5
    decision: Decision | None = PROMOTE
    broken: Cause | None = None
    unrouted: Cause | None = None
    gated: Cause | None = None
    now: datetime = NOW
    stable: int = 4
    canary: int = 0
    state: RolloutStatus = field(default_factory=lambda: begin("old", "new", NOW))
    weights: list[int] = field(default_factory=list)
    again: timedelta | None = None

    @property
    def ready(self) -> int:
        return 0 if self.broken else min(self.canary, self.room - self.stable)

    def look(self, verb: Verb | None = None) -> RolloutStatus:
        starved = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu." if self.canary > self.ready else None
        facts = Facts(
            self.want,
            Revision("old", self.stable, self.stable),
            Revision("new", self.canary, self.ready),
            self.unrouted,
            self.gated,
            starved=None if self.broken else starved,
            broken=self.broken,
            asked=Action(verb=verb, id="1") if verb else None,
        )
        restarted = RolloutStatus.model_validate(self.state.wire()).model_copy(update={"decision": self.decision})
        state, facts = resumed(restarted, self.spec, facts, self.now)
        made = advance(state, self.spec, facts, self.now)
        self.state, self.stable, self.canary = made.state, made.move.stable, made.move.canary
        self.weights.append(made.move.weight)
        self.again = made.look_again
        assert made.move.weight == self.state.weight
        return self.state

    def settle(self) -> RolloutStatus:
        """Looks until nothing changes."""
        before = None
        while before != (self.state, self.stable, self.canary):
            before = (self.state, self.stable, self.canary)
            self.look()
        return self.state

    def after(self, seconds: float) -> RolloutStatus:
        self.now += timedelta(seconds=seconds)
        return self.settle()


def test_steps_are_held_and_then_everything_moves() -> None:
    life = Life()
    assert (life.settle().phase, life.state.weight, life.canary, life.stable) == (RolloutPhase.PROGRESSING, 10, 1, 4)
    assert life.after(59).step == 0
    assert (life.after(1).step, life.state.weight, life.canary) == (1, 50, 2)
    assert life.after(119).weight == 50
    assert finished(life.after(1))
    assert (life.stable, life.canary) == (0, 4)
    assert life.weights == sorted(life.weights)


@pytest.mark.parametrize(("decision", "words"), [(None, "nothing is known"), (HOLD, "told Hold")])
def test_what_is_not_proven_is_held_and_not_given_up(decision: Decision | None, words: str) -> None:
    life = Life()
    life.settle()
    life.after(60)
    life.decision = decision
    assert life.after(120).phase is RolloutPhase.HOLDING
    assert words in life.state.message
    assert life.after(86400).phase is RolloutPhase.HOLDING
    life.decision = PROMOTE
    assert finished(life.settle())


@pytest.mark.parametrize(("decision", "words"), [(None, "nothing is known"), (HOLD, "told Hold")])
def test_of_what_nothing_is_known_no_step_gives_more(decision: Decision | None, words: str) -> None:
    """No gateway answers, or none has had a request for it: that is neither good nor bad, at 10 % as at the end."""
    life = Life(decision=decision)
    life.settle()
    assert life.after(60).phase is RolloutPhase.HOLDING
    assert words in life.state.message
    assert life.after(86400).weight == 10
    life.decision = CONTINUE
    assert life.settle().weight == 50


def test_what_a_person_approves_goes_on_without_evidence_but_is_not_promoted_without() -> None:
    life = Life(spec=rollout(steps=[step | {"approval": True} for step in STEPS]), decision=None)
    life.settle()
    assert life.after(60).phase is RolloutPhase.AWAITING_APPROVAL
    life.look(Verb.APPROVE)
    assert life.settle().weight == 50
    assert life.after(120).phase is RolloutPhase.AWAITING_APPROVAL
    life.look(Verb.APPROVE)
    assert life.settle().phase is RolloutPhase.HOLDING


PROMETHEUS = {"url": "http://prometheus", "queries": [{"name": "wrong", "query": "up", "min": 1}]}


def asked(verdict: Verdict, of: Decision = PROMOTE) -> Decision:
    """That decision with a query that says so beside it."""
    why = {Verdict.HOLD: Why.NO_ANSWER, Verdict.CONTINUE: Why.WITHIN_BOUND}[verdict]
    record = QueryRecord(
        name="wrong", digest="", verdict=verdict, why=why, abort_at=3, looked="2026-05-01T12:00:00Z", message="empty"
    )
    return of.model_copy(update={"queries": [record]})


@pytest.mark.parametrize(
    ("decision", "words"),
    [(None, "have not been asked yet"), (PROMOTE, "not been asked"), (asked(Verdict.HOLD), "empty")],
)
def test_a_query_that_does_not_keep_its_bound_holds_every_step(decision: Decision | None, words: str) -> None:
    steps = [{"weight": 10, "hold": "0s"}, {"weight": 50, "hold": "0s"}]
    life = Life(rollout(steps=steps, analysis={"prometheus": PROMETHEUS}), decision=decision)
    for step in (0, 1):
        assert (life.settle().phase, life.state.step) == (RolloutPhase.HOLDING, step)
        assert words in life.after(86400).message
        life.decision = asked(Verdict.CONTINUE)
        life.look()
        life.decision = decision
    assert finished(life.settle())


def test_queries_that_keep_their_bounds_promote_nothing_that_the_statistics_hold() -> None:
    life = Life(rollout(analysis={"prometheus": PROMETHEUS}), decision=asked(Verdict.CONTINUE, CONTINUE))
    in_the_last_step(life)
    life.decision = asked(Verdict.CONTINUE, HOLD)
    assert life.after(86400).phase is RolloutPhase.HOLDING
    assert life.state.step == 1


def at_step_one(life: Life) -> None:
    life.settle()


def in_the_last_step(life: Life) -> None:
    life.settle()
    life.after(60)


def holding(life: Life) -> None:
    life.decision = HOLD
    in_the_last_step(life)
    life.after(120)


def paused(life: Life) -> None:
    life.settle()
    life.spec = rollout(**life.spec.wire() | {"paused": True})
    life.settle()
    assert life.state.phase is RolloutPhase.PAUSED


def awaiting_approval(life: Life) -> None:
    life.spec = rollout(**life.spec.wire() | {"steps": [{"weight": 10, "hold": "1m", "approval": True}]})
    life.settle()
    assert life.after(60).phase is RolloutPhase.AWAITING_APPROVAL


def promoting(life: Life) -> None:
    in_the_last_step(life)
    life.now += timedelta(seconds=120)
    life.look()
    assert life.state.phase is RolloutPhase.PROMOTING


EVERYWHERE = pytest.mark.parametrize(
    "reach", [at_step_one, in_the_last_step, holding, paused, awaiting_approval, promoting], ids=lambda f: f.__name__
)


@EVERYWHERE
def test_a_breach_gives_up_in_every_phase(reach: Callable[[Life], None]) -> None:
    life = Life()
    reach(life)
    life.decision = ABORT
    state = life.look()
    assert (state.phase, state.weight, state.message) == (RolloutPhase.ABORTED, 0, "told Abort")
    assert (life.stable, life.canary) == (4, 0)
    life.decision = PROMOTE
    assert life.after(3600).phase is RolloutPhase.ABORTED


@EVERYWHERE
def test_a_canary_that_cannot_live_is_given_up_in_every_phase(reach: Callable[[Life], None]) -> None:
    life = Life()
    reach(life)
    life.broken = Cause(Reason.CRASH_LOOP_BACK_OFF, "it died")
    assert life.look().phase is RolloutPhase.ABORTED
    assert "CrashLoopBackOff: it died" in life.state.message


ROOM = pytest.mark.parametrize(
    ("surge", "room"),
    [("Auto", 5), ("Auto", 4), ("Always", 8), ("Never", 4)],
    ids=["one more", "one lent for want of room", "twice the room", "one lent"],
)


def aborts(life: Life, kept: int = 0) -> None:
    """In that very look all traffic is stable's, and all its replicas are asked for again."""
    asked = RolloutPhase.ABORTED, 0, life.want, kept
    assert (life.look(Verb.ABORT).phase, life.weights[-1], life.stable, life.canary) == asked
    assert (life.settle().phase, life.weights[-1], life.stable, life.canary) == asked
    assert life.want + kept <= life.room


@EVERYWHERE
@ROOM
@pytest.mark.parametrize("on_failure", ["Rollback", "Pause"])
def test_abort_works_in_every_phase_at_once(
    reach: Callable[[Life], None], surge: str, room: int, on_failure: str
) -> None:
    life = Life(rollout(surge=surge, onFailure=on_failure), room=room)
    reach(life)
    aborts(life, kept=min(life.canary, room - life.want) if on_failure == "Pause" else 0)


@ROOM
def test_abort_works_while_a_gate_is_measured(surge: str, room: int) -> None:
    life = Life(rollout(surge=surge), room=room)
    life.look()
    life.gated = GATED
    assert life.after(60).weight == 0
    assert life.canary
    aborts(life)


def test_abort_works_while_the_canary_waits_for_room() -> None:
    life = Life(rollout(surge="Always"), room=4)
    assert life.after(60).weight == 0
    aborts(life)


def test_retry_begins_anew() -> None:
    life = Life()
    in_the_last_step(life)
    life.look(Verb.ABORT)
    life.now += timedelta(hours=1)
    assert life.look(Verb.RETRY).phase is RolloutPhase.PROGRESSING
    assert (life.settle().step, life.state.weight) == (0, 10)


def test_no_verb_but_retry_wakes_what_was_given_up() -> None:
    life = Life()
    life.settle()
    life.look(Verb.ABORT)
    for verb in (Verb.APPROVE, Verb.SKIP, Verb.PROMOTE, Verb.ABORT):
        assert life.look(verb).phase is RolloutPhase.ABORTED


def test_skip_goes_to_the_next_step_and_promote_to_the_end() -> None:
    life = Life(decision=None)
    life.settle()
    life.look(Verb.SKIP)
    assert (life.settle().step, life.state.weight) == (1, 50)
    life.look(Verb.PROMOTE)
    assert finished(life.settle())


def test_what_a_person_promoted_is_not_stopped_by_figures_but_by_death() -> None:
    life = Life(decision=None, want=8, room=9, stable=8)
    life.settle()
    life.look(Verb.PROMOTE)
    life.decision = ABORT
    assert life.look().phase is RolloutPhase.PROMOTING
    life.broken = Cause(Reason.CRASH_LOOP_BACK_OFF, "it died")
    assert life.look().phase is RolloutPhase.ABORTED


def test_a_pause_stops_the_clock_of_steps_only() -> None:
    life = Life()
    paused(life)
    assert life.after(3600).weight == 10
    life.spec = rollout()
    assert life.settle().step >= 1


def test_a_pause_keeps_the_weight_that_there_is_and_no_deadline_runs() -> None:
    life = Life(spec=rollout(paused=True, deadline="10m"))
    assert (life.settle().phase, life.state.weight, life.canary) == (RolloutPhase.PAUSED, 0, 1)
    assert life.after(3600).message == "paused at 0 %"
    life.spec = rollout(deadline="10m")
    assert life.settle().weight == 10
    life.now += timedelta(seconds=60)
    life.look()  # the next step is entered
    life.spec = rollout(paused=True)
    assert (life.after(3600).phase, life.state.weight, life.canary) == (RolloutPhase.PAUSED, 10, 1)
    life.look(Verb.PROMOTE)
    assert finished(life.settle()), "what a person asks for is done"


GATED = Cause(Reason.ROLLING_OUT, "load gate: it is being measured")


def test_a_gate_takes_its_time_and_pods_that_go_meanwhile_are_waited_for_from_then_on() -> None:
    life = Life(spec=rollout(deadline="10m"))
    life.look()
    life.gated = GATED
    assert (life.after(3600).weight, life.again) == (0, None)
    life.gated, room, life.room = None, life.room, life.stable  # no pod of it is ready
    assert life.look().phase is RolloutPhase.PROGRESSING
    assert life.after(599).phase is RolloutPhase.PROGRESSING
    life.room, life.gated = room, GATED
    life.look()
    assert life.after(3600).phase is RolloutPhase.PROGRESSING
    life.gated, life.room = None, life.stable
    life.look()
    assert life.after(600).phase is RolloutPhase.ABORTED


def test_a_skip_before_users_passes_the_gate_that_has_begun_and_nothing_else() -> None:
    life = Life()
    life.look()
    state = life.look(Verb.SKIP)
    assert (state.step, state.ungated) == (0, False)
    life.gated = GATED  # by a query
    state = life.look(Verb.SKIP)
    assert (state.step, state.ungated, state.gates) == (0, True, [])


@pytest.mark.parametrize("surge", ["Auto", "Never"])
def test_what_is_lent_is_given_back_where_it_is_the_only_one_by_now(surge: str) -> None:
    life = Life(want=2, stable=2, room=2, spec=rollout(surge=surge))
    assert life.settle().borrowing
    assert (life.state.weight, life.stable, life.canary) == (10, 1, 1)
    life.want = 1
    assert not life.look().borrowing
    life.look(Verb.PROMOTE)
    assert finished(life.settle())


def test_a_step_of_the_whole_traffic_keeps_stable_until_it_is_over() -> None:
    steps = [{"weight": 50, "hold": "1m"}, {"weight": 100, "hold": "10m"}]
    for surge, kept in (("Auto", 1), ("Always", 4)):
        life = Life(rollout(steps=steps, surge=surge), room=8)
        life.settle()
        state = life.after(60)
        assert (state.phase, state.weight, life.canary) == (RolloutPhase.PROGRESSING, 100, 4)
        assert life.after(599).step == 1
        assert life.stable == kept
        assert finished(life.after(1))
        assert life.stable == 0


def test_a_canary_that_nobody_serves_leaves_no_step() -> None:
    """Its only replica goes in the moment in which its last step ends: to promote it would let stable's last one go."""
    life = Life(spec=rollout(steps=[{"weight": 100, "hold": "1m"}]), want=1, stable=1, room=2)
    life.settle()
    assert (life.state.weight, life.canary, life.stable) == (100, 1, 1)
    life.room = 1
    assert life.after(60).phase is RolloutPhase.HOLDING
    assert "until a replica of the canary is ready again" in life.state.message
    assert life.stable == 1
    life.room = 2
    life.settle()
    assert (finished(life.state), life.stable) == (True, 0)


def test_approval_is_for_one_step() -> None:
    life = Life(spec=rollout(steps=[{**step, "approval": True} for step in STEPS]))
    life.settle()
    assert life.after(60).phase is RolloutPhase.AWAITING_APPROVAL
    life.look(Verb.APPROVE)
    assert (life.settle().step, life.state.approved) == (1, False)
    assert life.after(120).phase is RolloutPhase.AWAITING_APPROVAL
    life.look(Verb.APPROVE)
    assert finished(life.settle())


def test_no_room_under_always_ends_with_stable_whole() -> None:
    life = Life(room=4, spec=rollout(surge="Always", deadline="10m"))
    assert life.settle().weight == 0
    assert life.state.reason == Reason.INSUFFICIENT_SURGE_CAPACITY
    assert "0/3 nodes" in life.state.message
    state = life.after(600)
    assert (state.phase, life.stable, life.canary) == (RolloutPhase.ABORTED, 4, 0)
    assert "InsufficientSurgeCapacity: no room within 10m" in state.message


def test_no_room_under_auto_borrows() -> None:
    life = Life(room=4)
    life.look()
    life.look()
    assert life.settle().borrowing
    assert (life.stable, life.canary, life.state.weight) == (3, 1, 10)
    life.after(60)
    assert finished(life.after(120))
    assert max(life.weights) == 100


def test_what_was_borrowed_is_given_back() -> None:
    life = Life(room=4)
    life.settle()
    assert life.stable == 3
    life.look(Verb.ABORT)
    assert (life.stable, life.canary) == (4, 0)


def test_the_only_replica_is_not_lent() -> None:
    life = Life(want=1, stable=1, room=1, spec=rollout(surge="Never"))
    assert (life.settle().weight, life.stable) == (0, 1)
    assert life.after(1800).phase is RolloutPhase.ABORTED


def test_pause_on_failure_keeps_the_pods() -> None:
    life = Life(spec=rollout(onFailure="Pause"))
    life.settle()
    life.look(Verb.ABORT)
    assert (life.stable, life.canary, life.state.weight) == (4, 1, 0)


def test_without_a_gateway_the_canary_waits_and_stable_serves() -> None:
    life = Life(unrouted=Cause(Reason.GATEWAY_STARTING, "no gateway yet"), spec=rollout(deadline="10m"))
    assert (life.settle().weight, life.stable, life.canary) == (0, 4, 0)
    assert life.state.reason == Reason.GATEWAY_STARTING
    assert life.after(600).phase is RolloutPhase.ABORTED
    life = Life(unrouted=Cause(Reason.GATEWAY_STARTING, "no gateway yet"))
    life.settle()
    life.unrouted = None
    assert life.settle().weight == 10


def test_the_deadline_counts_from_the_last_progress() -> None:
    life = Life(spec=rollout(deadline="10m"))
    life.broken, life.room = None, 4
    life.spec = rollout(deadline="10m", surge="Always")
    life.settle()
    life.now += timedelta(seconds=599)
    assert life.look().phase is RolloutPhase.PROGRESSING
    life.room = 8
    assert life.settle().weight == 10


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from([None, *Verb]), st.booleans()), max_size=30))
def test_whatever_happens_stable_has_what_its_weight_needs(story: list[tuple[int, Verb | None, bool]]) -> None:
    life = Life()
    for seconds, verb, breach in story:
        life.now += timedelta(seconds=seconds)
        life.decision = ABORT if breach else PROMOTE
        state = life.look(verb)
        life.decision = HOLD
        if finished(state):
            return
        if state.phase is RolloutPhase.ABORTED:
            assert (state.weight, life.stable) == (0, 4)
        assert life.stable >= (100 - state.weight) * 4 // 100
