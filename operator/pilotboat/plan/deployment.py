"""The planner of ModelDeployments: revisions, their children, and the status that tells the truth about them.

Owns: what children a ModelDeployment has. Must not know: how replicas shift (rollout.py), how pods look (pods.py),
what may be evicted (budget.py), what their state means (diagnose.py), how it is told (deployment_status.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from ..api.model_deployment import ModelDeploymentSpec
from ..api.reasons import Reason
from ..api.rollout import RolloutPhase
from ..api.traffic import Traffic
from . import (
    artifact,
    budget,
    build,
    flood,
    foreign_route,
    history,
    http_route,
    kept,
    probe,
    queries,
    recovery,
    rollout,
    routes,
    seeds,
    shrink,
    sources,
    spares,
)
from .build import Raw, dig
from .course import Course, course, meanwhile, observed_by, unmoved
from .deployment_status import report
from .deployment_view import View
from .load import Useless
from .outcome import Cause, invalid
from .readiness import reached
from .recovery import Recovery
from .seen import starving
from .target import Target, config_map, deployment, target
from .types import Manifest, Observed, Plan, PlanSettings, Questions, Ref

LOOK_AGAIN = timedelta(seconds=10)
"""How soon a missing object that we do not watch is looked for again."""


class ModelDeploymentPlanner:
    """See Planner."""

    def references(self, parent: Raw) -> tuple[Ref, ...]:
        """The PVC or the FineTuneJob that is the model's source, its cache's claim, the HTTPRoute and its Gateway."""
        if "deletionTimestamp" in parent["metadata"]:
            return http_route.references(parent)
        try:
            spec = ModelDeploymentSpec.model_validate(parent.get("spec"))
        except ValidationError:  # told in status by plan()
            return http_route.references(parent)
        return (*sources.of_model(parent["metadata"]["namespace"], spec.model), *http_route.references(parent))

    def wants_evidence(self, parent: Raw) -> bool:
        """While a canary is judged by its traffic, or a node of ours is suspect."""
        return observed_by(parent) or recovery.wants_evidence(parent)

    def asks(self, parent: Raw) -> Questions | None:
        """Queries of the user's own, while a canary is to have traffic or is judged."""
        return queries.questions(parent)

    def plan(self, observed: Observed, settings: PlanSettings, now: datetime) -> Plan:
        """The next step towards the spec; a spec that cannot be read or served changes nothing that runs."""
        if "deletionTimestamp" in observed.parent["metadata"]:
            return foreign_route.farewell(observed, now)
        return _also(self._ahead(observed, settings, now), free=foreign_route.free(observed))

    def _ahead(self, observed: Observed, settings: PlanSettings, now: datetime) -> Plan:
        whole = reached(observed)
        observed = build.without(whole, probe.PROBE, seeds.SEED)
        parent, way = observed.parent, routes.way(observed, now)
        try:
            spec = ModelDeploymentSpec.model_validate(parent.get("spec"))
        except ValidationError as error:
            return report(View(observed, None, way, blocked=invalid(error)), now)
        served = sources.served(spec.model, parent["metadata"]["namespace"], observed.references)
        seen = recovery.look(observed, spec, way.pointed and spec.traffic is Traffic.GATEWAY, now)
        told, observed = observed.pods, seen.believed(observed)
        useless = Useless(observed, told, seen.uneven(way.through))
        if isinstance(served, Cause):
            return _kept(whole, observed, useless, spec, served, way, seen, now)
        asked = target(observed, spec, served, settings)
        return _rolled(whole, observed, useless, spec, asked, way, seen, settings, now)


