"""What is said about a ModelDeployment: conditions, counts, causes, events.

Owns: the status of a ModelDeployment. Must not know: what is done about it (deployment.py).
"""

from __future__ import annotations

from datetime import datetime

from ..api import conditions as kinds
from ..api import labels
from ..api.conditions import Condition
from ..api.model_deployment import Failure, ModelDeploymentStatus
from ..api.reasons import Reason
from ..api.recovery import RecoveryStatus, ZoneStatus
from ..api.rollout import RolloutPhase, RolloutStatus
from . import (
    actions,
    artifact,
    build,
    diagnose,
    flood,
    history,
    http_route,
    notes,
    outcome,
    recovery,
    rollout,
    seeds,
    story,
)
from .build import dig
from .canary_status import canary_condition, records, standing
from .deployment_view import View
from .outcome import Cause
from .types import Event, Plan


def report(view: View, now: datetime) -> Plan:
    """The status and the events, as a plan that does nothing else."""
    old = outcome.previous(view.observed.parent)
    refused = flood.look(view.observed, now)
    found = [*_conditions(view), *flood.condition(refused, view.generation, now)]
    new = outcome.merged(view.observed.parent, found, build.timestamp(now))
    recovered = _recovered(view, now)
    told = _events(view, old, new, recovery.events(view.recovery, recovered) if view.spec else ())
    status = _status(view, new, recovered).model_copy(update={"feedback_refused": refused})
    return Plan(status=status.wire(), events=told, requeue_after=flood.look_again(view.observed, now))


def _recovered(view: View, now: datetime) -> RecoveryStatus | None:
    """What is remembered of losses; kept as it is where the spec cannot be read."""
    if view.spec is None or view.observed.rejected:
        return outcome.read(RecoveryStatus, dig(view.observed.parent, "status", "recovery"))
    rolling = view.canary is not None or (view.step is not None and not view.step.done)
    return recovery.record(view.recovery, view.observed, view.want, view.unplaced, rolling or _changed(view), now)


def _changed(view: View) -> bool:
    """Whether the spec is newer than what the status tells of."""
    return bool(dig(view.observed.parent, "status", "observedGeneration") != view.generation)


def _events(view: View, old: list[Condition], new: list[Condition], lost: tuple[Event, ...]) -> tuple[Event, ...]:
    """A canary's and a loss's story first; a condition adds no event of a reason that these have told."""
    told = story.told(view.observed.parent, view.spec.rollout, view.course) if view.spec and view.course else ()
    told = (*lost, *story.missed(view.missed, view.canary), *told)
    reasons = {event.reason for event in told}
    return (*told, *(event for event in outcome.events(old, new) if event.reason not in reasons))


def _conditions(view: View) -> list[Condition]:
    cause = _cause(view)
    invalid = view.blocked is not None and view.blocked.reason == Reason.INVALID_SPEC
    spec_cause = view.blocked if invalid else None
    return [
        outcome.told(view.generation, kinds.SPEC_VALID, not invalid, spec_cause, Reason.VALID, notes.unused(view.spec)),
        artifact.condition(view),
        *seeds.condition(view.seeds, view.generation),
        *_gateway(view),
        *canary_condition(view.canary, view.generation),
        *_zones(view),
        _available(view, cause),
        _ready(view, cause),
        _progressing(view, cause),
    ]


def _cause(view: View) -> Cause:
    """The one cause that keeps this generation from being rolled out; meaningless where it is."""
    refused = outcome.refused(view.observed.rejected)
    found = (
        view.stopped
        or refused
        or view.not_created
        or _steps(view)
        or _spares(view)
        or _lost(view)
        or _pods(view)
        or _unrouted(view)
        or view.blocked
    )
    return found or Cause(Reason.STARTING, f"{view.updated_ready} of {view.want} replicas are ready")


def _spares(view: View) -> Cause | None:
    """Where nothing is missing but them."""
    if not (view.settled and view.unplaced):
        return None
    words = next((words for pod in view.pods if (words := diagnose.unplaced(pod))), "")
    told = f"{view.unplaced} of {view.spare} spare replicas find no place"
    return Cause(Reason.SPARES_PENDING, f"{told}; lower spec.zones.spare, or add nodes: {words}")


def _lost(view: View) -> Cause | None:
    """What was lost, or what a replica that is to stand in for it has to say, if that is more telling."""
    lost = recovery.cause(view.recovery, view.observed, view.spare)
    if lost is None:
        return None
    gone = view.recovery.losses.pods | view.recovery.losses.unjudged
    found = diagnose.cause(pod for pod in view.target_pods if pod["metadata"]["name"] not in gone)
    return found if found and found.fault and found.reason != Reason.UNSCHEDULABLE else lost


def _zones(view: View) -> list[Condition]:
    if view.spec is None:
        return []
    return recovery.condition(view.recovery, view.observed, view.spec, view.spare, view.generation)


def _steps(view: View) -> Cause | None:
    """Where the canary stands, unless its pods have something more telling to say."""
    if view.canary is None or view.spec is None:
        return None
    found = diagnose.cause(view.target_pods) if view.canary.phase is not RolloutPhase.ABORTED else None
    if found and found.fault and found.reason != Reason.UNSCHEDULABLE:
        return found
    if found and view.canary.weight and view.canary.canary == view.target and not view.updated_ready:
        share = f"canary {view.target} has {view.canary.weight} % of the traffic and no ready replica"
        return Cause(found.reason, f"{share}, so that the others serve it: {found.message}")
    return standing(view.canary, len(view.spec.rollout.steps))


def _unrouted(view: View) -> Cause | None:
    return view.way.cause if view.pods_ready and not view.way.as_asked else None


