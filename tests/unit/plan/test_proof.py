"""What a step asks to be known of the canary before it ends: requests at its weight, the proof, answers to queries."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from pilotboat.api.analysis import Decision, Verdict
from pilotboat.api.probing import ProbeResult, TrafficResult
from pilotboat.api.rollout import Rollout, RolloutPhase, Verb
from pilotboat.plan import steps
from pilotboat.plan.types import Answer, Observed
from unit.plan.test_course import Canary
from unit.plan.test_gates import OFF, jobs, measured
from unit.plan.test_progression import CONTINUE, HOLD, PROMETHEUS, PROMOTE, Life, asked, rollout

FEW, PROOF, BOTH = {"minSamples": 100}, {"proven": True}, {"minSamples": 100, "proven": True}
NOTHING_NAMED, NAMED = {"queries": []}, {"queries": ["wrong"]}
QUERIED = {"prometheus": PROMETHEUS}


def at(step: int, asks: dict[str, Any], decision: Decision | None = PROMOTE, **more: Any) -> Life:
    """A canary at that step of two, each of which is held for a minute, needs an approval where one is given, and asks
    for this."""
    planned = [{"weight": weight, "hold": "1m", "approval": more.get("approval", False)} for weight in (10, 50)]
    planned[step]["analysis"] = asks
    life = Life(rollout(steps=planned, analysis=more.get("analysis", {})), decision=decision)
    if step:
        life.state = steps.entered(life.state, step, life.now)
    assert life.settle().step == step
    hear(life, more.get("heard", 0))
    return life


def hear(life: Life, requests: int) -> None:
    """As if so many had been absorbed since the weight of this step was reached."""
    known = life.state.analysis.model_copy(update={"heard": requests})
    life.state = life.state.model_copy(update={"analysis": known})


HELD: dict[str, tuple[dict[str, Any], Decision | None, int, str]] = {
    "too few requests": (FEW, PROMOTE, 99, "99 of 100 requests of the canary have been heard since it has 10 %"),
    "not proven": (PROOF, HOLD, 999, "told Hold"),
    "nothing against it is no proof": (PROOF, CONTINUE, 999, "told Continue"),
    "nothing known is none either": (PROOF, None, 999, "nothing is known"),
    "proven by too few": (BOTH, PROMOTE, 99, "steps[0].analysis.minSamples"),
    "enough, and not proven": (BOTH, HOLD, 100, "told Hold"),
    "enough, of which nothing is known": (FEW, HOLD, 100, "told Hold"),
}


@pytest.mark.parametrize("case", HELD.values(), ids=HELD)
def test_a_step_holds_until_it_is_known_what_it_asks_for(
    case: tuple[dict[str, Any], Decision | None, int, str],
) -> None:
    asks, decision, heard, words = case
    life = at(0, asks, decision, heard=heard)
    assert life.state.phase is RolloutPhase.PROGRESSING
    assert ", then until " in life.state.message
    assert life.after(60).phase is RolloutPhase.HOLDING
    assert words in life.state.message
    assert life.after(86400).step == 0
    life.decision = PROMOTE
    hear(life, 100)
    assert (life.settle().step, life.state.weight) == (1, 50)
    assert life.state.analysis.heard == 0, "each step counts its own"


@pytest.mark.parametrize(("asks", "decision"), [(FEW, CONTINUE), (PROOF, PROMOTE), (BOTH, PROMOTE), ({}, CONTINUE)])
def test_no_other_step_waits_for_what_this_one_asked(asks: dict[str, Any], decision: Decision) -> None:
    life = at(0, asks, decision, heard=100)
    assert life.after(60).step == 1
    life.decision = HOLD
    assert life.after(60).phase is RolloutPhase.HOLDING, "the last one's proof is asked for as ever"
    life.decision = PROMOTE
    life.settle()
    assert life.state.phase is RolloutPhase.PROMOTING


@pytest.mark.parametrize("asks", [FEW, PROOF, BOTH])
def test_who_approves_is_told_what_is_not_known_and_passes_it_in_an_early_step(asks: dict[str, Any]) -> None:
    life = at(0, asks, HOLD, approval=True)
    assert life.after(60).phase is RolloutPhase.AWAITING_APPROVAL
    assert ("0 of 100" if "minSamples" in asks else "told Hold") in life.state.message
    life.look(Verb.APPROVE)
    assert life.settle().step == 1


@pytest.mark.parametrize("asks", [FEW, PROOF, {}])
def test_nobody_approves_in_place_of_what_the_last_step_asks_for(asks: dict[str, Any]) -> None:
    life = at(1, asks, HOLD, approval=True)
    life.after(60)
    life.look(Verb.APPROVE)
    assert life.settle().phase is RolloutPhase.HOLDING
    if asks == FEW:
        life.decision = PROMOTE
        assert life.settle().phase is RolloutPhase.HOLDING
        assert "0 of 100 requests" in life.state.message
        hear(life, 100)
    life.decision = PROMOTE
    assert life.settle().phase is RolloutPhase.PROMOTING


def test_a_skip_passes_what_one_step_asks_for_and_a_promotion_all() -> None:
    life = at(0, BOTH, HOLD)
    life.after(60)
    life.look(Verb.SKIP)
    assert life.settle().step == 1
    life.look(Verb.PROMOTE)
    assert life.settle().phase is RolloutPhase.PROMOTING


@pytest.mark.parametrize(("weights", "heard"), [((10, 50), 60), ((5, 10, 50), 60), ((10,), 60), ((20, 50), 0)], ids=str)
def test_what_was_heard_stays_with_the_weight_where_steps_are_edited(weights: tuple[int, ...], heard: int) -> None:
    life = at(0, FEW, heard=60)
    life.spec = rollout(steps=[{"weight": weight, "hold": "1m", "analysis": {"minSamples": 80}} for weight in weights])
    life.settle()
    assert life.after(60).phase is RolloutPhase.HOLDING
    assert f"{heard} of 80 requests" in life.state.message


@pytest.mark.parametrize(
    ("asks", "verdict", "held"),
    [
        ({}, Verdict.HOLD, True),
        (NAMED, Verdict.HOLD, True),
        (NAMED, Verdict.CONTINUE, False),
        (NOTHING_NAMED, Verdict.CONTINUE, False),
    ],
)
def test_queries_that_a_step_names_hold_it(asks: dict[str, Any], verdict: Verdict, held: bool) -> None:
    """What a query says where the step does not name it is the matter of test_queries.py."""
    life = at(0, asks, asked(verdict), analysis=QUERIED)
    life.after(60)
    assert (life.state.step, life.state.phase is RolloutPhase.HOLDING) == (0 if held else 1, held)


def test_a_step_that_names_no_query_does_not_wait_until_they_are_asked() -> None:
    life = at(0, NOTHING_NAMED, CONTINUE, analysis=QUERIED)
    assert life.after(60).step == 1
    assert life.after(60).phase is RolloutPhase.HOLDING, "the last names them all"
    assert "have not been asked yet" in life.state.message


def asking(**asks: Any) -> Canary:
    """A canary in the miniature whose first step, of a minute, asks for this."""
    planned = [{"weight": 10, "hold": "1m", "analysis": asks}, {"weight": 50, "hold": "1m"}]
    cluster = Canary(steps=planned)
    cluster.push(7)
    cluster.settle()
    return cluster


def heard(cluster: Canary) -> int:
    """Requests of the canary in whole minutes that began at its weight, by those who sent them."""
    state = cluster.status["rollout"]
    since, now = datetime.fromisoformat(state["since"]).timestamp(), cluster.now.timestamp()
    minutes = cluster.minutes.get(state["canary"], [])
    return sum(minute.requests for minute in minutes if since <= minute.start <= now - 63)


def test_what_is_heard_at_a_weight_is_counted_in_whole_minutes_each_once() -> None:
    """The canary's 100 a minute; every pass is that of an operator that has just begun."""
    cluster, counts = asking(minSamples=250), []
    while cluster.status["rollout"]["step"] == 0:
        counts.append(heard(cluster))
        assert cluster.status["rollout"]["analysis"]["heard"] == counts[-1]
        cluster.minute()
    assert max(counts) < 250 <= max(counts) + 100
    assert len(counts) > 3
    told = [message for reason, message in cluster.story if reason == "RolloutStep"]
    assert told[0].endswith(" for 1m, then until 250 requests have been heard")
    assert told[1].endswith(" for 1m")


