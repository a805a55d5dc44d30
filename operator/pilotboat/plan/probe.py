"""Probes of a canary: the Job that measures, and what came of it.

Owns: the Job's and its ConfigMap's manifests, and reading the result back. Must not know: when a probe is due, what its
figures mean for a rollout.

A probe is made once: neither a changed configuration nor another image changes a Job that is there; whoever wants
another one lets it go (gates.py). Its pods are the ModelDeployment's for the store, and bear neither the server's
component nor a revision, so that no selector of a Service, a Deployment or a budget has them, and nothing counts them
as replicas.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from ..api import labels
from ..api.base import seconds
from ..api.probing import ProbeConfig, ProbeResult
from ..api.reasons import Reason
from ..api.runtime import EXIT_BAD_INPUT
from ..api.sources import SecretKey
from . import build, diagnose, outcome, pods, sources
from .build import Raw, dig
from .outcome import Cause
from .types import Manifest, PlanSettings, Ref

PROBE = "probe"
COMMAND = ("tini", "--", "python3", "-m", "pilotboat_probe")
"""The image is the gateway's, whose own entry is another."""

BACKOFF_LIMIT = 2
GRACE_SECONDS = 10
STARTING_SECONDS = 300
"""Of the deadline: for finding a node and pulling the image."""

QUALITY_SECONDS = 1800
"""Of the deadline: a hundred prompts, three answers each, from a slow model; or as many given answers as may be."""

RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
"""No limit of CPU: a throttled generator would be late, and its load void."""


class Kind(StrEnum):
    """What a probe is for: part of its name. A config may ask for more than one work all the same."""

    QUALITY = "quality"
    LOAD = "load"
    TRAFFIC = "traffic"


@dataclass(frozen=True)
class Probe:
    """One probe of one revision."""

    kind: Kind
    config: ProbeConfig

    def name(self, parent: Raw) -> str:
        """Of the Job and its ConfigMap: `<name>-<revision>-<kind>`."""
        return job_name(parent["metadata"]["name"], self.config.canary.revision, self.kind)


class State(StrEnum):
    """How far a probe is."""

    ABSENT = "Absent"
    RUNNING = "Running"
    MEASURED = "Measured"
    FAILED = "Failed"


@dataclass(frozen=True)
class Outcome:
    """What is known of a probe. `result` is there where it is MEASURED, and then only."""

    state: State
    result: ProbeResult | None = None
    cause: Cause | None = None
    """Why it FAILED, or why its pod does not start."""


def job_name(name: str, revision: str, kind: Kind) -> str:
    """`chat-1a2b3c4d-quality`."""
    return f"{name}-{revision}-{kind}"


def children(
    parent: Raw, probe: Probe, children: Iterable[Raw], keys: SecretKey | None, settings: PlanSettings
) -> tuple[Manifest, ...]:
    """The ConfigMap and the Job, where the Job is not there yet. `keys`: the Secret of the servers' keys."""
    if build.named(children, "Job", probe.name(parent)):
        return ()
    return (_config_map(parent, probe), _job(parent, probe, keys, settings))


def surplus(children: Iterable[Raw], wanted: Iterable[str]) -> tuple[Ref, ...]:
    """Jobs and ConfigMaps of probes whose names are not among those wanted."""
    kept = frozenset(wanted)
    ours = (raw for raw in children if build.component(raw) == PROBE and raw["kind"] in ("Job", "ConfigMap"))
    return tuple(Ref.of(raw) for raw in ours if raw["metadata"]["name"] not in kept)


def deadline(config: ProbeConfig) -> int:
    """Seconds after which the Job is ended: enough to do all of it twice."""
    patience = seconds(config.request_timeout)
    times = [2 * seconds(config.connect_timeout)]
    times += [QUALITY_SECONDS for work in (config.quality, config.perplexity) if work]
    times += [seconds(work.duration) + patience for work in (config.load_test, config.traffic) if work]
    return STARTING_SECONDS + 2 * sum(times)


