"""The ModelDeployment planner in stories of forty actions: edits, faults, refusals and clocks, in any order.

What test_convergence.py and test_course.py look at closely, in a small world, is here one of many things at once. Each
seed is a test of its own. `HYPOTHESIS_PROFILE=thorough` tells four hundred other stories.
"""

from __future__ import annotations

import dataclasses
import os
import random
from datetime import timedelta

import pytest

from pilotboat.api import labels
from pilotboat.api.crd import MODEL_DEPLOYMENT
from pilotboat.api.model_deployment import ModelDeploymentSpec
from pilotboat.api.reasons import Reason
from pilotboat.api.routing import WHOLE
from pilotboat.plan.build import dig
from pilotboat.plan.types import Observed, Plan, Ref
from unit.plan.stories import Story
from unit.plan.surroundings import Surroundings, lanes_of
from unit.plan.world import Raw, check_schema, types

SEEDS = (*range(22), 92, 131, 192, 227, 269, 337, 350, 1002, 1009, 1114)
"""Chosen so that each of these, taken back, is found: what leaves the gateway is told until its route is gone (3, 10,
16, 17); none are told of seeds that never come (92, 131); a canary waits for stable's replicas (192, 350), and hears
nothing that is asked of another (1002, 1009, 1114). Who changes the actions or their weights has other stories, and
chooses anew."""
OTHERS = range(1000, 1400)
REASONS = frozenset(map(str, Reason))
PASSES, SECONDS, EVENTS = 40, 120, 25
"""At the end so many passes, so many seconds apart, may have so many events: rollouts still go on, and end."""


def status_of(plan: Plan) -> Raw:
    assert plan.status is not None
    return plan.status


def scaled(plan: Plan) -> dict[str, int]:
    """Deployment to the replicas that the plan gives it."""
    manifests = [manifest for manifest in (*plan.apply, *plan.after) if manifest["kind"] == "Deployment"]
    return {manifest["metadata"]["name"]: manifest["spec"]["replicas"] for manifest in manifests}


def status_is_what_the_api_server_takes(_: Surroundings, __: Observed, plan: Plan) -> None:
    check_schema(MODEL_DEPLOYMENT, status_of(plan))


def status_speaks_of_this_generation(world: Surroundings, _: Observed, plan: Plan) -> None:
    status = status_of(plan)
    told = {each["observedGeneration"] for each in (status, *status["conditions"])}
    assert told == {world.parent["metadata"]["generation"]}


def what_is_not_so_is_said_why(_: Surroundings, __: Observed, plan: Plan) -> None:
    """Reasons are of those that are documented, and each False has words."""
    for condition in status_of(plan)["conditions"]:
        assert condition["reason"] in REASONS
        assert condition["message"] or condition["status"] != "False"


def ready_means_that_all_serve(world: Surroundings, _: Observed, plan: Plan) -> None:
    """Of a spec that is valid, with nothing under way. While nodes are silent their replicas may count a while."""
    status = status_of(plan)
    if types(status)["Ready"] != "True":
        return
    spec = ModelDeploymentSpec.model_validate(world.parent["spec"])
    serving = [name for name in world.pods if world.serves(name)]
    assert len(serving) >= spec.wanted or world.silent
    assert types(status)["Progressing"] != "True"
    assert not status.get("rollout")


def what_is_applied_is_not_deleted(_: Surroundings, __: Observed, plan: Plan) -> None:
    applied = {Ref.of(manifest) for manifest in (*plan.apply, *plan.after)}
    assert not [ref for ref in plan.delete if ref in applied and ref.kind != "Deployment"]


def only_what_is_there_is_deleted(world: Surroundings, _: Observed, plan: Plan) -> None:
    assert set(plan.delete) <= set(world.objects)


def what_serves_keeps_what_it_has(world: Surroundings, _: Observed, plan: Plan) -> None:
    """No Deployment goes before its replicas, and no ConfigMap before the pods that read it."""
    serving = {world.revision_of(name) for name in world.pods if world.serves(name)}
    for ref in plan.delete:
        assert ref.kind not in ("Deployment", "ConfigMap") or ref.name.removeprefix("chat-") not in serving
        assert ref.kind != "Deployment" or not world.objects[ref]["spec"]["replicas"]


def seeds_stay_with_replicas(world: Surroundings, _: Observed, plan: Plan) -> None:
    """Where a model is cached on nodes, a revision's seed is there as long as its replicas."""
    cache = dig(world.parent, "spec", "model", "cache") or {}
    if cache.get("type") != "Node" or cache.get("seed") is False:
        return
    replicas = {raw["metadata"]["name"]: raw["spec"]["replicas"] for raw in world.deployments} | scaled(plan)
    for ref in plan.delete:
        owner = "-".join(ref.name.split("-")[:2])
        assert ref.kind != "DaemonSet" or not replicas.get(owner)


def every_request_has_a_lane(_: Surroundings, __: Observed, plan: Plan) -> None:
    """In whatever the gateway is given, the shares make a whole."""
    manifests = (*plan.apply, *plan.after)
    if any(manifest["metadata"]["name"] == "chat-route" for manifest in manifests):
        assert sum(lanes_of(manifests).values()) == WHOLE


