"""The gates before users, through the whole planner: a canary gets its first request only after them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pilotboat.api.probing import (
    Agreement,
    LoadResult,
    PerplexityResult,
    PerplexityWork,
    ProbeConfig,
    ProbeResult,
    QualityResult,
    Quantiles,
    TrafficResult,
)
from pilotboat.plan.build import dig, timestamp
from pilotboat.plan.gates import AGAIN
from unit.plan.test_course import STEPS, Canary
from unit.plan.world import condition, ended, report

OFF = {"firstToken": {"enabled": False}, "perToken": {"enabled": False}}
QUALITY = {"quality": {"minEqual": 0.8}}
LIKELY = {"quality": {"perplexity": {"maxIncreasePercent": 5}}}
LOAD = {"load": {"qps": 10, "duration": "30s", "maxFirstTokenMilliseconds": 500}}


HELD_BACK = {"held_back": 100, "kept_up": False}
HANGING = {"held_back": 236, "kept_up": False}
LATE = {"late": 30, "kept_up": False, "achieved_qps": 8.0}


def gated(**analysis: Any) -> tuple[Canary, str]:
    cluster = Canary(analysis={**OFF, **analysis})
    new = cluster.push(7)
    cluster.settle()
    return cluster, new


def jobs(cluster: Canary) -> list[str]:
    return sorted(ref.name for ref in cluster.objects if ref.kind == "Job")


def measured(cluster: Canary, name: str, result: ProbeResult | None, reason: str = "Probed", code: int = 0) -> None:
    """The Job's pod has ended with that."""
    job = next(raw for ref, raw in cluster.objects.items() if (ref.kind, ref.name) == ("Job", name))
    said = report(reason, "words", result.wire() if result else None)
    template = dig(job, "spec", "template", "metadata", "labels")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-x",
            "namespace": "ml",
            "uid": f"uid-{name}-x",
            "labels": template,
            "ownerReferences": [{"kind": "Job", "uid": job["metadata"]["uid"], "controller": True}],
        },
        "spec": {},
        "status": {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "probe", "state": {"terminated": ended(code, "Completed", said)}}],
        },
    }
    over = {"type": "Failed" if code else "Complete", "status": "True", "lastTransitionTime": timestamp(cluster.now)}
    job["status"] = {"conditions": [over]}
    cluster.probes.append(pod)
    cluster.settle()


def quality(new: str, exact: int, itself: int = 20, failed: int = 0) -> ProbeResult:
    agreed, canary = Agreement(answered=20, exact=itself), Agreement(answered=20 - failed, exact=exact)
    failing = {"canary": canary.model_copy(update={"unanswered": failed}), "canary_failed": failed}
    return ProbeResult(canary=new, quality=QualityResult(prompts=20, itself=agreed, **failing))


def likely(new: str, gap: float, of: int = 20, **more: Any) -> ProbeResult:
    gaps = [gap + 0.001 * (-1) ** number for number in range(of)]
    found = PerplexityResult(references=20, stable=7.0, canary=7.0, gaps=gaps, worst="Which way?", **more)
    return ProbeResult(canary=new, perplexity=found)


def load(new: str, p95: float, ok: int | None = None, **sent: Any) -> ProbeResult:
    """Of 300 requests, all sent on time and answered where nothing else is said."""
    counts = {"planned": 300, "sent": 300 - sent.get("held_back", 0), "kept_up": True, "achieved_qps": 10.0} | sent
    borne = counts["sent"] if ok is None else ok
    found = LoadResult(ok=borne, first_token=Quantiles(count=borne, p95=p95), asked_qps=10, **counts)
    return ProbeResult(canary=new, load_test=found)


