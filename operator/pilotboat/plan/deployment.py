"""The planner of ModelDeployments: revisions, their children, and the status that tells the truth about them.

Owns: what children a ModelDeployment has. Must not know: how replicas shift (rollout.py), how pods look (pods.py),
what may be evicted (budget.py), what their state means (diagnose.py), how it is told (deployment_status.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from ..api import labels
from ..api.model_deployment import ModelDeploymentSpec
from ..api.reasons import Reason
from ..api.recovery import Spread
from ..api.routing import LOAD_PORT, SERVER_PORT
from ..api.runtime import (
    MODEL_DIR,
    EngineConfig,
    FetchConfig,
    GpuConfig,
    ServedModelConfig,
    ServerConfig,
    ServiceConfig,
)
from ..api.traffic import Traffic
from . import (
    budget,
    build,
    history,
    http_route,
    kept,
    pods,
    probe,
    queries,
    recovery,
    rollout,
    routes,
    sources,
    spares,
)
from .build import Raw, dig
from .course import Course, course, meanwhile, observed_by
from .deployment_status import report
from .deployment_view import View
from .outcome import Cause, invalid
from .readiness import reached
from .recovery import Recovery
from .routes import SERVER
from .seen import starving
from .types import Manifest, Observed, Plan, PlanSettings, Questions, Ref

LOOK_AGAIN = timedelta(seconds=10)
"""How soon a missing object that we do not watch is looked for again."""


@dataclass(frozen=True)
class Target:
    """The revision the spec asks for: its hash and everything that goes into its pods."""

    revision: str
    config: dict[str, str]
    pod: dict[str, Any]
    user_labels: Mapping[str, str]
    user_annotations: Mapping[str, str]


class ModelDeploymentPlanner:
    """See Planner."""

    def references(self, parent: Raw) -> tuple[Ref, ...]:
        """The PVC or the FineTuneJob that is the model's source, the HTTPRoute and its Gateway."""
        try:
            spec = ModelDeploymentSpec.model_validate(parent.get("spec"))
        except ValidationError:  # told in status by plan()
            return http_route.references(parent)
        return (*sources.references(parent["metadata"]["namespace"], spec.model.source), *http_route.references(parent))

    def wants_evidence(self, parent: Raw) -> bool:
        """While a canary is judged by its traffic, or a node of ours is suspect."""
        return observed_by(parent) or recovery.wants_evidence(parent)

    def asks(self, parent: Raw) -> Questions | None:
        """Queries of the user's own, while a canary is to have traffic or is judged."""
        return queries.questions(parent)

    def plan(self, observed: Observed, settings: PlanSettings, now: datetime) -> Plan:
        """The next step towards the spec; a spec that cannot be read or served changes nothing that runs."""
        whole = reached(observed)
        observed = probe.without_probes(whole)
        parent, way = observed.parent, routes.way(observed, now)
        try:
            spec = ModelDeploymentSpec.model_validate(parent.get("spec"))
        except ValidationError as error:
            return report(View(observed, None, way, blocked=invalid(error)), now)
        served = sources.served(spec.model, parent["metadata"]["namespace"], observed.references)
        seen = recovery.look(observed, spec, way.pointed and spec.traffic is Traffic.GATEWAY, now)
        observed = seen.believed(observed)
        if isinstance(served, Cause):
            return _kept(observed, spec, served, way, seen, now)
        target = _target(parent, spec, served, settings)
        return _rolled(whole, observed, spec, target, way, seen, settings, now)


def _kept(
    observed: Observed, spec: ModelDeploymentSpec, blocked: Cause, way: routes.Way, seen: Recovery, now: datetime
) -> Plan:
    """No new pods can be made: what was rolled out is scaled and repaired, in what needs no source."""
    parent, live = observed.parent, history.by_revision(observed)
    ahead = meanwhile(observed, spec, [_counted(*each) for each in live.items()], now)
    whole = kept.whole(observed, blocked)
    view = View(observed, spec, way, blocked=blocked, target=whole, course=ahead, recovery=seen)
    again = min(LOOK_AGAIN, way.again or LOOK_AGAIN, seen.look_again or LOOK_AGAIN)
    plan = _also(report(view, now), requeue_after=again)
    revision = kept.revision(observed)
    if revision is None:
        return plan
    lanes = kept.lanes(observed, revision, ahead)
    traffic = routes.manifests(observed, spec, way, lanes, view.canary, seen.zone_weights)
    made = kept.scaled(observed, spec, seen, ahead)
    applied = [*traffic, *made] if view.canary else [*made, *traffic]
    gone = budget.surplus(parent, observed.children, spec)
    room = budget.manifests(parent, spec, view.spare - view.unplaced)
    return _also(plan, apply=(*applied, *room), delete=tuple(Ref.of(raw) for raw in gone))


def _target(parent: Raw, spec: ModelDeploymentSpec, served: sources.Served, settings: PlanSettings) -> Target:
    name = parent["metadata"]["name"]
    config = {
        "fetch.json": FetchConfig(items=list(served.needs.items), hub_endpoint=settings.hub_endpoint).to_json(),
        "server.json": _server_config(name, spec, served).to_json(),
    }
    secret = spec.service.api_key_secret_ref
    main = pods.Main(
        name=SERVER,
        image=spec.engine.image or settings.server_image,
        config="server.json",
        env=(sources.secret_env("PILOTBOAT_API_KEYS", secret),) if secret else (),
        extra=pods.server_extra(SERVER_PORT, LOAD_PORT),
    )
    pod = pods.template(main, served.needs, f"{name}-REVISION", spec.pod_template, spec.gpu, settings)
    pod["terminationGracePeriodSeconds"] = pods.GRACE_SECONDS
    user = spec.pod_template
    parts = [pod, config, dict(user.labels), dict(user.annotations), spec.zones.spread]
    revision = build.digest(parts)[:8]
    pod["volumes"][0]["configMap"]["name"] = f"{name}-{revision}"
    selector = routes.selector(name, revision)
    pod["topologySpreadConstraints"] = pods.spread(selector, spec.zones.spread is Spread.REQUIRED)
    return Target(revision, config, pod, user.labels, user.annotations)


