"""Canaries on the lab: real pods, real gateways, traffic counted by those who call."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from lab import procs
from pilotboat.api import labels
from pilotboat.api.routing import AGENT_PORT
from tests.e2e.caller import Caller
from tests.e2e.conftest import MDEP, PATIENCE, Space, fake

pytestmark = pytest.mark.e2e

Make = Callable[..., dict[str, Any]]


def canary(steps: list[dict[str, Any]], tokens: int = 4, engine: dict[str, Any] | None = None, **more: Any) -> Any:
    """A spec whose revision is a matter of the fake engine's settings."""
    rollout = {"steps": steps, **more.pop("rollout", {})}
    made = {"type": "Fake", "fake": {"tokens": tokens, **(engine or {})}}
    return fake(**{"replicas": 2, "rollout": rollout, **more}) | {"engine": made}


def serve(space: Space, name: str, spec: dict[str, Any]) -> str:
    """Apply and wait until it is rolled out whole; its revision."""
    space.apply("ModelDeployment", name, spec)
    space.wait(MDEP, name, "Ready")
    return str(space.status(MDEP, name)["currentRevision"])


def until(space: Space, name: str, path: str, value: object, timeout: str = PATIENCE) -> None:
    """Until a field of status.rollout has that value."""
    try:
        space.cluster.run(
            "wait", f"{MDEP}/{name}", f"--for=jsonpath={{.status.rollout.{path}}}={value}", f"--timeout={timeout}"
        )
    except Exception as error:
        shown = json.dumps(space.status(MDEP, name), indent=1)
        raise AssertionError(f"{name}: rollout.{path} never was {value}:\n{shown}") from error


def act(space: Space, name: str, verb: str, token: str = "1") -> None:
    """Ask something of the rollout."""
    body = {"spec": {"rollout": {"action": {"verb": verb, "id": token}}}}
    space.cluster.run("patch", MDEP, name, "--type=merge", f"-p={json.dumps(body)}")


EXACT = 6
"""Any stretch of one gateway's requests is within three of its share, and there are two gateways."""
SHARED = 40
"""Of 1,000 requests: the gateways count everybody's, and others call too."""
MANUAL = {"hold": "5s", "approval": True}
"""Held for as long as gateways may need to hear of a share, so that what is counted then is exact."""


STREAM: dict[str, Any] = {"tokens": 100, "stream": True, "prompt": "fake:tokens=100 fake:delay=0.2"}
"""An answer that takes twenty seconds."""
USERS: dict[str, Any] = {"threads": 4, "pause": 0.2}
"""Twenty requests a second at most: a core that makes more of them leaves stable too slow to be compared with."""
PATIENT = {"sloMilliseconds": 30000}
"""A bound that both revisions keep, also where other tests beside them take the cores by turns: of stable's own, nine
of ten answers of a quiet minute, a canary in a busy one is rightly not known to be as good."""
LOAD = {"qps": 6, "duration": "20s", "maxFirstTokenMilliseconds": 60000, "maxTokens": 4}
"""Requests enough for a load gate, and few enough that a probe on a busy machine sends them when they are due."""
MEASURED_ANEW = "900s"
"""One that did not is begun again five minutes later."""
OPEN = "pilotboat_gateway_open_streams{"
CANARY = {"X-Canary": "always"}
"""Of a tester's request."""


def everything_from(caller: Caller, name: str, revision: str) -> None:
    """Until all requests get there: the last change of shares and what status says of it are written together."""
    what = f"Everything from {revision}"
    procs.wait_until(lambda: caller.ask(name, 100).by == {revision: 100}, what=what, timeout=60)


