"""What may happen to a ModelDeployment: users, others who write, faults, clocks; each by chance, and said in a word.

Owns: the actions. Must not know: when each is taken, and what must hold meanwhile.
"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from pilotboat.api import labels
from pilotboat.plan.build import dig
from unit.plan.surroundings import CLAIM, EDGE, JOB, ZONES, Surroundings
from unit.plan.world import Raw

HUB = {"huggingFace": {"repo": "demo/tiny"}}
ON_NODES = {"type": "Node", "path": "/var/models"}
MODELS: list[Raw] = [
    {"source": HUB},
    {"source": HUB, "cache": ON_NODES},
    {"source": HUB, "cache": ON_NODES | {"seed": False}},
    {"source": HUB, "cache": {"type": "PersistentVolumeClaim", "claimName": CLAIM}},
    {"source": {"fineTuneJob": {"name": JOB}}, "cache": ON_NODES},
    {"source": {"pvc": {"claimName": CLAIM}}},
]
STEPS: list[list[Raw]] = [
    [{"weight": 10, "hold": "1m"}, {"weight": 50, "hold": "1m"}],
    [{"weight": 100, "hold": "1m"}],
    [{"weight": 25, "hold": "1m", "approval": True}],
]
NO_GATES: Raw = {gate: {"enabled": False} for gate in ("errors", "firstToken", "perToken")}
ASKS: Raw = {"minSamples": 50, "proven": True}
DIGEST = "0" * 64
NOTHING = ""
"""What is said of an action that has nothing to choose."""
TRAINED: Raw = {"claimName": CLAIM, "path": "qa/adapter", "digests": {"a.bin": DIGEST}} | {
    key: DIGEST for key in ("sha256", "filesSha256")
}

# What the user does. Each action gives what it chose, for the telling.


def push(world: Surroundings, chance: random.Random) -> object:
    size = chance.choice([1, 2, 3])
    world.edit(inference={"batchSize": size})
    return size


def edit_wrongly(world: Surroundings, _: random.Random) -> object:
    world.edit(inference={"batchSize": -1})
    return NOTHING


def scale(world: Surroundings, chance: random.Random) -> object:
    replicas = chance.choice([0, 1, 2, 3, 4, 5])
    world.edit(replicas=replicas)
    return replicas


def ask_for_spares(world: Surroundings, chance: random.Random) -> object:
    spare = chance.choice([0, 1, 2])
    world.edit(zones={"spare": spare})
    return spare


def change_model(world: Surroundings, chance: random.Random) -> object:
    model = chance.choice(MODELS)
    world.edit(model=model)
    return model


def change_traffic(world: Surroundings, chance: random.Random) -> object:
    traffic = chance.choice(["Gateway", "Direct", "HTTPRoute"])
    world.edit(traffic=traffic, routing={"gateway": EDGE} if traffic == "HTTPRoute" else {})
    return traffic


def ask_for_steps(world: Surroundings, chance: random.Random) -> object:
    """Steps, and some of what else a rollout may have."""
    rollout: Raw = {"steps": chance.choice(STEPS)}
    more: list[tuple[float, Raw]] = [
        (0.5, {"analysis": NO_GATES}),
        (0.3, {"surge": chance.choice(["Auto", "Always", "Never"])}),
        (0.3, {"onFailure": "Pause"}),
        (0.3, {"deadline": "5m"}),
        (0.2, {"analysis": {**NO_GATES, "quality": {"minEqual": 0.8}}}),
        (0.2, {"history": chance.choice([0, 1])}),
    ]
    for share, field in more:
        if chance.random() < share:
            rollout |= field
    if "analysis" not in rollout and len(rollout["steps"]) > 1:  # by what the gateway here counts, they can be had
        asking = [step | {"analysis": ASKS} for step in rollout["steps"]]
        rollout |= {"steps": asking, "analysis": NO_GATES | {"errors": {}}}
    world.edit(rollout=rollout)
    return rollout


def ask_for_no_steps(world: Surroundings, _: random.Random) -> object:
    world.edit(rollout={})
    return NOTHING


def _in_rollout(world: Surroundings, **changes: Any) -> None:
    rollout = {**world.parent["spec"].get("rollout", {}), **changes}
    world.edit(rollout={key: value for key, value in rollout.items() if value is not None})


def say(world: Surroundings, chance: random.Random) -> object:
    """Of whoever is the canary, of that one, of the newest, or of one that never was."""
    verb, number = chance.choice(["Approve", "Skip", "Promote", "Abort", "Retry"]), chance.randrange(10**8)
    named = [None, dig(world.parent, "status", "rollout", "canary"), dig(world.parent, "status", "updateRevision")]
    revision = (*named, "deadbeef")[number % 4]
    _in_rollout(world, action={"verb": verb, "id": str(number)} | ({"revision": revision} if revision else {}))
    return f"{verb} {revision or ''}"


def pause_or_go_on(world: Surroundings, _: random.Random) -> object:
    paused = not dig(world.parent, "spec", "rollout", "paused")
    _in_rollout(world, paused=paused)
    return paused


def go_back(world: Surroundings, chance: random.Random) -> object:
    """To a revision, also to one that never was; or no more."""
    revision = chance.choice([*(dig(world.parent, "status", "revisions") or []), "deadbeef"])
    wanted = revision if chance.random() < 0.5 else None
    _in_rollout(world, rollbackTo=wanted)
    return wanted


def ask_for_devices(world: Surroundings, chance: random.Random) -> object:
    gpu = chance.choice([None, {"count": 1}])
    world.edit(gpu=gpu)
    return gpu


# What others write.


def lose_status(world: Surroundings, chance: random.Random) -> object:
    """All of it, or one field."""
    status = world.parent.get("status") or {}
    if chance.random() < 0.2 or not status:
        world.parent.pop("status", None)
        return "all"
    field = chance.choice(sorted(status))
    del status[field]
    return field


def write_a_condition(world: Surroundings, _: random.Random) -> object:
    told = {"type": "Foreign", "status": "True", "reason": "Any", "message": "", "lastTransitionTime": world.time}
    world.parent.setdefault("status", {}).setdefault("conditions", []).append(told)
    return NOTHING


def delete_a_child(world: Surroundings, chance: random.Random) -> object:
    if not world.objects:
        return "none"
    ref = chance.choice(sorted(world.objects))
    world.lose(ref)
    return f"{ref.kind} {ref.name}"


def scale_a_child(world: Surroundings, chance: random.Random) -> object:
    if not world.deployments:
        return "none"
    deployment = chance.choice(world.deployments)
    deployment["spec"]["replicas"] = chance.choice([0, 1, 9])
    deployment["metadata"]["generation"] += 1
    return f"{deployment['metadata']['name']} {deployment['spec']['replicas']}"


def take_a_childs_label(world: Surroundings, chance: random.Random) -> object:
    children = [raw for ref, raw in sorted(world.objects.items()) if ref.kind != "Deployment"]
    if not children:
        return "none"
    child = chance.choice(children)
    child["metadata"]["labels"].pop(labels.REVISION, None)
    return f"{child['kind']} {child['metadata']['name']}"


def refuse_or_take(world: Surroundings, chance: random.Random) -> object:
    """Of Deployments none is refused: where all of them are over several edits, and then replicas go from 1 to 3, one
    that serves may be taken while it is needed. That is known and not mended; when it is, they belong here too."""
    return _turn(world.refused, chance.choice(["ConfigMap", "DaemonSet", "HTTPRoute", "Service"]))


# What breaks, and is well again.


def _turn(names: set[str], name: str) -> str:
    """In where it is out, out where it is in."""
    names ^= {name}
    return f"{name} {'yes' if name in names else 'no more'}"


def newest_breaks(world: Surroundings, _: random.Random) -> object:
    return _turn(world.broken, str(dig(world.parent, "status", "updateRevision")))


def newest_fails(world: Surroundings, _: random.Random) -> object:
    """It serves, and answers with errors."""
    return _turn(world.failing, str(dig(world.parent, "status", "updateRevision")))


def source_goes(world: Surroundings, chance: random.Random) -> object:
    return _turn(world.gone, chance.choice([CLAIM, JOB]))


def job_ends(world: Surroundings, chance: random.Random) -> object:
    """Or begins anew."""
    output = TRAINED | {"type": chance.choice(["Adapter", "Model"])}
    done = {"conditions": [{"type": "Complete", "status": "True"}], "output": output}
    world.job["status"] = chance.choice([{}, done])
    return bool(world.job["status"])


def node_goes_silent(world: Surroundings, chance: random.Random) -> object:
    return _turn(world.silent, chance.choice(sorted(ZONES)))


def node_goes(world: Surroundings, chance: random.Random) -> object:
    return _turn(world.gone, chance.choice(sorted(ZONES)))


def device_fails(world: Surroundings, chance: random.Random) -> object:
    return _turn(world.faulty, chance.choice(sorted(ZONES)))


def room_changes(world: Surroundings, chance: random.Random) -> object:
    world.room = chance.choice([3, 4, 5, 6, 99])
    return world.room


def gateway_fails(world: Surroundings, _: random.Random) -> object:
    world.gateway = not world.gateway
    return not world.gateway


def gateway_is_mute(world: Surroundings, _: random.Random) -> object:
    world.mute = not world.mute
    return world.mute


def route_is_taken(world: Surroundings, chance: random.Random) -> object:
    world.accepted = chance.choice([True, False, None])
    return world.accepted


def something_happens_to_a_pod(world: Surroundings, chance: random.Random) -> object:
    if not world.pods:
        return "none"
    what, name = chance.choice(["kill", "evict", "unready", "advance"]), chance.choice(sorted(world.pods))
    getattr(world, what)(name)
    return f"{what} {name}"


# How time goes by.


def clock_jumps(world: Surroundings, chance: random.Random) -> object:
    """Also back."""
    seconds = chance.choice([5, 60, 65, 130, 400, 2000, -300, 90000])
    world.now += timedelta(seconds=seconds)
    return seconds


def requests_come(world: Surroundings, _: random.Random) -> object:
    world.serve_a_minute()
    return NOTHING


def a_pass(world: Surroundings, _: random.Random) -> object:
    return world.a_pass()


def a_controller_acts(world: Surroundings, chance: random.Random) -> object:
    if world.deployments:
        world.control(chance.choice(world.deployments))
    return NOTHING


def all_follow(world: Surroundings, chance: random.Random) -> object:
    rounds = chance.randint(1, 6)
    for _ in range(rounds):
        world.follow()
        world.a_pass()
    return rounds
