"""A ModelDeployment as its status is made from: the observed world, and the decision taken on it.

Owns: View, and what can be counted in it. Must not know: conditions and words (deployment_status.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..api.model_deployment import ModelDeploymentSpec
from ..api.rollout import Action, RolloutStatus, Verb
from . import actions, build, diagnose, load, outcome, rollout, routes
from .build import Raw, dig
from .course import Course
from .outcome import Cause
from .recovery import Recovery
from .seeds import Seeds
from .types import Observed


@dataclass(frozen=True)
class View:
    """What status is made from: the observed world and the decision taken on it."""

    observed: Observed
    spec: ModelDeploymentSpec | None
    way: routes.Way
    blocked: Cause | None = None
    """Why no pods can be made for this spec; what ran before keeps running."""
    target: str | None = None
    """The revision asked for; where blocked, one that was rolled out for this very generation (kept.py)."""
    course: Course | None = None
    starved: bool = False
    recovery: Recovery = field(default_factory=Recovery)
    seeds: Seeds | None = None

    @property
    def step(self) -> rollout.Step | None:
        """Replicas of every revision, where they are known."""
        return self.course.step if self.course else None

    @property
    def canary(self) -> RolloutStatus | None:
        """The canary under way, or given up."""
        return self.course.state if self.course else None

    @property
    def missed(self) -> Action | None:
        """What is asked of a revision that is not the canary, nor is to be one next: it is never done."""
        asked = actions.due(self.observed.parent, self.spec.rollout) if self.spec else None
        if asked is None or asked.revision is None or self.course is None:
            return None
        canary = self.target if self.course.promoted else self.canary and self.canary.canary
        if self.course.heard:
            return None if asked.revision == canary else asked
        waits = self.blocked is not None or asked.revision == self.target  # who is next is not known yet, or is this
        return None if waits or (asked.revision == canary and asked.verb is Verb.ABORT) else asked

    @property
    def generation(self) -> int:
        """The parent's generation: what observedGeneration says."""
        return int(self.observed.parent["metadata"].get("generation", 0))

    @property
    def want(self) -> int:
        """Replicas asked for."""
        if self.spec:
            return self.spec.wanted
        given = dig(self.observed.parent, "spec", "replicas")
        return given if isinstance(given, int) else 1

    @property
    def deployments(self) -> list[Raw]:
        """All revisions' Deployments."""
        return build.of_kind(self.observed.children, "Deployment")

    @property
    def pods(self) -> list[Raw]:
        """Pods that are neither over nor on their way out."""
        return [pod for pod in self.observed.pods if diagnose.lasting(pod)]

    @property
    def extra(self) -> int:
        """Replicas above those wanted, in the place of lost ones."""
        return self.recovery.extra(self.observed, self.want)

    @property
    def spare(self) -> int:
        """Spare replicas asked for now."""
        lent = self.course is not None and self.course.lent
        return self.spec.wanted - self.spec.replicas if self.spec and not lent else 0

    @property
    def unplaced(self) -> int:
        """Spare replicas that find no place: others have it before them, those in the place of lost ones too."""
        return min(self.spare, sum(diagnose.unplaced(pod) is not None for pod in self.pods))

    @property
    def target_pods(self) -> list[Raw]:
        """Pods of the revision the spec asks for, evicted ones too: they say why."""
        return build.of_revision(self.observed.pods, self.target)

    @property
    def pods_ready(self) -> int:
        """Pods of any revision that serve now."""
        return sum(diagnose.ready(pod) for pod in self.observed.pods)

    @property
    def updated_ready(self) -> int:
        """Pods of the asked revision that serve now."""
        return sum(diagnose.ready(pod) for pod in self.target_pods)

    @property
    def updated_bearing(self) -> int:
        """The same, as far as they get their share of the requests."""
        return load.bearing(self.observed, self.target or "", self.recovery.uneven(self.way.through)) // 100

    @property
    def not_created(self) -> Cause | None:
        """Why the Deployment of the revision that is asked for gets no pods."""
        mine = build.of_revision(self.deployments, self.target)
        return next(filter(None, map(outcome.not_created, mine)), None)

    @property
    def held(self) -> bool:
        """Whether all pods were made and their source is gone since."""
        return self.blocked is not None and self.target is not None

    @property
    def stopped(self) -> Cause | None:
        """Why this generation cannot be rolled out, where it has not been."""
        return None if self.held else self.blocked

    @property
    def complete(self) -> bool:
        """Whether this generation is rolled out whole: the asked number of ready pods and nothing else."""
        return self.settled and not self.unplaced

    @property
    def settled(self) -> bool:
        """The same but for spares that find no place: nothing that we wait for changes anything."""
        stepped = self.blocked is None and self.step is not None and self.step.done and not self.canary
        if self.observed.rejected or not (stepped or self.held):
            return False
        counted = self.updated_ready >= self.want - self.unplaced and self.want == len(self.pods) - self.extra
        return counted and self._followed and self.way.as_asked

    @property
    def _followed(self) -> bool:
        """Whether the target's Deployment has been seen by its controller, and all its pods have its template."""
        name = f"{self.observed.parent['metadata']['name']}-{self.target}"
        made = build.named(self.observed.children, "Deployment", name)
        seen = dig(made, "status", "observedGeneration") == dig(made, "metadata", "generation")
        extra = self.recovery.extra(self.observed, self.want, self.target)
        return made is not None and seen and (dig(made, "status", "updatedReplicas") or 0) == self.want + extra