def _kept(
    whole: Observed,
    observed: Observed,
    useless: Useless,
    spec: ModelDeploymentSpec,
    blocked: Cause,
    way: routes.Way,
    seen: Recovery,
    now: datetime,
) -> Plan:
    """No new pods can be made: what was rolled out is scaled and repaired, in what needs no source. Seeds stay."""
    parent, live = observed.parent, history.by_revision(observed)
    there = [_counted(useless, *each) for each in live.items()]
    ahead = meanwhile(observed, spec, there, now)
    held = kept.whole(observed, blocked)
    again = min(LOOK_AGAIN, way.again or LOOK_AGAIN, seen.look_again or LOOK_AGAIN)
    revision, canary = kept.revision(observed), ahead.state if ahead else None
    lanes = kept.lanes(observed, revision, ahead, useless.zones) if revision else []
    traffic = routes.manifests(observed, spec, way, lanes, canary, seen.zone_weights) if revision else []
    if ahead and _refused(observed, traffic):
        ahead = unmoved(observed, there)
    sown = seeds.look(whole, spec, held or revision)
    view = View(observed, spec, way, blocked=blocked, target=held, course=ahead, recovery=seen, seeds=sown)
    plan = _also(report(view, now), requeue_after=again)
    if revision is None:
        return plan
    made = kept.scaled(observed, spec, seen, ahead)
    sent = {*routes.revisions(observed, revision), *(lane.revision for lane in lanes)}
    gone = [*budget.surplus(parent, observed.children, spec), *routes.surplus(observed, way, sent)]
    room = budget.manifests(parent, spec, view.spare - view.unplaced)
    ordered = _ordered(shrink.costs(observed, made, useless), traffic, made, room, canary is not None)
    return _also(plan, **ordered, delete=tuple(Ref.of(raw) for raw in gone))


def _rolled(
    whole: Observed,
    observed: Observed,
    useless: Useless,
    spec: ModelDeploymentSpec,
    target: Target,
    way: routes.Way,
    seen: Recovery,
    settings: PlanSettings,
    now: datetime,
) -> Plan:
    """`observed` is the `whole` without probes and seeds."""
    parent = observed.parent
    live = history.by_revision(observed)
    wanted = spec.rollout.rollback_to or target.revision
    if wanted != target.revision and wanted not in live:
        return _kept(whole, observed, useless, spec, history.missing(wanted, live), way, seen, now)
    mine, starved = live.pop(wanted, None), starving(observed, wanted)
    older = sorted(live.items(), key=lambda entry: _shrink_first(entry[1]))
    first, *others = there = [_counted(useless, *each) for each in ((wanted, mine), *older)]
    ahead = course(whole, spec, first, others, _unrouted(way), starved, settings, now)
    made = _replicas(observed, target, wanted, mine, older, ahead, seen)
    routed = routes.revisions(observed, wanted)
    lanes = routes.lanes(observed, routed, useless.zones, ahead.weights, ahead.step.ended)
    traffic = routes.manifests(observed, spec, way, lanes, ahead.state, seen.zone_weights)
    rests = ahead.rests(observed_by(parent))
    if rests and _refused(observed, traffic):
        ahead = unmoved(observed, there)
    pod = target.pod if wanted == target.revision else dig(mine, "spec", "template", "spec")
    sown, stale, grown = _seeds(whole, spec, wanted, pod, ahead)
    view = View(observed, spec, way, None, wanted, ahead, starved is not None, seen, grown)
    unsent = routes.surplus(observed, way, {*routed, *(lane.revision for lane in lanes)})
    gone = [*_surplus(observed, spec, wanted, ahead), *unsent]
    last = [*budget.manifests(parent, spec, view.spare - view.unplaced), *ahead.probes, *sown]
    return _also(
        report(view, now),
        **_ordered(shrink.costs(observed, made, useless), traffic, made, last, rests),
        delete=(*(Ref.of(raw) for raw in gone), *probe.surplus(whole.children, ahead.wanted), *stale),
        requeue_after=_again(observed, spec, way, ahead, seen, now),
    )


def _seeds(
    whole: Observed, spec: ModelDeploymentSpec, wanted: str, pod: Raw, ahead: Course
) -> tuple[tuple[Manifest, ...], tuple[Ref, ...], seeds.Seeds | None]:
    """Seeds of the revision that is asked for; those to let go, of revisions without replicas now and later; and how
    far those are that are told of: stable's, where the revision that is asked for was given up."""
    if not spec.model.cache.seeds:
        return (), seeds.surplus(whole, ()), None
    fetched = artifact.fetched(whole, wanted)
    sown = seeds.manifests(whole, spec, wanted, pod, ahead.step.target, fetched)
    kept = {revision for revision, count in ahead.step.others.items() if count}
    kept |= {ahead.state.stable} if ahead.state else set()
    kept |= {wanted} if sown else set()
    if not (spec.wanted or sown):  # nodes keep what they have until a replica fetches what was pushed
        kept |= set(history.by_revision(whole))
    stale = seeds.surplus(whole, kept)
    if ahead.state and ahead.state.phase is RolloutPhase.ABORTED:
        return sown, stale, seeds.look(whole, spec, ahead.state.stable)
    return sown, stale, seeds.look(whole, spec, wanted, pod)


