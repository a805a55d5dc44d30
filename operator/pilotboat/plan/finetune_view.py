"""What can be seen of a FineTuneJob: its Job, its pods, how containers ended, what they reported.

Owns: reading the Job's conditions and the containers' reports. Must not know: what is said or done about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from ..api import conditions as kinds
from ..api import labels
from ..api.finetune_job import Artifact, Attempt, FineTuneJobSpec, Resolved
from ..api.reasons import Reason
from ..api.runtime import FetchResult, TrainerResult
from . import attempts, build, diagnose, outcome
from .build import Raw, dig
from .diagnose import Ended
from .outcome import Cause
from .types import Observed

TRAINER = "trainer"
"""Name of the main container."""

_JOB_REASONS = {
    "DeadlineExceeded": (Reason.DEADLINE_EXCEEDED, "activeDeadlineSeconds passed"),
    "BackoffLimitExceeded": (Reason.BACKOFF_LIMIT_EXCEEDED, "the trainer failed too often"),
}


@dataclass(frozen=True)
class View:
    """What status is made from."""

    observed: Observed
    spec: FineTuneJobSpec | None
    now: datetime
    blocked: Cause | None = None
    """Why the Job cannot be made."""

    @property
    def parent(self) -> Raw:
        """The FineTuneJob."""
        return self.observed.parent

    @property
    def generation(self) -> int:
        """The parent's generation."""
        return int(self.parent["metadata"].get("generation", 0))

    @property
    def job(self) -> Raw | None:
        """The batch Job, where it is there."""
        return build.named(self.observed.children, "Job", self.parent["metadata"]["name"])

    @property
    def pods(self) -> list[Raw]:
        """Pods of this very Job by name: those of an earlier one of its name say nothing about it."""
        uid = dig(self.job, "metadata", "uid")
        mine = [pod for pod in self.observed.pods if uid and _controller(pod) == uid]
        return sorted(mine, key=lambda pod: str(pod["metadata"]["name"]))

    @property
    def unfinished(self) -> list[Raw]:
        """Pods that have not ended yet, as far as has been heard."""
        return [pod for pod in self.pods if dig(pod, "status", "phase") in (None, "Pending", "Running")]

    @property
    def lost(self) -> attempts.Loss | None:
        """The pod that nobody hears of, where there is one."""
        return next((loss for pod in self.unfinished if (loss := self._lost(pod))), None)

    def _lost(self, pod: Raw) -> attempts.Loss | None:
        return attempts.lost(pod, self.observed.nodes, self.now, self.told)

    @property
    def unjudged(self) -> attempts.Loss | None:
        """The pod of which it cannot be told whether anybody hears of it."""
        return next((silence for pod in self.unfinished if (silence := self._unjudged(pod))), None)

    def _unjudged(self, pod: Raw) -> attempts.Loss | None:
        return attempts.unjudged(pod, self.observed.nodes, self.now, self.told)

    @property
    def trains(self) -> str | None:
        """The pod in which a trainer runs now."""
        running = (pod for pod in self.pods if diagnose.running(pod, TRAINER))
        heard = (pod for pod in running if not (self._lost(pod) or self._unjudged(pod)))
        return next((str(pod["metadata"]["name"]) for pod in heard), None)

    @property
    def of_one_node(self) -> list[str]:
        """The claims we made that one node alone can mount: after its loss they are held by it for a while."""
        claims = build.of_kind(self.observed.children, "PersistentVolumeClaim")
        return sorted(c["metadata"]["name"] for c in claims if dig(c, "spec", "accessModes") == ["ReadWriteOnce"])

    @cached_property
    def told(self) -> dict[str, Attempt]:
        """The attempts that status has already, by pod."""
        return attempts.told(self.parent)

    @cached_property
    def attempts(self) -> list[Attempt]:
        """The last pods, of earlier Jobs too."""
        return attempts.record(self.told, self.pods, self.observed.nodes, self.now)

    @property
    def failures(self) -> int:
        """Failures that count: of this Job and of those whose place it took."""
        if self.job is None:
            return int(dig(self.parent, "status", "restarts") or 0)
        return failed_before(self.job) + int(dig(self.job, "status", "failed") or 0)

    @property
    def started_at(self) -> str | None:
        """When the first of the Jobs began that came after one another without a word of the user's."""
        before: str | None = dig(self.parent, "status", "startTime")
        ours: str | None = dig(self.job, "status", "startTime")
        return before or ours if spent(self.job) else ours or before

    @property
    def suspended(self) -> bool:
        """Whether the job shall not run."""
        return self.spec.suspend if self.spec else bool(dig(self.job, "spec", "suspend"))

    @property
    def cause(self) -> Cause | None:
        """Why the job does not get on, or what it waits for."""
        return self.blocked or outcome.refused(self.observed.rejected) or diagnose.cause(self.unfinished)

    @property
    def failure(self) -> Cause | None:
        """Why the Job failed for good: what the container said, else what the Job controller says."""
        said = self.job_says("Failed")
        if not said:
            return None
        bad = [ended for who in (diagnose.FETCH, TRAINER) if (ended := self.ended(who, good=False))]
        if said.get("reason") == "DeadlineExceeded" or not bad:
            reason, words = _JOB_REASONS.get(said.get("reason", ""), (Reason.TRAINING_FAILED, ""))
            return Cause(reason, said.get("message") or words)
        return diagnose.explain(max(bad, key=lambda ended: ended.finished_at))

    @property
    def result(self) -> TrainerResult | None:
        """What the trainer reports to have made."""
        ended = self.ended(TRAINER, good=True)
        report = ended.report if ended else None
        return outcome.read(TrainerResult, report.result) if report else None

    @property
    def output(self) -> Artifact | None:
        """What was made, and on which claim."""
        made = self.result
        volumes = dig(self.job, "spec", "template", "spec", "volumes") or ()
        claim = next((dig(v, "persistentVolumeClaim", "claimName") for v in volumes if v["name"] == "output"), None)
        if made is None or claim is None:
            return None
        return Artifact(claim_name=claim, **made.model_dump(include={"type", "path", "digests", "files_sha256"}))

    @property
    def fetched(self) -> dict[str, Resolved]:
        """The inputs as they were resolved, by name."""
        ended = self.ended(diagnose.FETCH, good=True)
        report = ended.report if ended else None
        known = outcome.read(FetchResult, report.result) if report else None
        items = known.items if known else {}
        return {name: Resolved(revision=item.revision, digests=item.digests) for name, item in items.items()}

    @property
    def over_at(self) -> str | None:
        """When the Job ended."""
        said = self.job_says("Complete") or self.job_says("Failed")
        return said.get("lastTransitionTime") if said else None

    def ended(self, container: str, good: bool) -> Ended | None:
        """The latest ending of that container, good or bad, among the job's pods."""
        endings = [e for pod in self.pods if (e := diagnose.ended_container(pod, container))]
        fitting = [e for e in endings if (e.exit_code == 0) == good]
        return max(fitting, key=lambda e: e.finished_at, default=None)

    def job_says(self, kind: str) -> Raw | None:
        """The Job's condition of that type, where it is True."""
        told = dig(self.job, "status", "conditions") or ()
        return next((c for c in told if c.get("type") == kind and c.get("status") == "True"), None)


def finished(parent: Raw) -> bool:
    """Whether the record says that the job is over."""
    return any(c.type in (kinds.COMPLETE, kinds.FAILED) and c.status == "True" for c in outcome.previous(parent))


def spent(job: Raw | None) -> int:
    """Seconds of the deadline that earlier Jobs used up."""
    return build.number(job, labels.SPENT)


def failed_before(job: Raw | None) -> int:
    """Failures of earlier Jobs."""
    return build.number(job, labels.FAILED)


def _controller(pod: Raw) -> str | None:
    owners = dig(pod, "metadata", "ownerReferences") or ()
    return next((owner.get("uid") for owner in owners if owner.get("controller")), None)