def test_traffic_is_split_exactly_and_no_request_is_lost(space: Space, caller: Caller) -> None:
    """Every step's share on 2,000 requests, with nobody else calling; streams of 20 seconds survive every change."""
    steps = [{"weight": 5, **MANUAL}, {"weight": 50, **MANUAL}]
    old = serve(space, "exact", canary(steps))
    with caller.load("exact", threads=1, **STREAM) as streams:
        space.apply("ModelDeployment", "exact", canary(steps, tokens=5))
        until(space, "exact", "phase", "AwaitingApproval")
        new = space.status(MDEP, "exact")["updateRevision"]
        assert caller.ask("exact", 2000).by == pytest.approx({old: 1900, new: 100}, abs=EXACT)
        act(space, "exact", "Approve", "1")
        until(space, "exact", "weight", 50)
        until(space, "exact", "phase", "AwaitingApproval")
        assert caller.ask("exact", 2000).by == pytest.approx({old: 1000, new: 1000}, abs=EXACT)
        act(space, "exact", "Promote", "2")
        space.wait(MDEP, "exact", "Ready")
        everything_from(caller, "exact", new)
    assert streams.failed == {}, streams.wrong
    assert streams.whole >= 1
    assert space.status(MDEP, "exact")["currentRevision"] == new


@pytest.mark.parametrize(
    ("engine", "words", "worse"),
    [
        ({"failRatio": 0.5}, "errors", {"errors"}),
        ({"exitAfter": 0}, "CrashLoopBackOff", set()),
        pytest.param({"exitAfter": 50}, "CrashLoopBackOff", set(), marks=pytest.mark.long),
        ({"first": 1, "delay": 0.5}, "worse than stable in the same minutes", {"firstToken", "perToken"}),
    ],
    ids=["half of the requests fail", "dies at its start", "dies at work", "slow to begin and to go on"],
)
def test_a_bad_canary_is_given_up_and_stable_keeps_everything(
    space: Space, caller: Caller, engine: dict[str, Any], words: str, worse: set[str]
) -> None:
    """Only that canary's own requests fail: what it answers with an error; and of those under way as a lane's only
    replica dies a few, whose tries are used up before the gateway calls it dead (docs/status.md)."""
    steps = [{"weight": 30, "hold": "10m"}]
    old = serve(space, "bad", canary(steps))
    space.apply("ModelDeployment", "bad", canary(steps, tokens=5, engine=engine))
    with caller.load("bad", **USERS) as load:
        until(space, "bad", "phase", "Aborted", "600s")
    status = space.status(MDEP, "bad")
    assert words in status["rollout"]["message"]
    assert worse <= {each["metric"] for each in seen(status) if each["canaryOver"] > each["canary"] / 3}
    if "exitAfter" in engine:
        assert sum(load.failed.values()) <= (10 if engine["exitAfter"] else 0), load.wrong
    else:
        assert set(load.failed) == ({"failed 500"} if "failRatio" in engine else set()), load.wrong
    assert (engine == {"exitAfter": 0}) == (set(load.by) - set(load.failed) == {old}), "it had users, if it could"
    everything_from(caller, "bad", old)
    space.told("bad", "CanaryRolledBack")
    assert space.reason(MDEP, "bad", "Ready", "CanaryRolledBack")
    space.apply("ModelDeployment", "bad", canary([{"weight": 100, "hold": "1s", "approval": True}], tokens=6))
    until(space, "bad", "phase", "AwaitingApproval")
    act(space, "bad", "Promote")
    space.wait(MDEP, "bad", "Ready")


def seen(status: dict[str, Any]) -> list[dict[str, Any]]:
    """What was counted of the canary that was over last, by metric; of one without users nothing."""
    found: list[dict[str, Any]] = status["rollouts"][0].get("decision", {}).get("metrics", [])
    return found