def _again(
    observed: Observed, spec: ModelDeploymentSpec, way: routes.Way, ahead: Course, seen: Recovery, now: datetime
) -> timedelta | None:
    """When something changes by time alone, or without a word to us."""
    asked = routes.HEARD_BY if http_route.changes_unheard(observed, observed_by(observed.parent)) else None
    own = (spares.look_again(observed, spec, ahead.lent, now), flood.look_again(observed, now))
    return min((wait for wait in (way.again, ahead.look_again, asked, seen.look_again, *own) if wait), default=None)


def _unrouted(way: routes.Way) -> Cause | None:
    """Why nothing splits the traffic (yet)."""
    return None if way.pointed else way.cause or Cause(Reason.GATEWAY_STARTING, "the gateway is not in use yet")


def _ordered(
    costs: Mapping[str, str | None],
    traffic: Sequence[Manifest],
    made: Sequence[Manifest],
    last: Sequence[Manifest],
    rests: bool,
) -> dict[str, Any]:
    """The parts of a plan, in order; `rests`: whether replicas rest on how the traffic is split."""
    first = {"costs": costs}
    if rests:
        return first | {"apply": tuple(traffic), "after": (*made, *last)}
    return first | {"apply": (*made, *traffic, *last)}


def _refused(observed: Observed, traffic: Sequence[Manifest]) -> bool:
    """Whether the traffic is not split as was planned, so that nothing else was done."""
    return any(Ref.of(manifest) in observed.rejected for manifest in traffic)


def _replicas(
    observed: Observed,
    target: Target,
    wanted: str,
    mine: Raw | None,
    older: list[tuple[str, Raw]],
    ahead: Course,
    seen: Recovery,
) -> list[Manifest]:
    """Every revision with its replicas: the one asked for whole, unless it is an earlier one, which stays as it is."""
    parent, extra = observed.parent, seen.extra(observed, ahead.step.target, wanted)
    if wanted == target.revision:
        made = [config_map(parent, target), deployment(parent, target, ahead.step.target, extra)]
    else:
        made = recovery.resized(mine, ahead.step.target, extra) if mine else []
    for revision, raw in older:
        rest = ahead.step.others[revision]
        made += recovery.resized(raw, rest, seen.extra(observed, rest, revision))
    return made


def _surplus(observed: Observed, spec: ModelDeploymentSpec, wanted: str, ahead: Course) -> list[Raw]:
    """Old revisions beyond those that are kept, with their ConfigMaps, and a budget that is no longer wanted."""
    parent, children = observed.parent, observed.children
    live = history.by_revision(observed)
    over = history.over(live, wanted, ahead.step, spec.rollout.history)
    over -= {ahead.state.stable} if ahead.state else set()  # while nothing is wanted it has no pods either
    kept = {wanted, *live} - over
    gone = [raw for revision, raw in live.items() if revision in over]
    configs = [raw for raw in build.of_kind(children, "ConfigMap") if not routes.is_route(parent, raw)]
    gone += [raw for raw in configs if history.revision_of(parent, raw) not in kept]
    return [*gone, *budget.surplus(parent, children, spec)]


def _counted(useless: Useless, revision: str, deployment: Raw | None) -> rollout.Revision:
    """A revision as the rollout counts it, without stand-ins: a status older than its spec says nothing, and of those
    that Kubernetes calls ready none counts that is of no use."""
    if deployment is None:
        return rollout.Revision(revision, 0, 0)
    known = dig(deployment, "status", "observedGeneration") == dig(deployment, "metadata", "generation")
    stand_ins, idle = recovery.stand_ins(deployment), useless.count(revision)
    asked = max(0, (dig(deployment, "spec", "replicas") or 0) - stand_ins)
    ready = max(0, (dig(deployment, "status", "availableReplicas") or 0) - idle)
    return rollout.Revision(revision, asked, ready, known, max(0, min(asked - ready, idle - stand_ins)))


def _shrink_first(deployment: Raw) -> tuple[bool, str, str]:
    """Broken revisions shrink before serving ones, then the oldest first."""
    broken = not dig(deployment, "status", "availableReplicas")
    return (not broken, *history.age(deployment))


def _also(plan: Plan, **changes: Any) -> Plan:
    return Plan(**{**plan.__dict__, **changes})
