"""Canaries through the whole planner, against the cluster in miniature: what is routed, what runs, what is told."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pilotboat.api.analysis import Decision, Verdict
from pilotboat.api.crd import MODEL_DEPLOYMENT
from pilotboat.api.routing import Evidence, Minute, Route
from pilotboat.plan import spares
from pilotboat.plan.build import dig
from pilotboat.plan.canary.words import recorded
from pilotboat.plan.types import Observed
from unit.plan.cluster import Cluster
from unit.plan.world import check_schema, condition, types

STEPS = [{"weight": 10, "hold": "1m"}, {"weight": 50, "hold": "10m"}]


class Canary(Cluster):
    """The miniature with a gateway that sees requests."""

    def __init__(self, replicas: int = 4, room: int = 99, **rollout: Any) -> None:
        super().__init__(replicas, room)
        self.minutes = dict[str, list[Minute]]()
        self.posts = dict[str, dict[str, int]]()
        self.failing: set[str] = set()
        self.probes: list[dict[str, Any]] = []
        """Pods of probes, as raw objects."""
        self.last_heard: tuple[Evidence, datetime] | None = None
        """What gateways answered when, where none has answered since."""
        self.edit(
            rollout={"steps": STEPS, "analysis": {"firstToken": {"enabled": False}, "perToken": {"enabled": False}}}
            | rollout
        )
        assert self.settle()
        self.first = self.status["currentRevision"]

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.parent["status"]
        return found

    @property
    def heard(self) -> tuple[Evidence, datetime]:
        """What the gateway answers, and when."""
        counted = {revision: list(minutes) for revision, minutes in self.minutes.items()}
        seen = Evidence(gateway="one", now=self.now.timestamp(), minutes=counted, feedback=self.posts)
        return seen, self.now

    @property
    def observed(self) -> Observed:
        seen, at = self.last_heard or self.heard
        found = super().observed
        pods = (*found.pods, *self.probes)
        return dataclasses.replace(found, pods=pods, evidence=(seen,), evidence_at=(at,))

    @property
    def shares(self) -> dict[str, int]:
        """What the gateway is told, per mille."""
        raw = next(raw for ref, raw in self.objects.items() if ref.name == "chat-route")
        return {lane.revision: lane.share for lane in Route.load(raw["data"]["route.json"]).lanes if lane.share}

    @property
    def story(self) -> list[tuple[str, str]]:
        """Events of rollouts, in order."""
        told = [(event.reason, event.message) for event in self.events]
        return [each for each in told if each[0].startswith("Rollout") or each[0] == "CanaryRolledBack"]

    @property
    def holds(self) -> list[str]:
        """Events of holds, in order."""
        return [event.message for event in self.events if event.reason == "CanaryHolding"]

    @property
    def replicas(self) -> dict[str, int]:
        return {
            d["metadata"]["name"].removeprefix("chat-"): n for d in self.deployments if (n := d["spec"]["replicas"])
        }

    def push(self, size: int) -> str:
        self.edit(inference={"batchSize": size})
        return str((self.plan().status or {})["updateRevision"])

    def minute(self, requests: int = 1000) -> None:
        """A minute of traffic, split as the gateway is told."""
        start = int(self.now.timestamp()) // 60 * 60
        for revision, share in self.shares.items():
            count = requests * share // 1000
            errors = count // 2 if revision in self.failing else count // 100
            self.minutes.setdefault(revision, []).append(Minute(start=start, requests=count, errors=errors))
        self.now += timedelta(seconds=65)
        self.settle()


def test_a_healthy_canary_is_walked_up_and_promoted() -> None:
    cluster = Canary()
    new = cluster.push(7)
    cluster.settle()
    assert cluster.shares == {new: 100, cluster.first: 900}
    assert condition(cluster.status, "Ready")["reason"] == "RollingOut"
    assert "step 1 of 2, 10 % of the traffic" in condition(cluster.status, "Ready")["message"]
    seen = set()
    for _ in range(30):
        seen.add(cluster.shares.get(new))
        cluster.minute()
        if "rollout" not in cluster.status:
            break
    assert seen == {100, 500}
    assert cluster.shares == {new: 1000}
    assert cluster.status["currentRevision"] == new
    assert cluster.replicas == {new: 4}
    assert types(cluster.status)["Ready"] == "True"
    (record,) = cluster.status["rollouts"]
    assert (record["outcome"], record["revision"], record["stable"]) == ("Promoted", new, cluster.first)
    assert (record["decision"]["verdict"], record["decision"]["why"]) == ("Promote", "AsGood")
    assert record["message"] == record["decision"]["message"] == "the canary is as good as stable in every metric"


def test_a_failing_canary_is_given_up_and_the_fix_begins_anew() -> None:
    cluster = Canary()
    bad = cluster.push(7)
    cluster.failing.add(bad)
    cluster.settle()
    for _ in range(5):
        cluster.minute()
    assert cluster.status["rollout"]["phase"] == "Aborted"
    assert cluster.shares == {cluster.first: 1000}
    assert cluster.replicas == {cluster.first: 4}
    assert condition(cluster.status, "Ready")["reason"] == "CanaryRolledBack"
    assert types(cluster.status)["Available"] == "True"
    assert "CanaryRolledBack" in [event.reason for event in cluster.events]
    fixed = cluster.push(8)
    cluster.settle()
    assert cluster.shares == {fixed: 100, cluster.first: 900}


def test_the_events_tell_a_promotion_in_order_and_once() -> None:
    cluster = Canary()
    new = cluster.push(7)
    cluster.settle()
    while "rollout" in cluster.status:
        cluster.minute()
    assert cluster.story == [
        ("RolloutStarted", f"revision {new} is a canary beside {cluster.first}: 10, 50 % of the traffic, then all"),
        ("RolloutStep", f"step 1 of 2: revision {new} has 10 % of the traffic, for 1m"),
        ("RolloutStep", f"step 2 of 2: revision {new} has 50 % of the traffic, for 10m"),
        ("RolloutPromoted", f"revision {new} has all the traffic; {recorded(decided(cluster))}"),
    ]
    (metric,) = decided(cluster).metrics
    assert metric.likelihood is not None
    assert metric.likelihood <= metric.promote_at
    for figure in (
        f"n {metric.canary}",
        f"likelihood {metric.likelihood:g} of {metric.promote_at:g}",
        "errors Promote",
    ):
        assert figure in cluster.story[-1][1]


def test_what_decided_stays_of_the_last_canary_alone() -> None:
    cluster = Canary()
    bad = cluster.push(7)
    cluster.failing.add(bad)
    cluster.settle()
    while cluster.status["rollout"]["phase"] != "Aborted":
        cluster.minute()
    abort = decided(cluster)
    assert abort.verdict is Verdict.ABORT
    (told,) = (message for reason, message in cluster.story if reason == "CanaryRolledBack")
    assert told == f"{cluster.status['rollout']['message']}; {recorded(abort)}"
    cluster.push(8)
    cluster.settle()
    assert decided(cluster) == abort, "a canary under way takes nothing from the last one's record"
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "action": {"verb": "Promote", "id": "1"}})
    cluster.settle()
    forced, before = cluster.status["rollouts"]
    assert (forced["message"], "decision" in forced, "decision" in before) == ("promoted by request", True, False)
    assert cluster.story[-1][1].startswith(f"revision {forced['revision']} has all the traffic, by request; verdict ")
    check_schema(MODEL_DEPLOYMENT, cluster.status)


def test_a_canary_that_never_had_traffic_leaves_no_decision() -> None:
    cluster = Canary()
    cluster.push(7)
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "action": {"verb": "Abort", "id": "1"}})
    cluster.settle()
    (record,) = cluster.status["rollouts"]
    assert (record["weight"], "decision" in record) == (0, False)
    assert cluster.story[-1] == ("CanaryRolledBack", "aborted by request")


def test_the_first_hold_of_each_kind_is_told_with_its_figures() -> None:
    cluster = Canary(steps=[{"weight": 50, "hold": "1m"}])
    cluster.push(7)
    cluster.settle()
    for requests in (0, 0, 20, 20, 0, 0):
        cluster.minute(requests)
    assert cluster.status["rollout"]["held"] == ["NoData", "TooFewRequests"]
    holds = [each for each in cluster.holds if "; verdict " in each]
    assert [message.partition("; verdict ")[2].partition(" at ")[0] for message in holds] == [
        "Hold (NoData)",
        "Hold (TooFewRequests)",
    ]
    assert "errors Hold: n 10 beside 10, evidence 1 of 50, likelihood " in holds[1]


def test_what_gateways_said_long_ago_ends_no_step_until_they_are_heard_again() -> None:
    """The operator cannot reach them, and they serve on: what it heard last of a good canary stands still."""
    cluster = Canary(steps=[{"weight": 10, "hold": "4m"}, {"weight": 50, "hold": "10m"}])
    new = cluster.push(7)
    cluster.settle()
    cluster.minute()
    cluster.last_heard = cluster.heard
    for _ in range(5):
        cluster.minute()
    assert cluster.status["rollout"]["phase"] == "Holding"
    assert cluster.status["rollout"]["decision"]["why"] == "StaleData"
    assert cluster.shares == {new: 100, cluster.first: 900}
    cluster.last_heard = None
    cluster.settle()
    assert cluster.shares == {new: 500, cluster.first: 500}, "the gateways counted on meanwhile"


def decided(cluster: Canary) -> Decision:
    """What stands in the record of the canary that was over last."""
    return Decision.model_validate(cluster.status["rollouts"][0]["decision"])


def test_the_events_tell_what_was_given_up_overtaken_and_tried_again() -> None:
    cluster = Canary()
    rollout = cluster.parent["spec"]["rollout"]
    bad = cluster.push(7)
    cluster.settle()
    cluster.edit(rollout={**rollout, "action": {"verb": "Abort", "id": "1"}})
    cluster.settle()
    cluster.edit(rollout={**rollout, "action": {"verb": "Retry", "id": "2"}})
    cluster.settle()
    cluster.push(8)
    cluster.settle()
    step = ["RolloutStarted", "RolloutStep"]
    told = [reason for reason, _ in cluster.story]
    assert told == [*step, "CanaryRolledBack", *step, "RolloutSuperseded", *step]
    assert ("RolloutSuperseded", f"canary {bad} is given up: another change came") in cluster.story


def test_an_a_b_test_lasts_until_somebody_decides_and_its_result_is_kept() -> None:
    cluster = Canary(steps=[{"weight": 50, "hold": "1m", "approval": True}])
    new = cluster.push(7)
    cluster.posts = {cluster.first: {"up": 900}}
    cluster.settle()
    for _ in range(5):
        for revision, up in ((cluster.first, 30), (new, 60)):
            known = cluster.posts.setdefault(revision, {})
            known["up"], known["down"] = known.get("up", 0) + up, known.get("down", 0) + 100 - up
        cluster.minute()
    assert cluster.status["rollout"]["phase"] == "AwaitingApproval"
    found = cluster.status["rollout"]["outcomes"]
    assert found["stable"]["posts"] == {"down": 350, "up": 150}, "what was posted before it began does not count"
    assert found["canary"]["posts"] == {"down": 200, "up": 300}
    assert found["stable"]["requests"] == found["canary"]["requests"] > 0
    assert [(e["outcome"], e["effect"], e["settled"]) for e in found["effects"]] == [
        ("down", -0.3, True),
        ("up", 0.3, True),
    ]
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "action": {"verb": "Promote", "id": "1"}})
    cluster.settle()
    (record,) = cluster.status["rollouts"]
    assert record["outcomes"]["canary"]["posts"] == {"down": 200, "up": 300}
    check_schema(MODEL_DEPLOYMENT, cluster.status)


def test_a_third_revision_takes_the_canarys_place() -> None:
    cluster = Canary()
    second = cluster.push(7)
    cluster.settle()
    third = cluster.push(8)
    cluster.carry_out(cluster.plan())
    assert cluster.shares == {cluster.first: 1000}
    cluster.settle()
    assert cluster.shares == {third: 100, cluster.first: 900}
    assert second not in cluster.replicas
    assert cluster.status["rollouts"][0]["outcome"] == "Superseded"
    cluster.edit(inference={})
    cluster.settle()
    assert cluster.shares == {cluster.first: 1000}
    assert types(cluster.status)["Ready"] == "True"


def test_without_room_one_replica_is_lent_and_given_back() -> None:
    cluster = Canary(room=4)
    new = cluster.push(7)
    cluster.settle()
    assert cluster.replicas == {new: 1, cluster.first: 3}
    assert cluster.shares == {new: 100, cluster.first: 900}
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "action": {"verb": "Abort", "id": "1"}})
    cluster.settle()
    assert cluster.replicas == {cluster.first: 4}
    assert cluster.status["lastAction"] == "1"


def test_pods_that_are_kept_to_be_looked_at_take_no_place_of_stables() -> None:
    cluster = Canary(room=6, onFailure="Pause", steps=[{"weight": 50, "hold": "1h"}])
    new = cluster.push(7)
    cluster.settle()
    cluster.room = 5  # the place of the one that ended is taken
    assert cluster.replicas == {new: 2, cluster.first: 3}
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "action": {"verb": "Abort", "id": "1"}})
    cluster.settle()
    assert cluster.replicas == {new: 1, cluster.first: 4}
    assert sum(map(cluster.serves, cluster.pods)) == 5


def test_a_return_to_an_earlier_revision_takes_no_steps() -> None:
    cluster = Canary()
    cluster.push(7)
    cluster.settle()
    rollout = cluster.parent["spec"]["rollout"]
    cluster.edit(rollout={**rollout, "action": {"verb": "Promote", "id": "1"}})
    cluster.settle()
    second = cluster.status["currentRevision"]
    assert cluster.status["revisions"] == [cluster.first, second]
    cluster.edit(rollout={**rollout, "rollbackTo": cluster.first})
    cluster.settle()
    assert (cluster.replicas, cluster.status["currentRevision"]) == ({cluster.first: 4}, cluster.first)
    assert types(cluster.status)["Ready"] == "True"
    cluster.edit(rollout={**rollout, "rollbackTo": "0" * 8})
    cluster.settle()
    assert condition(cluster.status, "Ready")["reason"] == "RevisionNotFound"
    assert cluster.replicas == {cluster.first: 4}


def test_a_stable_revision_that_serves_nothing_does_not_block_its_fix() -> None:
    cluster = Canary()
    cluster.broken.add(cluster.first)
    for name in list(cluster.pods):
        cluster.unready(name)
    fixed = cluster.push(7)
    assert cluster.settle()
    assert cluster.status["currentRevision"] == fixed


def test_only_the_canarys_own_requests_speak_against_it() -> None:
    """Analysis that reads stable for the canary would give it up here."""
    cluster = Canary()
    new = cluster.push(7)
    cluster.failing.add(cluster.first)
    cluster.settle()
    for _ in range(5):
        cluster.minute()
    assert cluster.status["rollout"]["phase"] != "Aborted"
    assert cluster.shares[new] >= 100


@pytest.mark.parametrize("verb", ["Approve", "Skip", "Promote", "Abort", "Retry"])
def test_a_verb_without_a_rollout_does_nothing(verb: str) -> None:
    cluster = Canary()
    before = dict(cluster.replicas)
    cluster.edit(rollout={"steps": STEPS, "action": {"verb": verb, "id": "1"}})
    cluster.settle()
    assert (cluster.replicas, cluster.shares) == (before, {cluster.first: 1000})


def test_what_was_asked_once_is_not_done_again_when_git_puts_it_back() -> None:
    cluster = Canary(steps=[{"weight": 10, "hold": "1h"}])
    git = {**cluster.parent["spec"]["rollout"], "action": {"verb": "Promote", "id": "release-1"}}
    cluster.edit(rollout=git)
    cluster.settle()
    new = cluster.push(7)
    cluster.settle()
    for number in range(20):
        cluster.edit(rollout={**git, "action": {"verb": "Approve", "id": f"cli-{number}"}})
        cluster.settle()
        cluster.edit(rollout=git)
        cluster.settle()
        assert cluster.shares == {new: 100, cluster.first: 900}
    assert cluster.status["actions"][:3] == ["release-1", "cli-19", "cli-18"]
    assert (len(cluster.status["actions"]), cluster.status["lastAction"]) == (10, "release-1")


def test_an_action_of_an_operator_that_remembered_the_last_alone_is_not_done_again() -> None:
    cluster = Canary()
    cluster.push(7)
    cluster.settle()
    cluster.parent["status"] |= {"lastAction": "old"}
    cluster.parent["status"].pop("actions", None)
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "action": {"verb": "Promote", "id": "old"}})
    cluster.settle()
    assert cluster.status["rollout"]["phase"] == "Progressing"


def test_the_way_of_requests_is_written_before_replicas_as_long_as_they_rest_on_it() -> None:
    cluster = Canary()
    cluster.push(7)
    cluster.settle()
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "action": {"verb": "Promote", "id": "1"}})
    while cluster.replicas.get(cluster.first):
        plan = cluster.plan()
        assert "Deployment" not in [manifest["kind"] for manifest in plan.apply]
        assert "chat-route" in [manifest["metadata"]["name"] for manifest in plan.apply]
        cluster.follow()
        cluster.carry_out(cluster.plan())
    assert "rollout" not in cluster.status


class Life(RuleBasedStateMachine):
    """Anything at any time: the traffic is always whole, and given only to who can carry it."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Canary(replicas=3, room=4)

    @rule(size=st.sampled_from([1, 2, 3]))
    def pushed(self, size: int) -> None:
        self.cluster.push(size)

    @rule(replicas=st.integers(0, 4))
    def scaled(self, replicas: int) -> None:
        self.cluster.edit(replicas=replicas)

    @rule(spare=st.integers(0, 2))
    def has_spares(self, spare: int) -> None:
        self.cluster.edit(zones={"spare": spare})

    @rule(verb=st.sampled_from(["Approve", "Skip", "Promote", "Abort", "Retry"]), number=st.integers(0, 99))
    def asked(self, verb: str, number: int) -> None:
        rollout = self.cluster.parent["spec"]["rollout"]
        self.cluster.edit(rollout={**rollout, "action": {"verb": verb, "id": str(number)}})

    @rule(requests=st.sampled_from([0, 1000]), fails=st.booleans())
    def a_minute(self, requests: int, fails: bool) -> None:
        if fails:
            self.cluster.failing |= set(self.cluster.shares) - {self.cluster.status.get("currentRevision")}
        if any(self.cluster.shares):
            self.cluster.minute(requests)

    @rule(rounds=st.integers(1, 4))
    def time(self, rounds: int) -> None:
        for _ in range(rounds):
            self.cluster.follow()
            self.cluster.carry_out(self.cluster.plan())

    @rule(which=st.integers(0, 99))
    def a_pod_dies(self, which: int) -> None:
        if names := sorted(self.cluster.pods):
            self.cluster.kill(names[which % len(names)])

    @invariant()
    def status_is_what_the_api_server_takes(self) -> None:
        status = self.cluster.plan().status
        assert status is not None
        check_schema(MODEL_DEPLOYMENT, json.loads(json.dumps(status)))
        weight = dig(status, "rollout", "weight")
        assert weight is None or 0 <= weight < 100

    def teardown(self) -> None:
        """In the end a good revision that somebody promotes is rolled out whole, but for spares without a place."""
        self.cluster.failing.clear()
        self.cluster.edit(replicas=3)
        self.cluster.settle()
        self.cluster.push(9)
        self.cluster.settle()
        rollout = self.cluster.parent["spec"]["rollout"]
        self.cluster.edit(rollout={**rollout, "action": {"verb": "Promote", "id": "end"}})
        for _ in range(4):
            self.cluster.now += timedelta(seconds=spares.PATIENCE)
            assert self.cluster.settle()
        spare = self.cluster.parent["spec"].get("zones", {}).get("spare", 0)
        told = condition(self.cluster.status, "Ready")
        assert told["reason"] == ("RolledOut" if spare <= 1 else "SparesPending"), self.cluster.status
        assert self.cluster.replicas == {self.cluster.status["currentRevision"]: 3 + spare}


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