def test_the_whole_proof_may_be_asked_for_before_more_users_have_it() -> None:
    cluster = asking(proven=True)
    new, seen = cluster.status["rollout"]["canary"], []
    for _ in range(30):
        if "rollout" not in cluster.status:
            break
        decision = cluster.status["rollout"].get("decision") or {}
        seen.append((cluster.shares[new], decision.get("verdict")))
        cluster.minute(300)
    assert (100, "Hold") in seen, "too few to prove anything"
    assert seen.index((100, "Hold")) < seen.index((500, "Continue")), "the next step is as it ever was"
    assert (cluster.status["currentRevision"], cluster.status["rollouts"][0]["outcome"]) == (new, "Promoted")


def test_a_worse_canary_is_given_up_whatever_its_step_waits_for() -> None:
    cluster = asking(minSamples=1000000, proven=True)
    cluster.failing.add(cluster.status["rollout"]["canary"])
    for _ in range(4):
        cluster.minute()
    assert cluster.status["rollout"]["phase"] == "Aborted"


def test_requests_of_our_own_count_where_a_step_asks_for_some_and_users_send_few() -> None:
    """Nothing speaks against the canary, so only the step's own number is missing."""
    planned = [{"weight": 10, "hold": "1m", "analysis": {"minSamples": 200}}, {"weight": 50, "hold": "1m"}]
    cluster = Canary(steps=planned, analysis={**OFF, "probes": {"perMinute": 60}})
    new = cluster.push(7)
    cluster.settle()
    for _ in range(4):
        cluster.minute(requests=100)
    assert (cluster.status["rollout"]["phase"], jobs(cluster)) == ("Holding", [f"chat-{new}-traffic"])
    before = cluster.status["rollout"]["analysis"]["heard"]
    start = int(cluster.now.timestamp()) // 60 * 60
    minutes = [{"start": start - 60 * back, "requests": 60, "errors": 0} for back in (3, 2, 1)]
    counts = TrafficResult.model_validate({"stable": minutes, "canary": minutes})
    measured(cluster, f"chat-{new}-traffic", ProbeResult(canary=new, traffic=counts))
    assert before < 200 <= before + 180
    assert (cluster.status["rollout"]["step"], jobs(cluster)) == (1, [])