def test_a_canary_that_is_as_good_is_promoted_by_what_was_measured(space: Space, caller: Caller) -> None:
    """Nobody says a word: the gateways' counts are read, judged, and bring it from step to step.

    The first step asks for requests at its weight: those of whole minutes, so it waits for the first for a minute.
    """
    steps = [{"weight": 20, "hold": "5s", "analysis": {"minSamples": 50}}, {"weight": 60, "hold": "5s"}]
    judged = {"rollout": {"analysis": {"firstToken": PATIENT, "perToken": PATIENT}}}
    old = serve(space, "good", canary(steps, **judged))
    with caller.load("good", **USERS) as load:
        space.apply("ModelDeployment", "good", canary(steps, tokens=5, **judged))
        until(space, "good", "phase", "Holding")
        rollout = space.status(MDEP, "good")["rollout"]
        assert "0 of 50 requests of the canary have been heard since it has 20 %" in rollout["message"]
        assert rollout["message"] in steered(space, "rollout", "status", "good")
        new = rollout["canary"]
        space.cluster.run("wait", f"{MDEP}/good", f"--for=jsonpath={{.status.currentRevision}}={new}", "--timeout=600s")
        space.wait(MDEP, "good", "Ready")
    assert load.failed == {}, load.wrong
    assert {old, new} <= set(load.by)
    everything_from(caller, "good", new)
    space.told("good", "RolloutPromoted")


def test_a_third_revision_in_the_middle_leaves_stable_whole(space: Space, caller: Caller) -> None:
    """Nor does an answer break off that the second has begun to give."""
    steps = [{"weight": 20, **MANUAL}]
    tested = {"routing": {"testers": {"header": "X-Canary"}}}
    old = serve(space, "third", canary(steps, **tested))
    with caller.load("third", threads=2, pause=0.2) as load:
        space.apply("ModelDeployment", "third", canary(steps, tokens=5, **tested))
        until(space, "third", "phase", "AwaitingApproval")
        second = space.status(MDEP, "third")["updateRevision"]
        with caller.load("third", threads=1, headers=CANARY, **STREAM) as streams:
            space.apply("ModelDeployment", "third", canary(steps, tokens=6, **tested))
            space.cluster.run(
                "wait", f"deployment/third-{second}", "--for=jsonpath={.spec.replicas}=0", "--timeout=300s"
            )
            space.cluster.run(
                "wait", f"{MDEP}/third", "--for=jsonpath={.status.observedGeneration}=3", "--timeout=300s"
            )
            until(space, "third", "phase", "AwaitingApproval")
            third = space.status(MDEP, "third")["updateRevision"]
            assert caller.ask("third", 1000).by == pytest.approx({old: 800, third: 200}, abs=SHARED)
            space.apply("ModelDeployment", "third", canary(steps, **tested))
            space.wait(MDEP, "third", "Ready")
        everything_from(caller, "third", old)
    assert load.failed == {}, load.wrong
    assert streams.failed == {}, streams.wrong
    assert second in streams.by


def test_any_of_several_earlier_revisions_is_returned_to_and_left_again(space: Space, caller: Caller) -> None:
    """By the command; and `rollbackTo` taken away goes forward again."""
    first, second, third = (serve(space, "back", canary([], tokens=tokens)) for tokens in (4, 5, 6))
    with caller.load("back", threads=2, pause=0.2, fresh=True) as load:
        steered(space, "rollout", "undo", "back", "--to", first)
        rolled_out(space, "back", first)
        steered(space, "rollout", "undo", "back", "--to", second)
        rolled_out(space, "back", second)
        space.cluster.run("patch", MDEP, "back", "--type=merge", '-p={"spec":{"rollout":{"rollbackTo":null}}}')
        rolled_out(space, "back", third)
        everything_from(caller, "back", third)
    assert load.failed == {}, load.wrong
    assert {first, second, third} <= set(load.by)


def rolled_out(space: Space, name: str, revision: str) -> None:
    """Until this revision is the current one, and this generation is Ready."""
    space.cluster.run(
        "wait", f"{MDEP}/{name}", f"--for=jsonpath={{.status.currentRevision}}={revision}", "--timeout=300s"
    )
    space.wait(MDEP, name, "Ready")


