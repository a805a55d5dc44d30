"""The planner of FineTuneJobs: one batch Job, its configuration and its volume.

Owns: what children a FineTuneJob has. Must not know: how training is done, how it is told (finetune_status.py).

The Job is made once and never edited, save `suspend`, the deadline and backoffLimit: a Job's template cannot change. A
Job deleted before its end is made again and continues from the last checkpoint, with what is left of both limits.

So a lost pod (attempts.py) costs two writes: the status that says so, then the deletion of its Job, in the background
and without force. The next pass finds no Job and makes one. Whenever the operator dies in between, what it finds says
how far it came. Two pods may run for a while; the trainer's writers.py sees to it that only the later one writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from ..api import labels
from ..api.finetune_job import AccessMode, Claim, FineTuneJobSpec, Resolved
from ..api.pods import Gpu
from ..api.runtime import (
    CHECKPOINT_DIR,
    CONFIG_DIR,
    DATASET_DIR,
    EXIT_BAD_INPUT,
    EXIT_SUPERSEDED,
    EXIT_TERMINATED,
    GPUS_VARIABLE,
    MODEL_DIR,
    OUTPUT_DIR,
    FetchConfig,
    TrainerConfig,
    TrainerData,
)
from . import attempts, build, diagnose, outcome, pods, sources
from .build import Raw, dig
from .finetune_status import report
from .finetune_view import TRAINER, View, failed_before, finished, spent
from .outcome import Cause
from .types import Manifest, Observed, Plan, PlanSettings, Questions, Ref

TOKEN_DIR = "/var/run/pilotboat"
TOKEN_SECONDS = 3600
"""Life of the projected token; kubelet renews it at 80 %."""

FETCH_PATIENCE = 900
"""Seconds that a pod waits for a hub: kubelet starts nothing again in it, and a Job has few pods to lose. With the
usual backoffLimit that is an hour; a wrong address is not told sooner."""

DEFAULT_SIZE = "10Gi"
LOOK_AGAIN = timedelta(seconds=10)
SOON = timedelta(seconds=1)


class FineTuneJobPlanner:
    """See Planner."""

    def references(self, parent: Raw) -> tuple[Ref, ...]:
        """PVCs and ConfigMaps that are sources, and the claims that are written to."""
        try:
            spec = FineTuneJobSpec.model_validate(parent.get("spec"))
        except ValidationError:  # told in status by plan()
            return ()
        return _named(spec, parent["metadata"]["namespace"])

    def wants_evidence(self, parent: Raw) -> bool:
        """Never: a job has no traffic."""
        return False

    def asks(self, parent: Raw) -> Questions | None:
        """Nothing."""
        return None

    def plan(self, observed: Observed, settings: PlanSettings, now: datetime) -> Plan:
        """The next step; once the job is over, nothing is made again and the record stays."""
        try:
            spec = FineTuneJobSpec.model_validate(observed.parent.get("spec"))
        except ValidationError as error:
            return report(View(observed, None, now, outcome.invalid(error)), now)
        view = View(observed, spec, now)
        if finished(observed.parent):
            return report(view, now)
        if build.of_kind(observed.children, "Job") == [] and (gone := _missing(spec, observed)):
            return _with(report(View(observed, spec, now, gone), now), requeue_after=LOOK_AGAIN)
        plan = _with(report(view, now), requeue_after=attempts.look_again(view.unfinished, observed.nodes, now))
        if view.lost and view.job and not view.suspended and not build.over(view.job):
            return _with(plan, delete=_replaced(view, view.lost), requeue_after=SOON)
        return _with(plan, apply=tuple(_children(view, spec, settings)))


def audience(namespace: str, name: str) -> str:
    """Audience of the token a trainer shows to the progress receiver."""
    return f"{labels.GROUP}/{namespace}/finetunejobs/{name}"


def progress_path(namespace: str, name: str) -> str:
    """Path of the progress receiver for one job."""
    return f"/apis/{labels.API_VERSION}/namespaces/{namespace}/finetunejobs/{name}/status"


def output_claim(spec: FineTuneJobSpec, name: str) -> str:
    """The claim the job writes to."""
    return spec.output.pvc.claim_name or f"{name}-output"


def checkpoints_claim(spec: FineTuneJobSpec, name: str) -> str | None:
    """The claim that checkpoints alone are written to."""
    volume = spec.checkpoints.volume
    return (volume.claim_name or f"{name}-checkpoints") if volume else None


def _replaced(view: View, loss: attempts.Loss) -> tuple[Ref, ...]:
    """The Job whose pod is lost, once status has it, and the failures that its successor begins with."""
    parent = view.parent
    told = attempts.is_told(view.told, loss.pod) and (dig(parent, "status", "restarts") or 0) == view.failures
    return (Ref("batch/v1", "Job", parent["metadata"]["namespace"], parent["metadata"]["name"]),) if told else ()


def _named(spec: FineTuneJobSpec, namespace: str) -> tuple[Ref, ...]:
    volume = spec.checkpoints.volume
    claims = {spec.output.pvc.claim_name, volume.claim_name if volume else None} - {None}
    return (
        *sources.references(namespace, spec.base.source),
        *sources.references(namespace, spec.dataset.source),
        *(build.claim(namespace, str(claim)) for claim in sorted(filter(None, claims))),
    )


def _missing(spec: FineTuneJobSpec, observed: Observed) -> Cause | None:
    namespace = observed.parent["metadata"]["namespace"]
    gone = sources.missing(observed.references, _named(spec, namespace))
    return gone or sources.missing_key(spec.dataset, namespace, observed.references)


def _children(view: View, spec: FineTuneJobSpec, settings: PlanSettings) -> list[Manifest]:
    parent, name, job = view.parent, view.parent["metadata"]["name"], view.job
    needs = sources.base(spec.base, _commit(view, "base")) + sources.dataset(spec.dataset, _commit(view, "dataset"))
    made: list[Manifest] = [_config_map(parent, spec, needs, settings)]
    wanted = {f"{name}-output": spec.output.pvc, f"{name}-checkpoints": spec.checkpoints.volume}
    for claim, volume in wanted.items():
        there = build.named(view.observed.children, "PersistentVolumeClaim", claim)
        if volume and not volume.claim_name and not there:
            made.append(_claim(parent, claim, volume))
    if job is None:
        made.append(_job(view, spec, needs, settings))
    elif not build.over(job) and (changed := _changes(job, spec)):
        made.append(build.respecified(job, _used_up(spent(job), failed_before(job)), **changed))
    return made


def _commit(view: View, item: str) -> str | None:
    """Where the job's first pod found an input: whoever resumes goes on with the very same."""
    known = outcome.read(Resolved, dig(view.parent, "status", item)) or view.fetched.get(item)
    return known.revision if known else None