def order_does_not_matter(world: Surroundings, observed: Observed, plan: Plan) -> None:
    """What is seen in another order is said in the same words, and done alike. Only which of several replicas that were
    lost at once is named first goes by the order of the pods, and the engine sorts them."""
    mixed = random.Random(3)
    children, pods = list(observed.children), list(observed.pods)
    mixed.shuffle(children)
    mixed.shuffle(pods)
    other = world.plan(dataclasses.replace(observed, children=tuple(children), pods=tuple(pods)))
    assert status_of(other) | {"recovery": None} == status_of(plan) | {"recovery": None}
    assert sorted(map(str, other.apply)) == sorted(map(str, plan.apply))
    assert set(other.delete) == set(plan.delete)


def no_step_takes_what_serves_and_is_needed(world: Surroundings, observed: Observed, plan: Plan) -> None:
    """Save one that a canary borrows. A canary that was given up goes at once, as does what has no share of the
    requests; from nodes that are out of order replicas are moved; where a controller has not counted yet, its word can
    only be older than the pods; and of what is planned again after a refusal only the status is used."""
    want, rollout = world.parent["spec"]["replicas"], status_of(plan).get("rollout") or {}
    if world.sick or observed.rejected or rollout.get("phase") == "Aborted":
        return
    if not all(counted(world, deployment) for deployment in world.deployments):
        return
    before, after, unused = 0, 0, without_requests(world, plan)
    for deployment in world.deployments:
        if deployment["metadata"]["labels"][labels.REVISION] not in unused:
            ready, replicas = dig(deployment, "status", "availableReplicas") or 0, deployment["spec"]["replicas"]
            before += ready
            after += min(ready, scaled(plan).get(deployment["metadata"]["name"], replicas))
    assert after >= min(want - borrowed(world, plan), before)


def without_requests(world: Surroundings, plan: Plan) -> set[str]:
    """Revisions that have no share of the gateway's requests, and are given none."""
    if world.parent["spec"].get("traffic", "Gateway") != "Gateway":
        return set()
    given = lanes_of((*plan.apply, *plan.after))
    return {revision for revision, share in world.lanes.items() if not (share or given.get(revision))}


def borrowed(world: Surroundings, plan: Plan) -> bool:
    """Whether a canary has one replica of stable's place; one that ends in this pass may have it without a word."""
    known, told = dig(world.parent, "status", "rollout"), status_of(plan).get("rollout")
    return bool(told["borrowing"] if told else known)


def counted(world: Surroundings, deployment: Raw) -> bool:
    """Whether its controller has seen the newest spec, and the pods as they are."""
    ready = min(sum(map(world.serves, world.pods_of(deployment))), deployment["spec"]["replicas"])
    seen = bool(dig(deployment, "status", "observedGeneration") == deployment["metadata"]["generation"])
    return seen and bool(ready == (dig(deployment, "status", "availableReplicas") or 0))


def what_is_asked_of_another_is_not_done(world: Surroundings, _: Observed, plan: Plan) -> None:
    """Neither Promote nor Abort, and nothing is said to be ignored that was not."""
    asked, told = dig(world.parent, "spec", "rollout", "action") or {}, status_of(plan).get("rollout") or {}
    before = dig(world.parent, "status", "rollout") or {}
    begun = (told.get("canary"), told.get("started")) != (before.get("canary"), before.get("started"))
    for verb, field, value in (("Promote", "forced", True), ("Abort", "message", "aborted by request")):
        if told.get(field) == value and (begun or before.get(field) != value):
            assert (asked["verb"], asked.get("revision", told["canary"])) == (verb, told["canary"])
    if any(event.reason == Reason.ACTION_IGNORED for event in plan.events):
        assert asked["id"] in status_of(plan)["actions"]
        assert asked["revision"] != told.get("canary") or told["phase"] == "Draining"


INVARIANTS = (
    status_is_what_the_api_server_takes,
    status_speaks_of_this_generation,
    what_is_not_so_is_said_why,
    ready_means_that_all_serve,
    what_is_applied_is_not_deleted,
    only_what_is_there_is_deleted,
    what_serves_keeps_what_it_has,
    seeds_stay_with_replicas,
    what_is_asked_of_another_is_not_done,
    every_request_has_a_lane,
    order_does_not_matter,
    no_step_takes_what_serves_and_is_needed,
)


def judge(world: Surroundings, observed: Observed, plan: Plan) -> None:
    """All that holds of every plan."""
    for invariant in INVARIANTS:
        invariant(world, observed, plan)


def it_ends_at_rest(world: Surroundings) -> None:
    """Whatever is broken still, only nothing is refused: no pass writes anything any more. As time goes by rollouts
    end, of which little is told, and then nothing."""
    world.refused.clear()
    assert world.settles(), [(c["type"], c["status"], c["reason"]) for c in world.parent["status"]["conditions"]]
    told = len(world.events)
    wait(world, PASSES)
    assert len(world.events[told:]) <= EVENTS
    told = len(world.events)
    wait(world, PASSES // 4)
    assert not world.events[told:]
    who_is_ready_has_its_seeds(world)


def who_is_ready_has_its_seeds(world: Surroundings) -> None:
    """None are told of that never come: where no replica is wanted they may wait for the first, and only there."""
    says = types(world.parent["status"])
    if says["Ready"] == "True" and world.parent["spec"]["replicas"]:
        assert says.get("CacheSeeded", "True") == "True"


def wait(world: Surroundings, passes: int) -> None:
    for _ in range(passes):
        world.now += timedelta(seconds=SECONDS)
        world.follow()
        world.a_pass()


@pytest.mark.parametrize("seed", OTHERS if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else SEEDS)
def test_what_is_planned_is_right_at_every_pass_and_comes_to_rest(seed: int) -> None:
    Story(seed, judge).tell(it_ends_at_rest)