def _server_config(name: str, spec: ModelDeploymentSpec, served: sources.Served) -> ServerConfig:
    service = spec.service
    return ServerConfig(
        model=ServedModelConfig(path=str(MODEL_DIR), name=name, adapter=served.adapter),
        engine=EngineConfig(type=spec.engine.type, fake=spec.engine.fake),
        inference=spec.inference,
        service=ServiceConfig(
            port=SERVER_PORT,
            agent_port=LOAD_PORT,
            workers=service.workers,
            max_queued_requests=service.max_queued_requests,
            request_timeout=service.request_timeout,
        ),
        gpu=GpuConfig(count=spec.gpu.count) if spec.gpu else None,
    )


def _rolled(
    whole: Observed,
    observed: Observed,
    spec: ModelDeploymentSpec,
    target: Target,
    way: routes.Way,
    seen: Recovery,
    settings: PlanSettings,
    now: datetime,
) -> Plan:
    """`observed` is the `whole` without probes."""
    parent = observed.parent
    live = history.by_revision(observed)
    wanted = spec.rollout.rollback_to or target.revision
    if wanted != target.revision and wanted not in live:
        return report(View(observed, spec, way, blocked=history.missing(wanted, live)), now)
    mine = live.pop(wanted, None)
    starved = starving(observed, wanted)
    older = sorted(live.items(), key=lambda entry: _shrink_first(entry[1]))
    unrouted = None if way.pointed else way.cause or Cause(Reason.GATEWAY_STARTING, "the gateway is not in use yet")
    counted = [_counted(revision, deployment) for revision, deployment in older]
    ahead = course(whole, spec, _counted(wanted, mine), counted, unrouted, starved, settings, now)
    routed = routes.revisions(observed, wanted)
    made = _replicas(observed, target, wanted, mine, older, ahead, seen)
    lanes = routes.lanes(observed, routed, ahead.weights, ahead.step.ended)
    traffic = routes.manifests(observed, spec, way, lanes, ahead.state, seen.zone_weights)
    applied = [*traffic, *made] if ahead.weights else [*made, *traffic]
    view = View(observed, spec, way, target=wanted, course=ahead, starved=starved is not None, recovery=seen)
    unsent = routes.surplus(observed, way, {*routed, *(lane.revision for lane in lanes)})
    gone = [*_surplus(observed, spec, wanted, ahead), *unsent]
    asked = routes.HEARD_BY if http_route.wanted(parent) and observed_by(parent) else None
    room = spares.look_again(observed, spec, ahead.lent, now)
    again = min((wait for wait in (way.again, ahead.look_again, asked, seen.look_again, room) if wait), default=None)
    plan = report(view, now)
    return _also(
        plan,
        apply=(*applied, *budget.manifests(parent, spec, view.spare - view.unplaced), *ahead.probes),
        delete=(*(Ref.of(raw) for raw in gone), *probe.surplus(whole.children, ahead.wanted)),
        requeue_after=again,
    )


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
        made = [_config_map(parent, target), _deployment(parent, target, ahead.step.target, extra)]
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


def _counted(revision: str, deployment: Raw | None) -> rollout.Revision:
    """A revision as the rollout counts it, without stand-ins: a status older than its spec says nothing."""
    if deployment is None:
        return rollout.Revision(revision, 0, 0)
    known = dig(deployment, "status", "observedGeneration") == dig(deployment, "metadata", "generation")
    ready = dig(deployment, "status", "availableReplicas") or 0
    asked = (dig(deployment, "spec", "replicas") or 0) - recovery.stand_ins(deployment)
    return rollout.Revision(revision, max(0, asked), ready, known)


def _shrink_first(deployment: Raw) -> tuple[bool, str, str]:
    """Broken revisions shrink before serving ones, then the oldest first."""
    broken = not dig(deployment, "status", "availableReplicas")
    return (not broken, *history.age(deployment))


def _config_map(parent: Raw, target: Target) -> Manifest:
    name = f"{parent['metadata']['name']}-{target.revision}"
    body = {"data": target.config}
    return build.child(parent, SERVER, "v1", "ConfigMap", name, body, **{labels.REVISION: target.revision})


def _deployment(parent: Raw, target: Target, replicas: int, extra: int) -> Manifest:
    """`extra`: replicas in the place of lost ones."""
    name = parent["metadata"]["name"]
    ours = labels.child_labels(SERVER, name) | {labels.REVISION: target.revision}
    template: dict[str, Any] = {
        "metadata": {"labels": dict(target.user_labels) | ours},
        "spec": target.pod,
    }
    if target.user_annotations:
        template["metadata"]["annotations"] = dict(target.user_annotations)
    spec = {
        "replicas": replicas + extra,
        "revisionHistoryLimit": 1,
        "selector": {"matchLabels": routes.selector(name, target.revision)},
        "template": template,
    }
    full = f"{name}-{target.revision}"
    marks = {labels.REVISION: target.revision}
    body = {"spec": spec}
    return build.child(parent, SERVER, "apps/v1", "Deployment", full, body, recovery.annotated(extra), **marks)


def _also(plan: Plan, **changes: Any) -> Plan:
    return Plan(**{**plan.__dict__, **changes})