def _pods(view: View) -> Cause | None:
    found = diagnose.cause(view.target_pods)
    replacing = view.step is not None and not view.step.done
    if found and found.reason == Reason.UNSCHEDULABLE and view.starved and view.pods_ready and replacing:
        return Cause(Reason.INSUFFICIENT_SURGE_CAPACITY, f"no room for a pod of the new revision: {found.message}")
    if view.step and replacing and not (found and found.fault):
        rest = sum(view.step.others.values())
        useless = view.course.useless if view.course else 0
        told = f"{view.updated_bearing} of {view.want} replicas updated, {rest} of older revisions remain"
        return Cause(Reason.ROLLING_OUT, told + rollout.beside(useless))
    extra = len(view.pods) - view.want - view.extra
    return Cause(Reason.SCALING, f"{extra} surplus pods are ending") if found is None and extra > 0 else found


def _available(view: View, cause: Cause) -> Condition:
    count = view.pods_ready
    if not count and view.want == 0:
        cause = Cause(Reason.SCALED_TO_ZERO, "spec.replicas is 0")
    elif view.blocked and view.pods:
        cause = diagnose.cause(view.observed.pods) or cause
    if count and view.way.cut_off:
        cause = view.way.cause or cause
    serves, words = count > 0 and not view.way.cut_off, "at least one replica serves"
    return outcome.told(view.generation, kinds.AVAILABLE, serves, cause, Reason.SERVING, words)


def _ready(view: View, cause: Cause) -> Condition:
    good = Reason.ROLLED_OUT if view.want else Reason.SCALED_TO_ZERO
    told = f"{view.want} of {view.want} replicas of revision {view.target} serve"
    if view.blocked:
        told = f"{told}, and no new pod could start: {view.blocked.message}"
    return outcome.told(view.generation, kinds.READY, view.complete, cause, good, told)


def _progressing(view: View, cause: Cause) -> Condition:
    """True while we get nearer by waiting; False when done, and False with the cause when somebody should look."""
    if view.complete:
        return outcome.condition(kinds.PROGRESSING, False, Reason.ROLLED_OUT, "nothing left to do", view.generation)
    return outcome.condition(kinds.PROGRESSING, not cause.fault, cause.reason, cause.message, view.generation)


def _gateway(view: View) -> list[Condition]:
    """Told where requests are to go through the gateway, or do so still."""
    way = view.way
    named = http_route.wanted(view.observed.parent)
    if way.port is None and way.cause is None and not named:
        return []
    undone = None if way.pointed else view.stopped or outcome.refused(view.observed.rejected)
    cause = way.cause or undone
    told = "the Gateway has taken the HTTPRoute" if named else "requests go through the namespace's gateway"
    return [outcome.told(view.generation, kinds.GATEWAY_READY, cause is None, cause, Reason.ROUTED, told)]


def _status(view: View, conditions: list[Condition], recovered: RecoveryStatus | None) -> ModelDeploymentStatus:
    parent = view.observed.parent
    name = parent["metadata"]["name"]
    return ModelDeploymentStatus(
        observed_generation=view.generation,
        conditions=conditions,
        ready=f"{min(view.pods_ready, view.want) if view.extra else view.pods_ready}/{view.want}",
        url=_url(view),
        model=artifact.model(view),
        cache=seeds.status(view.seeds),
        replicas=len(view.pods) - view.extra,
        ready_replicas=view.pods_ready,
        updated_replicas=sum(diagnose.lasting(pod) for pod in view.target_pods),
        available_replicas=view.pods_ready,
        selector=f"{labels.INSTANCE}={name},{labels.COMPONENT}=server",
        current_revision=_current(view),
        update_revision=view.target or dig(parent, "status", "updateRevision"),
        revisions=list(history.by_revision(view.observed)) or None,
        rollout=view.canary if view.course else outcome.read(RolloutStatus, dig(parent, "status", "rollout")),
        rollouts=records(view.observed.parent, view.course.ended if view.course else None),
        spares_lent=view.course.lent if view.course else dig(parent, "status", "sparesLent"),
        zones=_zone_states(view),
        recovery=recovered,
        http_route=http_route.named(view.observed),
        last_action=next(iter(_actions(view) or ()), None),
        actions=_actions(view),
        last_failure=_last_failure(view),
        effective=notes.effective(view.spec) if view.spec else dig(parent, "status", "effective"),
    )


def _zone_states(view: View) -> list[ZoneStatus] | None:
    """As they are now; as they were where nothing can be said."""
    if view.spec is not None:
        return view.recovery.remembered
    return outcome.read_all(ZoneStatus, dig(view.observed.parent, "status", "zones")) or None


def _url(view: View) -> str | None:
    """Where the model is served; nowhere as long as nothing could be made."""
    meta = view.observed.parent["metadata"]
    if view.spec is None or view.blocked:
        known: str | None = dig(view.observed.parent, "status", "url")
        return known
    return f"http://{meta['name']}.{meta['namespace']}.svc:{view.spec.service.port}/v1"


def _current(view: View) -> str | None:
    """The revision last rolled out whole (spares may lack), or promoted."""
    promoted = view.course is not None and view.course.promoted
    return view.target if view.settled or promoted else dig(view.observed.parent, "status", "currentRevision")


def _actions(view: View) -> list[str] | None:
    """Ids of the actions that have been heard, whether or not they had an effect, and of those that never can."""
    heard = view.course is not None and (view.course.heard or view.missed is not None)
    return actions.remembered(view.observed.parent, view.spec.rollout.action if view.spec and heard else None)


def _last_failure(view: View) -> Failure | None:
    """The latest failure since this was last whole; also of pods that are gone by now."""
    if view.settled:
        return None
    known = dig(view.observed.parent, "status", "lastFailure")
    return diagnose.failure(view.observed.pods) or outcome.read(Failure, known)