class Answering(Canary):
    """A Prometheus besides: of each series the value."""

    values: ClassVar = {"slow": 0.0, "refusals": 9.0}

    @property
    def observed(self) -> Observed:
        at = self.now.timestamp()
        answers = (Answer(name, self.now, (value,), at) for name, value in self.values.items())
        return dataclasses.replace(super().observed, answers=tuple(answers))


def test_a_query_beyond_its_bound_holds_the_steps_that_wait_for_it() -> None:
    queries = [{"name": name, "query": name, "max": 1, "failures": 100} for name in Answering.values]
    planned = [{"weight": 10, "hold": "1m", "analysis": {"queries": ["slow"]}}, {"weight": 50, "hold": "1m"}]
    cluster = Answering(steps=planned, analysis={**OFF, "prometheus": {"url": "http://p", "queries": queries}})
    cluster.push(7)
    cluster.settle()
    for _ in range(10):
        cluster.minute()
    rollout = cluster.status["rollout"]
    assert (rollout["step"], rollout["phase"]) == (1, "Holding")
    assert "query refusals: 9 is above 1" in rollout["message"]
    assert [query["verdict"] for query in rollout["decision"]["queries"]] == ["Continue", "Hold"]


@pytest.mark.parametrize(
    ("asks", "analysis", "words"),
    [
        (NAMED, {}, r"steps\[\].analysis.queries must be names of .*: not so steps\[0\], wrong"),
        (NOTHING_NAMED, {}, r"not so steps\[0\], for there are none"),
        ({"queries": ["wrong", "other", "more"]}, QUERIED, r"not so steps\[0\], other, more"),
        (FEW, {gate: {"enabled": False} for gate in ("errors", "firstToken", "perToken")}, "need a metric that is"),
        (PROOF, {gate: {"enabled": False} for gate in ("errors", "firstToken", "perToken")}, "need a metric that is"),
        ({"minSamples": 0}, {}, "greater than or equal to 1"),
        ({"minSamples": 1000001}, {}, "less than or equal to 1000000"),
        ({"queries": ["wrong"] * 11}, QUERIED, "at most 10 items"),
    ],
)
def test_what_would_do_nothing_is_refused(asks: dict[str, Any], analysis: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Rollout.model_validate({"steps": [{"weight": 10, "analysis": asks}], "analysis": analysis})