def steered(space: Space, *words: str) -> str:
    """What `pilotboat` says, run as a user would."""
    command = [sys.executable, "-m", "pilotboat", *words, "-n", space.cluster.namespace]
    where = f"--kubeconfig={space.cluster.kubeconfig}"
    return subprocess.run([*command, where], capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("gpus")
def test_without_a_spare_gpu_one_is_borrowed(space: Space, caller: Caller) -> None:
    nodes = json.loads(space.cluster.run("get", "nodes", "-ojson"))["items"]
    every = sum(int(node["status"]["allocatable"]["nvidia.com/gpu"]) for node in nodes)
    want = 3
    gpu = {
        "gpu": {"count": every // want},
        "replicas": want,
        "routing": {"testers": {"header": "X-Canary"}},
    }
    steps = [{"weight": 10, **MANUAL}]
    old = serve(space, "full", canary(steps, **gpu))
    with caller.load("full", threads=2, pause=0.2) as load:
        space.apply("ModelDeployment", "full", canary(steps, tokens=5, **gpu))
        until(space, "full", "phase", "AwaitingApproval")
        rollout = space.status(MDEP, "full")["rollout"]
        assert (rollout["borrowing"], rollout["weight"]) == (True, 10)
        new = rollout["canary"]
        assert replicas(space, "full") == {old: want - 1, new: 1}
        assert caller.ask("full", 1000).by == pytest.approx({old: 900, new: 100}, abs=SHARED)
        with caller.load("full", threads=1, headers=CANARY, **STREAM) as streams:
            act(space, "full", "Abort")
            until(space, "full", "phase", "Aborted")
            everything_from(caller, "full", old)
        space.cluster.run(
            "wait", f"deployment/full-{old}", f"--for=jsonpath={{.status.readyReplicas}}={want}", "--timeout=300s"
        )
        assert replicas(space, "full") == {old: want}, "what was lent is given back"
        act(space, "full", "Retry", "2")
        until(space, "full", "phase", "AwaitingApproval")
        act(space, "full", "Promote", "3")
        space.wait(MDEP, "full", "Ready")
        alone = gpu | {"rollout": {"surge": "Always", "deadline": "20s"}}
        space.apply("ModelDeployment", "full", canary(steps, tokens=6, **alone))
        assert "nvidia.com/gpu" in space.reason(MDEP, "full", "Ready", "InsufficientSurgeCapacity")
        until(space, "full", "phase", "Aborted")
        assert "InsufficientSurgeCapacity: no room within 20s" in space.status(MDEP, "full")["rollout"]["message"]
        assert replicas(space, "full") == {new: want}
        everything_from(caller, "full", new)
    assert load.failed == {}, load.wrong
    assert set(load.by) == {old, new}
    assert streams.failed == {}, streams.wrong
    assert new in streams.by, "what the canary had begun to say it has said to the end"


def replicas(space: Space, name: str) -> dict[str, int]:
    """What is asked of each revision's Deployment that has any."""
    marks = f"-l{labels.INSTANCE}={name},{labels.COMPONENT}=server"
    raw = json.loads(space.cluster.run("get", "deployments", marks, "-ojson"))["items"]
    asked = {each["metadata"]["labels"][labels.REVISION]: each["spec"]["replicas"] for each in raw}
    return {revision: count for revision, count in asked.items() if count}


def test_a_canary_is_tried_before_it_has_users(space: Space, caller: Caller) -> None:
    """Probes as real Jobs: other answers are given up unseen, and so is who holds right ones less likely; a canary
    that answers alike and bears the load gets traffic."""
    steps = [{"weight": 50, **MANUAL}]
    load = {**LOAD, "maxErrorsPercent": 1}
    gates = {"rollout": {"analysis": {"quality": {"maxTokens": 8}, "load": load}}}
    old = serve(space, "tried", canary(steps, tokens=8, **gates))
    space.apply("ModelDeployment", "tried", canary(steps, tokens=8, engine={"text": "something else"}, **gates))
    until(space, "tried", "phase", "Aborted")
    assert "quality gate: 0 of" in space.status(MDEP, "tried")["rollout"]["message"]
    likely = {"rollout": {"analysis": {"quality": {"perplexity": {}}, "load": load}}}
    space.apply("ModelDeployment", "tried", canary(steps, tokens=8, engine={"text": "quite other words"}, **likely))
    procs.wait_until(
        lambda: "quality gate: perplexity" in space.status(MDEP, "tried")["rollout"]["message"],
        what="A worse perplexity",
        timeout=300,
    )
    until(space, "tried", "phase", "Aborted")
    space.apply("ModelDeployment", "tried", canary(steps, tokens=9, **likely))
    until(space, "tried", "phase", "AwaitingApproval", MEASURED_ANEW)
    rollout = space.status(MDEP, "tried")["rollout"]
    assert [(gate["gate"], gate["passed"]) for gate in rollout["gates"]] == [("quality", True), ("load", True)]
    assert set(caller.ask("tried", 100).by) == {old, rollout["canary"]}
    space.gone("job -lapp.kubernetes.io/instance=tried")


def test_a_canary_that_does_not_bear_its_load_never_has_users(space: Space, caller: Caller) -> None:
    gates = {"rollout": {"analysis": {"load": {**LOAD, "maxErrorsPercent": 5}}}}
    steps = [{"weight": 50, **MANUAL}]
    old = serve(space, "loaded", canary(steps, **gates))
    with caller.load("loaded", threads=1, pause=0.1) as users:
        space.apply("ModelDeployment", "loaded", canary(steps, tokens=5, engine={"failRatio": 0.3}, **gates))
        until(space, "loaded", "phase", "Aborted", MEASURED_ANEW)
    assert "load gate" in space.status(MDEP, "loaded")["rollout"]["message"]
    assert (users.failed, users.by) == ({}, {old: users.whole}), users.wrong
    assert users.whole
    space.gone("job -lapp.kubernetes.io/instance=loaded")


def test_real_prompts_reach_a_canary_before_its_users_do(space: Space, caller: Caller) -> None:
    """What stable answers is copied, by the image's own HAProxy: no caller notices, and after an abort none is."""
    steps = [{"weight": 5, **MANUAL}]
    mirrored = {"routing": {"mirror": {"percent": 100}}}
    old = serve(space, "copied", canary(steps, **mirrored))
    space.apply("ModelDeployment", "copied", canary(steps, tokens=5, **mirrored))
    until(space, "copied", "phase", "AwaitingApproval")
    new = space.status(MDEP, "copied")["rollout"]["canary"]
    seen = caller.ask("copied", 400)
    assert seen.by == pytest.approx({old: 380, new: 20}, abs=EXACT)
    procs.wait_until(lambda: sum(copies(space, caller).values()) >= seen.by[old], what="All copies", timeout=60)
    fates = copies(space, caller)
    assert fates["answered"] > 0
    assert fates["failed"] == 0
    act(space, "copied", "Abort")
    until(space, "copied", "phase", "Aborted")

    def alone() -> bool:
        before = copies(space, caller)
        return caller.ask("copied", 100).by == {old: 100} and copies(space, caller) == before

    procs.wait_until(alone, what="Requests without copies", timeout=60)


def copies(space: Space, caller: Caller) -> Counter[str]:
    """What became of the copies of requests, by all gateways of the namespace."""
    told: Counter[str] = Counter()
    for page in gateways(space, caller).values():
        for line in page:
            if line.startswith("pilotboat_gateway_copies_total{"):
                told[line.partition('fate="')[2].partition('"')[0]] += count(line)
    return told


def gateways(space: Space, caller: Caller) -> dict[str, list[str]]:
    """Lines of metrics of each gateway of the namespace, by its pod's name."""
    raw = json.loads(space.cluster.run("get", "pods", f"-l{labels.COMPONENT}=gateway", "-ojson"))["items"]
    places = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in raw if "podIP" in pod["status"]}
    return {name: caller.page(f"http://{at}:{AGENT_PORT}/metrics").splitlines() for name, at in places.items()}


def count(line: str) -> int:
    """A metric's value."""
    return int(float(line.rpartition(" ")[2]))


def test_a_stream_outlives_the_end_of_the_gateway_that_carries_it(space: Space, caller: Caller) -> None:
    serve(space, "long", fake())
    space.cluster.run("rollout", "status", f"deployment/{labels.GATEWAY}", f"--timeout={PATIENCE}")

    def carriers() -> list[str]:
        told = gateways(space, caller)
        return [pod for pod, page in told.items() if any(line.startswith(OPEN) and count(line) for line in page)]

    with caller.load("long", threads=1, **STREAM) as streams:
        procs.wait_until(carriers, what="A gateway with a stream", timeout=60)
        (carrier,) = carriers()
        space.cluster.run("delete", "pod", carrier, "--wait=false")
        space.cluster.run("rollout", "status", f"deployment/{labels.GATEWAY}", f"--timeout={PATIENCE}")
    assert streams.failed == {}, streams.wrong
    assert streams.whole >= 1
    space.gone(f"pod/{carrier}")


@pytest.mark.alone
@pytest.mark.long
def test_requests_of_our_own_find_what_no_user_is_there_to_find(space: Space) -> None:
    """Nobody calls: rounds of three minutes of probes are all the evidence there is, and enough."""
    probed = {"rollout": {"analysis": {"probes": {"perMinute": 60}}}}
    steps = [{"weight": 50, "hold": "10s"}]
    serve(space, "probed", canary(steps, **probed))
    space.apply("ModelDeployment", "probed", canary(steps, tokens=5, engine={"failRatio": 0.5}, **probed))
    until(space, "probed", "phase", "Aborted", "900s")
    assert "errors" in space.status(MDEP, "probed")["rollout"]["message"]
    space.gone("job -lapp.kubernetes.io/instance=probed")


def test_outcomes_that_applications_post_are_told_by_revision(space: Space, caller: Caller) -> None:
    steps = [{"weight": 50, "hold": "1h", "approval": True}]
    old = serve(space, "ab", canary(steps))
    space.apply("ModelDeployment", "ab", canary(steps, tokens=5))
    until(space, "ab", "weight", 50)
    new = space.status(MDEP, "ab")["rollout"]["canary"]
    taken = caller.feedback("ab", 60, {old: "rejected", new: "accepted"})
    assert sum(taken.values()) == 60
    until(space, "ab", "outcomes.canary.posts.accepted", taken[new])
    shown = steered(space, "ab", "ab")
    assert "accepted" in shown
    assert "settled" in shown


def test_the_real_model_is_replaced_by_steps_without_a_lost_request(space: Space, caller: Caller) -> None:
    """Both revisions serve the 4-bit model; the load runs from before the canary to after its promotion."""
    resources = {"podTemplate": {"resources": {"requests": {"cpu": "200m", "memory": "500Mi"}}}}
    spec = {
        "model": {"source": {"huggingFace": {"repo": "demo/gemma-3-270m", "files": ["*.gguf"]}}},
        "service": {"workers": 1},
        "rollout": {"steps": [{"weight": 50, **MANUAL}]},
        **resources,
    }
    old = serve(space, "real", {**spec, "inference": {"maxLength": 512}})
    with caller.load("real", threads=1, pause=0.2, tokens=8) as load:
        space.apply("ModelDeployment", "real", {**spec, "inference": {"maxLength": 640}})
        until(space, "real", "phase", "AwaitingApproval")
        new = space.status(MDEP, "real")["rollout"]["canary"]
        assert set(caller.ask("real", 20, threads=2).by) == {old, new}
        act(space, "real", "Promote")
        space.wait(MDEP, "real", "Ready")
    assert load.failed == {}, load.wrong
    assert {old, new} <= set(load.by)