def _changes(job: Raw, spec: FineTuneJobSpec) -> dict[str, Any]:
    """What differs of the fields that a Job lets one change."""
    wanted = {
        "suspend": spec.suspend,
        "activeDeadlineSeconds": _deadline(spec, spent(job)),
        "backoffLimit": _retries(spec, failed_before(job)),
    }
    return {key: value for key, value in wanted.items() if (dig(job, "spec", key) or None) != (value or None)}


def _deadline(spec: FineTuneJobSpec, over: int) -> int | None:
    """What is left of the deadline to a Job after earlier ones."""
    asked = spec.active_deadline_seconds
    return max(1, asked - over) if asked else None


def _retries(spec: FineTuneJobSpec, failures: int) -> int:
    """What is left of backoffLimit to a Job after earlier ones."""
    return max(0, spec.backoff_limit - failures)


def _used_up(seconds: int, failures: int) -> dict[str, str]:
    """The annotations that tell a Job's successors and its repair what earlier ones took."""
    return build.numbered(labels.SPENT, seconds) | build.numbered(labels.FAILED, failures)


def _config_map(parent: Raw, spec: FineTuneJobSpec, needs: sources.Needs, settings: PlanSettings) -> Manifest:
    name = parent["metadata"]["name"]
    trainer = TrainerConfig(
        job=name,
        base=str(MODEL_DIR),
        dataset=TrainerData(path=str(DATASET_DIR), format=spec.dataset.format),
        method=spec.method,
        training=spec.training,
        checkpoints=spec.checkpoints.model_copy(update={"volume": None}),
        output=str(OUTPUT_DIR / name),
        checkpoint_folder=str(CHECKPOINT_DIR / name) if spec.checkpoints.volume else None,
    )
    fetch = FetchConfig(items=list(needs.items), hub_endpoint=settings.hub_endpoint, patience=FETCH_PATIENCE)
    data = {
        "fetch.json": fetch.to_json(),
        "trainer.json": trainer.to_json(),
        "ca.crt": settings.progress_ca,
    }
    return build.child(parent, TRAINER, "v1", "ConfigMap", f"{name}-config", {"data": data})


