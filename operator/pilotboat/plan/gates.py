"""The gates before users, and requests of our own while users send too few: which probe is due, and what it found.

Owns: when a probe runs in a rollout, and the step from its result to the rollout. Must not know: how probes work
(probe.py), how counts are weighed (canary/).

A gate that cannot be measured decides nothing: the canary waits without users, until it can be or somebody skips it.
So does one whose figures say nothing; where the machine was the reason, as with a load that was not sent as it was
asked for, it is measured again after a while.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from ..api.analysis import Verdict, Why
from ..api.gates import LoadGate, PerplexityGate, QualityGate
from ..api.model_deployment import ModelDeploymentSpec
from ..api.probing import (
    MAX_REQUEST_SECONDS,
    Endpoint,
    LoadWork,
    PerplexityWork,
    ProbeConfig,
    ProbeResult,
    QualityWork,
    TrafficWork,
)
from ..api.reasons import Reason
from ..api.rollout import GateRecord, RolloutPhase, RolloutStatus
from ..api.routing import SERVER_PORT
from . import build, http_behind, http_route, judgement, probe, proof, synthetic
from .canary import gates
from .outcome import Cause
from .probe import Kind, Probe, State
from .types import Manifest, Observed, PlanSettings

TRAFFIC_TIME = "3m"
"""Of one round of synthetic requests: then they are weighed, and another begins where it still takes more."""

AGAIN = timedelta(minutes=5)
"""From the end of a measurement that says nothing to the next: what kept the machine busy may be over by then."""

KEPT_UP = 0.95
"""Of the requests a second that were asked for, the share that makes a load the one that was."""
THIN = frozenset({Why.TOO_FEW_REQUESTS, Why.NO_DATA, Why.UNDECIDED, Why.METRIC_MISSING, Why.UNJUDGED})


@dataclass(frozen=True)
class Look:
    """The rollout with what probes have found, and the probes that are to be there."""

    state: RolloutStatus
    manifests: tuple[Manifest, ...] = ()
    wanted: tuple[str, ...] = ()
    """Names of Jobs that stay."""
    waiting: Cause | None = None
    """Why the canary has no users yet."""
    gate: str | None = None
    """The gate that is being measured."""
    look_again: timedelta | None = None


@dataclass(frozen=True)
class _Passing(Cause):
    """A cause that may be gone another time."""


Judge = Callable[[ModelDeploymentSpec, ProbeResult], GateRecord | Cause]
"""A cause is why the figures say nothing."""


def before_users(
    observed: Observed,
    spec: ModelDeploymentSpec,
    state: RolloutStatus,
    ready: bool,
    settings: PlanSettings,
    now: datetime,
) -> Look:
    """The gates one after the other, once the canary has a ready replica and before it has any traffic. One that is
    being measured goes on while no replica is ready for a moment."""
    if not state.untried:
        return Look(state)
    done = {record.gate for record in state.gates}
    for kind, judge in _asked(spec):
        if kind in done:
            continue
        if not ready:
            return Look(state, wanted=(_probe(observed, spec, state, kind).name(observed.parent),))
        return _measured(observed, spec, state, kind, judge, settings, now)
    return Look(state)


def while_thin(observed: Observed, spec: ModelDeploymentSpec, state: RolloutStatus, settings: PlanSettings) -> Look:
    """Synthetic requests, round by round, while the canary is held for want of evidence."""
    asked, wish = spec.rollout.analysis.probes, judgement.settings(spec.rollout.analysis, state)
    if asked is None or wish is None or not _thin(state, spec):
        return Look(state)
    due = _probe(observed, spec, state, Kind.TRAFFIC)
    job = build.named(observed.children, "Job", due.name(observed.parent))
    if job is None:
        return _kept(observed, spec, state, due, settings)
    if state.absorbed_probe == job["metadata"]["uid"]:
        return Look(state)  # it goes, and another round may come
    found = probe.read(due.name(observed.parent), observed.children, observed.pods)
    if found.state not in (State.MEASURED, State.FAILED):
        return _kept(observed, spec, state, due, settings)
    past = http_route.wanted(observed.parent)  # then the pods have counted these requests among the others
    counts = found.result.traffic if found.result and not past else None
    grown = synthetic.absorb(state.analysis, counts, wish) if counts else state.analysis
    return Look(state.model_copy(update={"analysis": grown, "absorbed_probe": job["metadata"]["uid"]}))


def _thin(state: RolloutStatus, spec: ModelDeploymentSpec) -> bool:
    """Whether the canary is held for want of evidence."""
    decision = state.decision
    if state.phase is not RolloutPhase.HOLDING or decision is None:
        return False
    few = decision.verdict is not Verdict.HOLD and proof.unheard(state, spec.rollout) is not None
    return few or decision.why in THIN


def failed(state: RolloutStatus) -> str | None:
    """What a gate before users says against the canary."""
    return next((f"{record.gate} gate: {record.message}" for record in state.gates if not record.passed), None)


def load_due(spec: ModelDeploymentSpec, state: RolloutStatus) -> bool:
    """Whether the load gate is still to be measured: until then nothing else may load the canary."""
    measured = any(record.gate == Kind.LOAD for record in state.gates)
    return spec.rollout.analysis.load is not None and state.untried and not measured


def _asked(spec: ModelDeploymentSpec) -> list[tuple[Kind, Judge]]:
    analysis = spec.rollout.analysis
    asked: list[tuple[Kind, Judge]] = []
    if analysis.quality:
        asked.append((Kind.QUALITY, _quality))
    if analysis.load:
        asked.append((Kind.LOAD, _load))
    return asked


def _measured(
    observed: Observed,
    spec: ModelDeploymentSpec,
    state: RolloutStatus,
    kind: Kind,
    judge: Judge,
    settings: PlanSettings,
    now: datetime,
) -> Look:
    due = _probe(observed, spec, state, kind)
    name = due.name(observed.parent)
    found = probe.read(name, observed.children, observed.pods)
    if found.state is not State.ABSENT and probe.asked(name, observed.children) != due.config.to_json():
        # It goes, with whatever it has measured: that is no answer to what is asked now.
        words = f"{kind} gate, before the canary has users: what is asked was changed, and is measured anew"
        return Look(state, waiting=Cause(Reason.ROLLING_OUT, words), gate=kind)
    said = (
        judge(spec, found.result) if found.result else found.cause or Cause(Reason.ROLLING_OUT, "it is being measured")
    )
    if isinstance(said, GateRecord):
        told = state.model_copy(update={"gates": [*state.gates, said]})
        more = before_users(observed, spec, told, said.passed, settings, now)
        return replace(more, waiting=more.waiting or Cause(Reason.ROLLING_OUT, said.message))
    over = found.state in (State.MEASURED, State.FAILED)
    ended = probe.ended(name, observed.children) if isinstance(said, _Passing) else None
    left = ended + AGAIN - now if ended else None
    by_itself = f" {AGAIN.seconds // 60} minutes after its end, or" if isinstance(said, _Passing) else ""
    again = f"; it is measured again{by_itself} when analysis.{kind} changes or Job {name} is deleted" if over else ""
    waiting = Cause(said.reason, f"{kind} gate, before the canary has users: {said.message}{again}")
    if over and left is not None and left <= timedelta():
        return Look(state, waiting=waiting, gate=kind)  # it goes, and is measured again
    return replace(_kept(observed, spec, state, due, settings), waiting=waiting, gate=kind, look_again=left)


def _kept(
    observed: Observed, spec: ModelDeploymentSpec, state: RolloutStatus, due: Probe, settings: PlanSettings
) -> Look:
    keys = spec.service.api_key_secret_ref
    made = probe.children(observed.parent, due, observed.children, keys, settings)
    return Look(state, made, (due.name(observed.parent),))


def _probe(observed: Observed, spec: ModelDeploymentSpec, state: RolloutStatus, kind: Kind) -> Probe:
    name, analysis = observed.parent["metadata"]["name"], spec.rollout.analysis
    behind = http_behind.SUFFIX if http_route.wanted(observed.parent) else ""
    endpoints = [
        Endpoint(revision=revision, url=f"http://{name}-{revision}{behind}:{SERVER_PORT}")
        for revision in (state.canary, state.stable)
    ]
    config = ProbeConfig(model=name, canary=endpoints[0], stable=endpoints[1], traffic=TrafficWork())
    match kind:
        case Kind.QUALITY if analysis.quality:
            changes = {"traffic": None} | _quality_work(analysis.quality)
        case Kind.LOAD if analysis.load:
            wish = analysis.load
            load = LoadWork(
                rate=wish.qps,
                duration=wish.duration,
                prompt_tokens=[wish.prompt_tokens],
                max_tokens=wish.max_tokens,
            )
            changes = {"load_test": load, "traffic": None, "request_timeout": _patience(wish)}
        case _:
            rate = analysis.probes.per_minute if analysis.probes else 1
            changes = {"traffic": TrafficWork(per_minute=rate, duration=TRAFFIC_TIME)}
    return Probe(kind, config.model_copy(update=changes))


def _patience(asked: LoadGate) -> str:
    """The minute that other probes have for an answer, after the latest first token that is allowed."""
    return f"{min(60 + ceil(asked.max_first_token_milliseconds / 1000), MAX_REQUEST_SECONDS)}s"


def _quality_work(asked: QualityGate) -> dict[str, Any]:
    work: dict[str, Any] = {}
    if asked.equal is not None:
        work |= {"quality": QualityWork(max_tokens=asked.max_tokens), "prompts": asked.prompts}
    if asked.perplexity:
        work["perplexity"] = PerplexityWork(references=asked.perplexity.references or [])
    return work


def _quality(spec: ModelDeploymentSpec, result: ProbeResult) -> GateRecord | Cause:
    """By exact match, by perplexity, or by both: then both have to pass."""
    asked = spec.rollout.analysis.quality
    said = [_equal(asked.equal, result)] if asked and asked.equal is not None else []
    said += [_likely(asked.perplexity, result)] if asked and asked.perplexity else []
    passed = [look.passed for look in said]
    message = "; ".join(look.message for look in said)
    if None in passed and False not in passed:
        return Cause(Reason.PROBE_FAILED, message)
    return GateRecord(gate=Kind.QUALITY, passed=False not in passed, message=message)


def _equal(threshold: float, result: ProbeResult) -> gates.Passed:
    """Held against how often stable repeats itself: what it does not repeat, nobody can equal. What stable answered and
    the canary did not is not equal."""
    found = result.quality
    if found is None:
        return gates.Passed(None, 0.0, threshold, "the probe compared no answers")
    repeated = found.itself.exact / found.itself.answered if found.itself.answered else 1.0
    of, failed = found.canary.answered + found.canary.unanswered, found.canary.unanswered
    said = gates.answers(found.canary.exact, of, threshold * repeated)
    told = f"; at {failed} of them the canary failed" if failed else ""
    return replace(said, passed=bool(said.passed), message=said.message + told)


def _likely(asked: PerplexityGate, result: ProbeResult) -> gates.Passed:
    found, tolerance = result.perplexity, asked.max_increase_percent / 100
    if found is None:
        return gates.Passed(None, 0.0, tolerance, "the probe measured no perplexity")
    said = gates.perplexity(found.gaps, tolerance)
    failed = f", at {found.canary_failed} the canary's engine failed" if found.canary_failed else ""
    worst = f", worst at {found.worst!r}" if said.passed is False and found.worst else ""
    return replace(said, message=said.message + failed + worst)


def _load(spec: ModelDeploymentSpec, result: ProbeResult) -> GateRecord | Cause:
    """For the canary speaks only the load that was asked for; against it all that was sent on time, and more failures
    than were sent late.

    Requests that were held back count as well borne: what is too much even so would be too much of the whole. A request
    that was sent late has waited since it was due: who passes all the same has passed, if as many came a second.
    """
    asked, found = spec.rollout.analysis.load, result.load_test
    if asked is None or found is None:
        return GateRecord(gate=Kind.LOAD, passed=False, message="the probe measured no load")
    slow = found.first_token.p95
    limit, errors = float(asked.max_first_token_milliseconds), found.sent - found.ok
    said = gates.load(
        found.planned, errors, float("inf") if slow is None else slow, limit, asked.max_errors_percent / 100
    )
    on_time = found.late <= gates.FEW * found.planned
    if said.passed is None:
        return Cause(Reason.PROBE_FAILED, f"{said.message}: raise rollout.analysis.load.duration or qps")
    whole = found.held_back <= gates.FEW * found.planned and found.achieved_qps >= KEPT_UP * found.asked_qps
    failing = errors - found.late > asked.max_errors_percent / 100 * found.planned
    if whole if said.passed else on_time or failing:
        return GateRecord(gate=Kind.LOAD, passed=said.passed, message=said.message)
    return _Passing(
        Reason.PROBE_FAILED,
        f"{found.held_back} of {found.planned} requests were held back and {found.late} sent late, "
        f"{found.achieved_qps:g} a second of {found.asked_qps:g}: that says nothing of the canary under the load asked "
        "for; lower rollout.analysis.load.qps, or have more CPU free for the probe",
    )
