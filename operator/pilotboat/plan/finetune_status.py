"""What is said about a FineTuneJob: phase, conditions, result, events.

Owns: the status of a FineTuneJob, save `trainerStatus` and `progress`, which the progress receiver writes.
Must not know: what is done about it (finetune.py).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ..api import conditions as kinds
from ..api.conditions import Condition, find
from ..api.finetune_job import FineTuneJobSpec, FineTuneJobStatus, Lora, MethodType, Resolved
from ..api.reasons import Reason
from . import attempts, build, diagnose, notes, outcome
from .build import Raw, dig
from .finetune_view import TRAINER, View, finished
from .outcome import Cause
from .types import Plan

PROGRESS = ("trainerStatus", "progress")
"""Parts of the status that the progress receiver writes."""


def report(view: View, now: datetime) -> Plan:
    """The status and the events, as a plan that does nothing else. A finished record changes no more."""
    if finished(view.parent):
        return _read_again(view)
    old = outcome.previous(view.parent)
    made = outcome.merged(view.parent, _conditions(view), build.timestamp(now))
    return Plan(status=_status(view, made).wire(), events=outcome.events(old, made))


def _read_again(view: View) -> Plan:
    """A record that stays, and says that it was held against a newer spec, so that nobody waits for it."""
    record = {k: v for k, v in view.parent["status"].items() if k not in PROGRESS}
    if record.get("observedGeneration") == view.generation:
        return Plan()
    return Plan(status=record | {"observedGeneration": view.generation})


def _conditions(view: View) -> list[Condition]:
    """Only what is in use: a condition that says nothing yet is not there."""
    invalid = view.blocked if view.blocked and view.blocked.reason == Reason.INVALID_SPEC else None
    made = [_says(view, kinds.SPEC_VALID, invalid is None, invalid or Cause(Reason.VALID, notes.untrained(view.spec)))]
    if invalid and view.job is None:
        return made
    made.append(_data(view))
    made.append(_running(view))
    for optional in (_checkpointed(view), _published(view), _suspended(view), _complete(view), _failed(view)):
        if optional:
            made.append(optional)
    return made


def _says(view: View, kind: str, holds: bool, cause: Cause) -> Condition:
    return outcome.condition(kind, holds, cause.reason, cause.message, view.generation)


def _data(view: View) -> Condition:
    if ended := view.ended(diagnose.FETCH, good=True):
        report = ended.report
        return _says(view, kinds.DATA_READY, True, Cause(Reason.FETCHED, report.message if report else ""))
    before = find(outcome.previous(view.parent), kinds.DATA_READY)
    if before and before.status == "True":
        return before.model_copy(update={"observed_generation": view.generation})
    if bad := view.ended(diagnose.FETCH, good=False):
        return _says(view, kinds.DATA_READY, False, diagnose.explain(bad))
    return _says(view, kinds.DATA_READY, False, _waits(view))


def _running(view: View) -> Condition:
    if pod := view.trains:
        return _says(view, kinds.RUNNING, True, _trains(view, pod))
    if view.job_says("Complete") or view.ended(TRAINER, good=True):  # the Job controller is a second behind the pod
        return _says(view, kinds.RUNNING, False, Cause(Reason.TRAINED, "training is over"))
    if failed := view.failure:
        return _says(view, kinds.RUNNING, False, failed)
    if (silence := view.unjudged) and not view.suspended:
        return _says(view, kinds.RUNNING, False, Cause(Reason.NODE_LOST, silence.message))
    if (loss := view.lost) and not view.suspended:
        return _says(view, kinds.RUNNING, False, Cause(Reason.NODE_LOST, f"{loss.message}; {_goes_on(view)}"))
    return _says(view, kinds.RUNNING, False, _waits(view))


def _trains(view: View, pod: str) -> Cause:
    """What the trainer that runs began with, as soon as it has told."""
    progress = dig(view.parent, "status", "progress") or {}
    step = progress.get("resumedFromStep")
    if step is None or progress.get("pod") != pod:
        return Cause(Reason.TRAINING, "the trainer runs")
    return Cause(Reason.RESUMED, f"the trainer runs; pod {pod} went on from the checkpoint of step {step}")


def _goes_on(view: View) -> str:
    step = dig(view.parent, "status", "progress", "lastCheckpoint", "step")
    told = f"another pod goes on from step {step}" if step is not None else "another pod begins, for nothing was saved"
    claims = " and ".join(view.of_one_node)
    return f"{told}, once {claims} (ReadWriteOnce) can be mounted elsewhere" if claims else told


def _waits(view: View) -> Cause:
    """Why no trainer runs, while the job is not over: what somebody should mend comes first."""
    if view.suspended:
        return Cause(Reason.SUSPENDED, "spec.suspend is true")
    now = view.cause or Cause(Reason.STARTING, "the pod is being created")
    last = view.ended(TRAINER, good=False)
    why = diagnose.explain(last) if last else attempts.last_loss(view.attempts[:-1] if view.pods else view.attempts)
    if why is None or now.fault:
        return now
    return Cause(Reason.RESTARTING, f"{why.message}; now {now.message}")


def _checkpointed(view: View) -> Condition | None:
    saved = dig(view.parent, "status", "progress", "lastCheckpoint")
    if not saved:
        return None
    told = f"a restart continues from step {saved.get('step')}"
    return _says(view, kinds.CHECKPOINTED, True, Cause(Reason.CHECKPOINT_SAVED, told))


def _published(view: View) -> Condition | None:
    if not view.job_says("Complete"):
        return None
    if output := view.output:
        told = f"{output.type.lower()} at {output.path} on claim {output.claim_name}"
        return _says(view, kinds.PUBLISHED, True, Cause(Reason.PUBLISHED, told))
    return _says(view, kinds.PUBLISHED, False, _unreported(view))


def _unreported(view: View) -> Cause:
    """What to think of a Job that is complete and of which no report is there."""
    if view.unfinished:  # the news of the Job overtook the news of its pod
        return Cause(Reason.TRAINED, "training is over, its report is on the way")
    if view.ended(TRAINER, good=True):
        return Cause(Reason.TRAINING_FAILED, "the trainer ended well without a report of what it made")
    return Cause(Reason.TRAINING_FAILED, "the trainer's report was lost with its pod")


def _suspended(view: View) -> Condition | None:
    if view.suspended:
        return _says(view, kinds.SUSPENDED, True, Cause(Reason.SUSPENDED, "spec.suspend is true"))
    if find(outcome.previous(view.parent), kinds.SUSPENDED):
        return _says(view, kinds.SUSPENDED, False, Cause(Reason.RESUMED, "spec.suspend is false again"))
    return None


def _complete(view: View) -> Condition | None:
    if view.job_says("Complete") and view.output:
        return _says(view, kinds.COMPLETE, True, Cause(Reason.TRAINED, _summary(view)))
    return None


def _failed(view: View) -> Condition | None:
    """Only once every pod is known to have ended: the record is final, and the cause must be in it."""
    if view.unfinished:
        return None
    if view.job_says("Complete"):
        return None if view.output else _says(view, kinds.FAILED, True, _unreported(view))
    failed = view.failure
    return _says(view, kinds.FAILED, True, failed) if failed else None


def _summary(view: View) -> str:
    result = view.result
    if result is None:
        return ""
    share = 100 * result.trainable_parameters / max(1, result.total_parameters)
    loss = f", loss {result.train_loss:.3f}" if result.train_loss is not None else ""
    return f"{result.steps} steps over {result.trained_on}{loss}, {share:.3f} % of the weights trained"


def _phase(conditions: list[Condition]) -> str:
    """One word from the conditions that are True, for a printer column."""
    true = {c.type for c in conditions if c.status == "True"}
    for kind, word in (
        (kinds.COMPLETE, "Complete"),
        (kinds.FAILED, "Failed"),
        (kinds.SUSPENDED, "Suspended"),
        (kinds.RUNNING, "Running"),
    ):
        if kind in true:
            return word
    running = find(conditions, kinds.RUNNING)
    if running is None:
        return "Invalid"
    if running.reason == Reason.TRAINED:
        return "Completing"
    return "Restarting" if running.reason == Reason.RESTARTING else "Pending"


def _status(view: View, conditions: list[Condition]) -> FineTuneJobStatus:
    parent = view.parent
    fetched = view.fetched
    shown = next(
        (c for kind in _SHOWN if (c := find(conditions, kind)) and (kind != kinds.SPEC_VALID or c.status == "False")),
        None,
    )
    result = view.result
    return FineTuneJobStatus(
        observed_generation=view.generation,
        phase=_phase(conditions),
        message=shown.message if shown else None,
        conditions=conditions,
        start_time=view.started_at,
        completion_time=view.over_at or dig(parent, "status", "completionTime"),
        restarts=view.failures or None,
        attempts=view.attempts,
        base=fetched.get("base") or _kept(parent, "base"),
        dataset=fetched.get("dataset") or _kept(parent, "dataset"),
        output=view.output,
        result=result.wire() if result else None,
        effective=_effective(view.spec) if view.spec else dig(parent, "status", "effective"),
    )


_SHOWN = (kinds.SPEC_VALID, kinds.COMPLETE, kinds.FAILED, kinds.RUNNING)
"""Whose message is the job's message: the first of these that has something to say."""


def _kept(parent: Raw, name: str) -> Resolved | None:
    return outcome.read(Resolved, dig(parent, "status", name))


def _effective(spec: FineTuneJobSpec) -> dict[str, Any]:
    """Method, training and checkpoints with every default filled in, also those that depend on what is given."""
    method, training = spec.method, spec.training
    if method.type is MethodType.LORA and method.lora is None:
        method = method.model_copy(update={"lora": Lora()})
    if training.epochs is None and training.max_steps is None:
        training = training.model_copy(update={"epochs": 1})
    return {"method": method.wire(), "training": training.wire(), "checkpoints": spec.checkpoints.wire()}