def _claim(parent: Raw, name: str, wanted: Claim) -> Manifest:
    body: dict[str, Any] = {
        "accessModes": [str(wanted.access_mode or AccessMode.RWO)],
        "resources": {"requests": {"storage": str(DEFAULT_SIZE if wanted.size is None else wanted.size)}},
    }
    if wanted.storage_class_name:
        body["storageClassName"] = wanted.storage_class_name
    return build.child(parent, TRAINER, "v1", "PersistentVolumeClaim", name, {"spec": body})


def _job(view: View, spec: FineTuneJobSpec, needs: sources.Needs, settings: PlanSettings) -> Manifest:
    parent, name, user = view.parent, view.parent["metadata"]["name"], spec.pod_template
    pod = pods.template(_main(parent, spec, settings), needs, f"{name}-config", user, spec.gpu, settings)
    pod |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": pods.GRACE_SECONDS}
    meta: dict[str, Any] = {"labels": dict(user.labels) | labels.child_labels(TRAINER, name)}
    if user.annotations:
        meta["annotations"] = dict(user.annotations)
    body: dict[str, Any] = {
        "backoffLimit": _retries(spec, view.failures),
        "suspend": spec.suspend,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": _failure_rules()},
        "template": {"metadata": meta, "spec": pod},
    }
    begun = dig(parent, "status", "startTime")
    over = int(build.elapsed(begun, view.now)) if begun else 0
    if deadline := _deadline(spec, over):
        body["activeDeadlineSeconds"] = deadline
    return build.child(parent, TRAINER, "batch/v1", "Job", name, {"spec": body}, _used_up(over, view.failures))


def _failure_rules() -> list[dict[str, Any]]:
    """Wrong input fails at once; a pod that was told to go or is superseded costs no retry; anything else counts."""
    bad = {"operator": "In", "values": [EXIT_BAD_INPUT]}
    ended = {"operator": "In", "values": [EXIT_SUPERSEDED, EXIT_TERMINATED]}
    both = (diagnose.FETCH, TRAINER)
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        *({"action": "Ignore", "onExitCodes": {"containerName": who, **ended}} for who in both),
        *({"action": "FailJob", "onExitCodes": {"containerName": who, **bad}} for who in both),
    ]


def _main(parent: Raw, spec: FineTuneJobSpec, settings: PlanSettings) -> pods.Main:
    name, namespace = parent["metadata"]["name"], parent["metadata"]["namespace"]
    token = {"audience": audience(namespace, name), "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    claims = {"output": (output_claim(spec, name), OUTPUT_DIR)}
    if apart := checkpoints_claim(spec, name):
        claims["checkpoints"] = (apart, CHECKPOINT_DIR)
    return pods.Main(
        name=TRAINER,
        image=spec.trainer.image or settings.trainer_image,
        config="trainer.json",
        env=_environment(settings.progress_url + progress_path(namespace, name), spec.gpu),
        mounts=(
            *({"name": volume, "mountPath": str(path)} for volume, (_, path) in claims.items()),
            {"name": "progress-token", "mountPath": TOKEN_DIR, "readOnly": True},
        ),
        volumes=(
            *({"name": v, "persistentVolumeClaim": {"claimName": claim}} for v, (claim, _) in claims.items()),
            {"name": "progress-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        ),
    )


def _environment(url: str, gpu: Gpu | None) -> tuple[dict[str, Any], ...]:
    """KEP-2779's three variables: any trainer that speaks the protocol reports to us. And the GPUs, if it has any."""
    values: Mapping[str, str] = {
        "KUBEFLOW_TRAINER_SERVER_URL": url,
        "KUBEFLOW_TRAINER_SERVER_TOKEN": f"{TOKEN_DIR}/token",
        "KUBEFLOW_TRAINER_SERVER_CA_CERT": str(CONFIG_DIR / "ca.crt"),
        **({GPUS_VARIABLE: str(gpu.count)} if gpu else {}),
    }
    return tuple({"name": key, "value": value} for key, value in values.items())


def _with(plan: Plan, **changes: Any) -> Plan:
    return Plan(**{**plan.__dict__, **changes})