def test_gates_are_measured_one_after_the_other_and_before_any_user() -> None:
    cluster, new = gated(**QUALITY, **LOAD)
    assert (jobs(cluster), cluster.shares) == ([f"chat-{new}-quality"], {cluster.first: 1000})
    assert "quality gate, before the canary has users" in condition(cluster.status, "Ready")["message"]
    measured(cluster, f"chat-{new}-quality", quality(new, 20))
    assert (jobs(cluster), cluster.shares) == ([f"chat-{new}-load"], {cluster.first: 1000})
    measured(cluster, f"chat-{new}-load", load(new, 400))
    assert (jobs(cluster), cluster.shares) == ([], {new: 100, cluster.first: 900})
    assert [(gate["gate"], gate["passed"]) for gate in cluster.status["rollout"]["gates"]] == [
        ("quality", True),
        ("load", True),
    ]


@pytest.mark.parametrize(
    ("analysis", "kind", "result", "words"),
    [
        (QUALITY, "quality", lambda new: quality(new, 10), "quality gate: 10 of 20 answers equal"),
        (
            QUALITY,
            "quality",
            lambda new: quality(new, 14, failed=6),
            "14 of 20 answers equal stable's: surely at least 51.6%, and 80.0% are asked for; at 6 of them the canary",
        ),
        (QUALITY, "quality", lambda new: quality(new, 0, failed=20), "0 of 20 answers equal"),
        (
            LIKELY,
            "quality",
            lambda new: likely(new, 0.06),
            "surely at most +6.2%, and +5.0% is allowed, worst at 'Which",
        ),
        (
            LIKELY,
            "quality",
            lambda new: likely(new, 49.0, canary_failed=20),
            "at 20 the canary's engine failed, worst at 'Which",
        ),
        (LOAD, "load", lambda new: load(new, 900), "load gate: P95 900 ms of 500"),
        (LOAD, "load", lambda new: load(new, 100, ok=200), "100 of 300 failed"),
        (LOAD, "load", lambda new: load(new, 900, ok=200, **LATE), "100 of 300 failed"),
        (LOAD, "load", lambda new: load(new, 900, **HELD_BACK), "P95 900 ms of 500"),
        (LOAD, "load", lambda new: load(new, 100, ok=0, **HANGING), "64 of 300 failed"),
    ],
    ids=[
        "other answers",
        "some answers missing",
        "all answers missing",
        "less likely",
        "broken",
        "slow",
        "failing",
        "failing though some came late",
        "slow at less than was asked",
        "hanging",
    ],
)
def test_a_gate_not_passed_gives_the_canary_up_unseen(analysis: Any, kind: str, result: Any, words: str) -> None:
    cluster, new = gated(**analysis)
    measured(cluster, f"chat-{new}-{kind}", result(new))
    assert cluster.status["rollout"]["phase"] == "Aborted"
    assert words in cluster.status["rollout"]["message"]
    assert (cluster.shares, cluster.replicas) == ({cluster.first: 1000}, {cluster.first: 4})
    assert cluster.status["rollouts"][0]["weight"] == 0


UNSENT = {
    "late": (
        lambda new: load(new, 100, **LATE),
        "0 of 300 requests were held back and 30 sent late, 8 a second of 10",
        "load.qps",
    ),
    "late and slow": (lambda new: load(new, 900, **LATE), "8 a second of 10: that says nothing of the canary", "CPU"),
    "late and failing": (lambda new: load(new, 100, ok=280, **LATE), "30 sent late", "CPU"),
    "held back": (lambda new: load(new, 100, **HELD_BACK), "100 of 300 requests were held back", "load.qps"),
    "too short": (lambda new: load(new, 100, planned=92, sent=92), "92 requests, 100 are needed", "load.duration"),
}


def test_requests_that_were_sent_a_little_late_and_answered_in_time_pass() -> None:
    """They have waited since they were due, and as many came a second as were asked for."""
    cluster, new = gated(**LOAD)
    measured(cluster, f"chat-{new}-load", load(new, 400, **LATE | {"achieved_qps": 9.7}))
    assert cluster.shares == {new: 100, cluster.first: 900}