def read(name: str, children: Iterable[Raw], pods: Iterable[Raw]) -> Outcome:
    """What came of the probe whose Job has that name. It fails when its Job does: until then it is tried again."""
    job = build.named(children, "Job", name)
    if job is None:
        return Outcome(State.ABSENT)
    own = [pod for pod in pods if _controller(pod) == job["metadata"]["uid"]]
    if result := next((found for pod in own if (found := _result(pod))), None):
        return Outcome(State.MEASURED, result)
    if over := build.over(job):
        return Outcome(State.FAILED, cause=_why(name, over, own))
    return Outcome(State.RUNNING, cause=diagnose.cause(own))


def ended(name: str, children: Iterable[Raw]) -> datetime | None:
    """When the Job controller called the Job of that name over; None before it has."""
    over = build.over(build.named(children, "Job", name))
    return build.parsed(over.get("lastTransitionTime")) if over else None


def asked(name: str, children: Iterable[Raw]) -> str | None:
    """The configuration that the probe of that name was made with."""
    text: str | None = dig(build.named(children, "ConfigMap", name), "data", "probe.json")
    return text


def _controller(pod: Raw) -> str | None:
    """The uid of the pod's Job: one of the same name may have been there before."""
    owners = dig(pod, "metadata", "ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def _result(pod: Raw) -> ProbeResult | None:
    """What a container that ended well has measured."""
    ended = diagnose.ended_container(pod, PROBE)
    said = ended.report if ended and ended.exit_code == 0 else None
    return outcome.read(ProbeResult, said.result) if said and said.reason == Reason.PROBED else None


def _why(name: str, condition: Raw, own: Iterable[Raw]) -> Cause:
    """The last pod's own words; without any, the Job controller's."""
    if condition.get("reason") == "DeadlineExceeded":
        return Cause(Reason.DEADLINE_EXCEEDED, f"probe {name} did not end in time")
    endings = [ended for pod in own if (ended := diagnose.ended_container(pod, PROBE))]
    if bad := max((ended for ended in endings if ended.exit_code), key=lambda each: each.finished_at, default=None):
        why = diagnose.explain(bad)
        return Cause(why.reason, f"probe {name}: {why.message}")
    told = condition.get("message") if condition["type"] == "Failed" else None
    return Cause(Reason.PROBE_FAILED, f"probe {name} left no result{f': {told}' if told else ''}")


def _config_map(parent: Raw, probe: Probe) -> Manifest:
    data = {"data": {"probe.json": probe.config.to_json()}}
    return build.child(parent, PROBE, "v1", "ConfigMap", probe.name(parent), data, **_revision(probe))


def _job(parent: Raw, probe: Probe, keys: SecretKey | None, settings: PlanSettings) -> Manifest:
    main = pods.Main(
        name=PROBE,
        image=settings.gateway_image,
        config="probe.json",
        env=(sources.secret_env("PILOTBOAT_API_KEYS", keys),) if keys else (),
        extra={"command": list(COMMAND)},
    )
    pod = pods.plain(main, probe.name(parent), RESOURCES, settings)
    pod |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": GRACE_SECONDS}
    body = {
        "backoffLimit": BACKOFF_LIMIT,
        "activeDeadlineSeconds": deadline(probe.config),
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": _failure_rules()},
        "template": {"metadata": {"labels": labels.child_labels(PROBE, parent["metadata"]["name"])}, "spec": pod},
    }
    return build.child(parent, PROBE, "batch/v1", "Job", probe.name(parent), {"spec": body}, **_revision(probe))


def _failure_rules() -> list[dict[str, Any]]:
    """As a trainer's: wrong input fails at once, a drained node costs no retry."""
    bad = {"containerName": PROBE, "operator": "In", "values": [EXIT_BAD_INPUT]}
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": bad},
    ]


def _revision(probe: Probe) -> dict[str, str]:
    return {labels.REVISION: probe.config.canary.revision}