@pytest.mark.parametrize("case", UNSENT.values(), ids=UNSENT)
def test_a_load_that_was_not_sent_neither_passes_nor_gives_the_canary_up(case: Any) -> None:
    result, words, way_out = case
    cluster, new = gated(**LOAD)
    measured(cluster, f"chat-{new}-load", result(new))
    ready = condition(cluster.status, "Ready")
    assert ready["reason"] == "ProbeFailed"
    assert words in ready["message"]
    assert way_out in ready["message"]
    assert (cluster.shares, cluster.status["rollout"].get("gates", [])) == ({cluster.first: 1000}, [])
    assert jobs(cluster) == [f"chat-{new}-load"]
    skip(cluster)
    assert cluster.shares == {new: 100, cluster.first: 900}


@pytest.mark.parametrize("failed", [False, True], ids=["not sent", "failed"])
def test_a_gate_that_could_not_be_measured_is_measured_again_as_soon_as_something_else_is_asked(failed: bool) -> None:
    cluster, new = gated(**LOAD)
    name = f"chat-{new}-load"
    if failed:
        measured(cluster, name, None, "ProbeFailed", 64)
    else:
        measured(cluster, name, load(new, 100, **LATE))
    before = uid_of(cluster, name)
    rollout = cluster.parent["spec"]["rollout"]
    cluster.edit(rollout={**rollout, "analysis": {**OFF, "load": LOAD["load"] | {"qps": 5}}})
    cluster.settle()
    assert uid_of(cluster, name) != before
    assert condition(cluster.status, "Ready")["reason"] == "RollingOut"
    cluster.probes.clear()
    measured(cluster, name, load(new, 100))
    assert cluster.shares == {new: 100, cluster.first: 900}


@pytest.mark.parametrize("when", ["before the result", "with the result"])
@pytest.mark.parametrize(
    ("kind", "before", "after", "result"),
    [
        ("load", LOAD, {"load": LOAD["load"] | {"qps": 100}}, lambda new: load(new, 400)),
        (
            "quality",
            QUALITY,
            {"quality": {"prompts": [f"my own {n}" for n in range(50)]}},
            lambda new: quality(new, 20),
        ),
    ],
    ids=["load", "quality"],
)
def test_what_is_asked_now_is_not_judged_by_what_was_measured_before(
    when: str, kind: str, before: Any, after: Any, result: Any
) -> None:
    cluster, new = gated(**before)
    name = f"chat-{new}-{kind}"
    first = uid_of(cluster, name)
    cluster.edit(rollout={**cluster.parent["spec"]["rollout"], "analysis": {**OFF, **after}})
    if when == "before the result":
        cluster.settle()
    else:
        measured(cluster, name, result(new))
        cluster.probes.clear()
    assert uid_of(cluster, name) != first
    assert (cluster.shares, cluster.status["rollout"].get("gates", [])) == ({cluster.first: 1000}, [])
    measured(cluster, name, result(new))
    assert cluster.shares == {new: 100, cluster.first: 900}


@pytest.mark.parametrize(("allowed", "patience"), [(500, "61s"), (90_000, "150s"), (600_000, "600s")])
def test_the_load_probe_waits_for_every_first_token_that_is_allowed(allowed: int, patience: str) -> None:
    cluster, new = gated(load={"qps": 1, "duration": "100s", "maxFirstTokenMilliseconds": allowed})
    assert ProbeConfig.load(config_map(cluster, f"chat-{new}-load")).request_timeout == patience


def uid_of(cluster: Canary, job: str) -> str:
    return str(
        next(raw["metadata"]["uid"] for ref, raw in cluster.objects.items() if (ref.kind, ref.name) == ("Job", job))
    )


def test_a_load_that_was_not_sent_is_sent_again_after_a_while() -> None:
    cluster, new = gated(**LOAD)
    name, over = f"chat-{new}-load", cluster.now.replace(microsecond=0)
    measured(cluster, name, load(new, 100, **LATE))
    before = uid_of(cluster, name)
    assert "measured again 5 minutes after its end" in condition(cluster.status, "Ready")["message"]
    cluster.now = over + AGAIN - timedelta(seconds=9)
    assert cluster.plan().requeue_after == timedelta(seconds=9)
    cluster.carry_out(cluster.plan())
    assert uid_of(cluster, name) == before
    cluster.now = over + AGAIN
    cluster.settle()
    assert uid_of(cluster, name) != before
    cluster.probes.clear()
    measured(cluster, name, load(new, 100))
    assert cluster.shares == {new: 100, cluster.first: 900}


@pytest.mark.parametrize("case", ["too short", "failed"])
def test_what_another_time_would_not_mend_is_not_tried_again(case: str) -> None:
    cluster, new = gated(**LOAD)
    name = f"chat-{new}-load"
    if case == "failed":
        measured(cluster, name, None, "ProbeFailed", 64)
    else:
        measured(cluster, name, load(new, 100, planned=92, sent=92))
    before = uid_of(cluster, name)
    cluster.now += 10 * AGAIN
    cluster.settle()
    assert uid_of(cluster, name) == before


def blip(cluster: Canary, new: str) -> None:
    """For one pass no replica of the canary is ready."""
    (pod,) = [name for name in cluster.pods if name.startswith(f"chat-{new}-")]
    cluster.unready(pod)
    for deployment in cluster.deployments:
        cluster.report(deployment)
    cluster.carry_out(cluster.plan())


def test_a_gate_that_takes_longer_than_the_deadline_survives_a_moment_without_a_ready_pod() -> None:
    cluster, new = gated(**QUALITY)
    name = f"chat-{new}-quality"
    before = uid_of(cluster, name)
    cluster.now += timedelta(hours=2)
    cluster.settle()
    assert cluster.plan().requeue_after is None, "nothing changes by time alone"
    blip(cluster, new)
    assert (cluster.status["rollout"]["phase"], uid_of(cluster, name)) == ("Progressing", before)
    cluster.settle()
    measured(cluster, name, quality(new, 20))
    assert cluster.shares == {new: 100, cluster.first: 900}


def test_a_skip_while_the_canary_loads_passes_no_gate_and_no_step() -> None:
    cluster = Canary(analysis={**OFF, **QUALITY})
    new = cluster.push(7)
    cluster.carry_out(cluster.plan())
    skip(cluster)
    assert (cluster.shares, jobs(cluster)) == ({cluster.first: 1000}, [f"chat-{new}-quality"])
    assert cluster.status["rollout"]["step"] == 0


def test_a_skip_passes_the_one_gate_that_is_being_measured() -> None:
    cluster, new = gated(**QUALITY, **LOAD)
    skip(cluster)
    assert (cluster.shares, jobs(cluster)) == ({cluster.first: 1000}, [f"chat-{new}-load"])
    (record,) = cluster.status["rollout"]["gates"]
    assert (record["gate"], record["passed"], record["message"]) == ("quality", True, "skipped by request")
    measured(cluster, f"chat-{new}-load", load(new, 400))
    assert cluster.shares == {new: 100, cluster.first: 900}


def test_a_canary_that_is_tried_again_has_its_gates_before_it_anew() -> None:
    """Also where its pods were kept and are ready at once."""
    cluster = Canary(analysis={**OFF, **QUALITY}, onFailure="Pause")
    new = cluster.push(7)
    cluster.settle()
    measured(cluster, f"chat-{new}-quality", quality(new, 10))
    assert cluster.status["rollout"]["phase"] == "Aborted"
    cluster.probes.clear()
    rollout = cluster.parent["spec"]["rollout"]
    cluster.edit(rollout={**rollout, "action": {"verb": "Retry", "id": "again"}})
    cluster.settle()
    assert (cluster.shares, jobs(cluster)) == ({cluster.first: 1000}, [f"chat-{new}-quality"])
    measured(cluster, f"chat-{new}-quality", quality(new, 20))
    assert cluster.shares == {new: 100, cluster.first: 900}


def skip(cluster: Canary) -> None:
    rollout = cluster.parent["spec"]["rollout"]
    cluster.edit(rollout={**rollout, "action": {"verb": "Skip", "id": "1"}})
    cluster.settle()


def test_what_stable_does_not_repeat_is_not_asked_of_the_canary() -> None:
    cluster, new = gated(**QUALITY)
    measured(cluster, f"chat-{new}-quality", quality(new, 16, itself=14))
    assert cluster.shares == {new: 100, cluster.first: 900}


def test_by_perplexity_alone_answers_are_not_compared() -> None:
    cluster, new = gated(**LIKELY)
    asked = ProbeConfig.load(config_map(cluster, f"chat-{new}-quality"))
    assert (asked.quality, asked.perplexity) == (None, PerplexityWork())
    measured(cluster, f"chat-{new}-quality", likely(new, 0.02))
    assert cluster.shares == {new: 100, cluster.first: 900}


@pytest.mark.parametrize(("gap", "exact", "passed"), [(0.0, 20, True), (0.0, 10, False), (0.1, 20, False)])
def test_where_both_are_asked_for_both_have_to_pass(gap: float, exact: int, passed: bool) -> None:
    cluster, new = gated(quality={"minEqual": 0.8, "perplexity": {}})
    asked = ProbeConfig.load(config_map(cluster, f"chat-{new}-quality"))
    assert asked.quality
    assert asked.perplexity
    both = quality(new, exact).model_copy(update={"perplexity": likely(new, gap).perplexity})
    measured(cluster, f"chat-{new}-quality", both)
    assert (new in cluster.shares) is passed


@pytest.mark.parametrize("found", [lambda new: likely(new, 0.0, of=5), lambda new: quality(new, 20)])
def test_too_few_references_decide_nothing(found: Any) -> None:
    cluster, new = gated(**LIKELY)
    measured(cluster, f"chat-{new}-quality", found(new))
    assert condition(cluster.status, "Ready")["reason"] == "ProbeFailed"
    assert cluster.shares == {cluster.first: 1000}


def config_map(cluster: Canary, name: str) -> str:
    text: str = dig(
        next(raw for ref, raw in cluster.objects.items() if (ref.kind, ref.name) == ("ConfigMap", name)),
        "data",
        "probe.json",
    )
    return text


def test_a_gate_that_cannot_be_measured_decides_nothing_and_can_be_skipped() -> None:
    cluster, new = gated(**QUALITY)
    measured(cluster, f"chat-{new}-quality", None, "ProbeFailed", 64)
    assert condition(cluster.status, "Ready")["reason"] == "ProbeFailed"
    assert cluster.shares == {cluster.first: 1000}
    skip(cluster)
    assert cluster.shares == {new: 100, cluster.first: 900}
    assert cluster.status["rollout"]["step"] == 0


def test_synthetic_requests_decide_where_users_send_none() -> None:
    cluster = Canary(steps=[{"weight": 50, "hold": "1m"}], analysis={**OFF, "probes": {"perMinute": 60}})
    assert STEPS
    new = cluster.push(7)
    cluster.settle()
    for _ in range(4):
        cluster.minute(requests=0)
    assert cluster.status["rollout"]["phase"] == "Holding"
    for _ in range(6):
        if f"chat-{new}-traffic" not in jobs(cluster):
            break
        minutes = [
            {"start": int(cluster.now.timestamp()) // 60 * 60 - 60 * back, "requests": 60, "errors": 0}
            for back in (3, 2, 1)
        ]
        counts = TrafficResult.model_validate({"stable": minutes, "canary": minutes})
        cluster.probes.clear()
        measured(cluster, f"chat-{new}-traffic", ProbeResult(canary=new, traffic=counts))
    assert cluster.status["currentRevision"] == new
    assert jobs(cluster) == []
