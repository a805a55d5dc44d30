"""How requests get to a ModelDeployment's replicas: its Services, and its route through the namespace's gateway.

Owns: the Services and the route's ConfigMap, and when traffic moves between gateway and replicas. Must not know: what
the gateway is made of (gateway.py), what share a revision gets (shares.py), how a Gateway that the user names is told
(http_route.py), what else a ModelDeployment has.

Traffic only ever moves to where it is served: to the gateway once it has an available replica and has had time to see
the route, and then it stays there; away from it at once, and the route goes when no caller can still be sent there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..api import conditions, labels
from ..api.model_deployment import ModelDeploymentSpec
from ..api.reasons import Reason
from ..api.rollout import RolloutPhase, RolloutStatus
from ..api.routing import MAX_LANES, ROUTE, SERVER_PORT, WHOLE, Copies, Lane, Route, Testers
from ..api.traffic import Traffic
from . import build, gates, history, http_route, load, outcome, ports, shares
from .build import Raw, dig
from .outcome import Cause
from .types import Manifest, Observed

SERVER, GATEWAY = "server", "gateway"

SEEN_BY = timedelta(seconds=5)
"""Age of a route at which every gateway surely has it: traffic that is served already moves no sooner."""

LEFT_BY = timedelta(seconds=60)
"""Time in which every node's proxy surely has heard that a Service does not point at the gateway any more."""

HEARD_BY = timedelta(seconds=5)
"""How soon a Gateway that has not taken our HTTPRoute is asked again: nobody tells us."""

_AT_GATEWAY = {labels.INSTANCE: labels.GATEWAY, labels.COMPONENT: GATEWAY, labels.SERVING: labels.SERVES}


@dataclass(frozen=True)
class Way:
    """The way of requests, as it is and as it is to be."""

    port: int | None
    """The port on the gateway; None: there is no route."""
    through: bool
    """Whether the Service is to point at the gateway."""
    pointed: bool
    """Whether it does so now; of a Gateway that the user names, whether it has taken the HTTPRoute."""
    cause: Cause | None = None
    """Why requests do not go as asked, or not yet."""
    again: timedelta | None = None
    """When time alone changes this."""
    leaving: bool = False
    """Requests go past our gateway, and its route is still there."""

    @property
    def left(self) -> bool:
        """Whether no caller can still be sent there, so that the route may go: there is nothing left to wait for."""
        return self.leaving and self.again is None

    @property
    def cut_off(self) -> bool:
        """Whether requests are sent to a gateway of which nothing is available."""
        return self.through and self.cause is not None

    @property
    def as_asked(self) -> bool:
        """Whether requests go where the spec wants them."""
        return self.cause is None or self.leaving


def way(observed: Observed, now: datetime) -> Way:
    """The way of this ModelDeployment's requests; needs no spec that can be read whole."""
    name = observed.parent["metadata"]["name"]
    service = build.named(observed.children, "Service", name)
    route = build.named(observed.children, "ConfigMap", _route_name(name))
    pointed = service is not None and dig(service, "spec", "selector") == _AT_GATEWAY
    if dig(observed.parent, "spec", "traffic") == Traffic.DIRECT:
        return _direct(observed, pointed, route, now)
    if http_route.wanted(observed.parent):
        return _by_route(observed, _direct(observed, pointed, route, now))
    port = ports.choose(observed.parent["metadata"]["namespace"], name, _settled(service), observed.gateway.ports)
    if port is None:
        return Way(None, False, pointed, Cause(Reason.NO_GATEWAY_PORT, "every port of the gateway is taken"))
    if pointed or (service is None and observed.gateway.available):
        return Way(port, True, pointed, None if observed.gateway.available else _trouble(observed, pointed))
    if not observed.gateway.available:
        return Way(port, False, False, _trouble(observed, pointed))
    wait = SEEN_BY - _age(route, now)
    if wait <= timedelta():
        return Way(port, True, False)
    return Way(port, False, False, Cause(Reason.GATEWAY_STARTING, "the gateway is taking up the route"), wait)


def _direct(observed: Observed, pointed: bool, route: Raw | None, now: datetime) -> Way:
    if route is None:
        return Way(None, False, pointed)
    told = conditions.find(outcome.previous(observed.parent), conditions.GATEWAY_READY)
    since = build.parsed(told.last_transition_time) if told and told.reason == Reason.LEAVING_GATEWAY else None
    wait = LEFT_BY - (now - since if since and not pointed else timedelta())
    # Told until the route is gone, for that may take long: what is told is also what remembers since when it is left.
    cause = Cause(Reason.LEAVING_GATEWAY, "requests go to the replicas; the gateway keeps the route for a minute")
    return Way(None, False, pointed, cause, wait if wait > timedelta() else None, leaving=True)


def _by_route(observed: Observed, direct: Way) -> Way:
    """Past our own gateway, which may have to be left first."""
    if direct.leaving:
        return replace(direct, pointed=False)
    cause = http_route.trouble(observed)
    return Way(None, False, cause is None, cause, HEARD_BY if cause else None)


def _trouble(observed: Observed, pointed: bool) -> Cause:
    """Why the gateway does not take requests, in the gateway's own words where it has any."""
    meanwhile = "and requests go there" if pointed else "and until then requests go to the replicas directly"
    if observed.gateway.trouble:
        reason, message = observed.gateway.trouble
        return Cause(Reason(reason), f"no gateway is available, {meanwhile}: {message}")
    reason = Reason.GATEWAY_UNAVAILABLE if pointed else Reason.GATEWAY_STARTING
    return Cause(reason, f"no replica of Deployment {labels.GATEWAY} is available, {meanwhile}")


def revisions(observed: Observed, target: str) -> list[str]:
    """Every revision that may still have requests: the target, the others by age, and those with only pods left."""
    oldest_first = history.by_revision(observed).items()
    found = [revision for revision, raw in oldest_first if dig(raw, "spec", "replicas")][::-1]
    left = sorted(
        {_revision(pod) for pod in observed.pods if dig(pod, "status", "phase") not in ("Failed", "Succeeded")}
    )
    return list(dict.fromkeys([target, *found, *filter(None, left)]))


def lanes(
    observed: Observed,
    names: Sequence[str],
    zones: Mapping[str, int],
    weights: Mapping[str, int] | None = None,
    ending: Collection[str] = (),
) -> list[Lane]:
    """The lanes of these revisions, newest first; `weights` are a canary's, in per cent, else ready replicas decide, as
    far as their `zones` get requests: those of `ending` revisions, which go with this pass, where there are no others.
    """
    serving = {name: load.bearing(observed, name, zones) for name in names}
    staying = {name: 0 if name in ending else count for name, count in serving.items()}
    ready = staying if any(staying.values()) else serving
    if weights is not None:
        names = list(dict.fromkeys([*names, *weights]))
    if weights is not None and http_route.wanted(observed.parent):  # ours asks other lanes where one has nobody
        weights = shares.alive(weights, serving)
    wanted = weights or {}
    others = sorted(names[1:], key=lambda name: (-wanted.get(name, 0), -ready.get(name, 0)))[: MAX_LANES - 1]
    kept = [name for name in names if name == names[0] or name in others]
    parent = observed.parent["metadata"]["name"]
    split = (
        shares.by_ready([ready[name] for name in kept])
        if weights is None
        else [weights.get(name, 0) * WHOLE // 100 for name in kept]
    )
    pairs = zip(kept, split, strict=True)
    return [Lane(revision=name, service=f"{parent}-{name}", share=share) for name, share in pairs]


def testers(spec: ModelDeploymentSpec, state: RolloutStatus | None) -> Testers | None:
    """Where marked requests go: to the canary, while it may have traffic at all."""
    asked = spec.routing.testers
    if asked is None:
        return None
    return Testers(header=asked.header, value=asked.value, revision=state.canary if state and state.weight else None)


def copies(spec: ModelDeploymentSpec, state: RolloutStatus | None) -> Copies | None:
    """Who has copies of stable's requests: a canary that is still judged, in slots that its own users do not need."""
    if spec.routing.mirror is None:
        return None
    percent, slots = spec.routing.mirror.percent, spec.inference.batch_size
    over = (RolloutPhase.ABORTED, RolloutPhase.PROMOTING, RolloutPhase.DRAINING)
    judged = state is not None and state.phase not in over
    if state is None or not judged or gates.load_due(spec, state):
        return Copies(percent=percent)
    return Copies(percent=percent, revision=state.canary, room=slots // 2 if state.weight else slots)


def manifests(
    observed: Observed,
    spec: ModelDeploymentSpec,
    way: Way,
    lanes: Sequence[Lane],
    state: RolloutStatus | None = None,
    zones: Mapping[str, int] | None = None,
) -> list[Manifest]:
    """What the gateway needs to know, and the Service that callers know; that last. `zones`: who get less traffic."""
    made, _ = http_route.left(observed)
    asked, parent = testers(spec, state), observed.parent
    if way.port is not None:
        made += [_endpoints(parent, lane) for lane in lanes]
        made.append(_route(parent, spec, way.port, lanes, asked, copies(spec, state), zones or {}))
    made += http_route.manifests(observed, spec, lanes, asked if asked and asked.revision else None)
    sent = {lane.revision for lane in lanes if lane.share}
    beside = state.stable if state and state.stable in sent and http_route.wanted(parent) else None
    return [*made, _service(parent, spec, way, beside)]


def surplus(observed: Observed, way: Way, kept: Collection[str]) -> list[Raw]:
    """Services of revisions that are gone, and every route that is not wanted any more."""
    children, name = observed.children, observed.parent["metadata"]["name"]
    _, routes = http_route.left(observed)
    if way.leaving and not way.left:
        return routes
    wanted = {name} | ({f"{name}-{each}" for each in kept} if way.port is not None else set())
    wanted |= http_route.services(observed, kept)
    services = [raw for raw in build.of_kind(children, "Service") if raw["metadata"]["name"] not in wanted]
    route = build.named(children, "ConfigMap", _route_name(name)) if way.port is None else None
    return [*routes, *services, *([route] if route else [])]


def is_route(parent: Raw, config_map: Raw) -> bool:
    """Whether the ConfigMap is the parent's route."""
    return bool(config_map["metadata"]["name"] == _route_name(parent["metadata"]["name"]))


def selector(name: str, revision: str | None = None) -> dict[str, str]:
    """What selects the server pods of a ModelDeployment, or of one revision."""
    chosen = {labels.INSTANCE: name, labels.COMPONENT: SERVER}
    return chosen | ({labels.REVISION: revision} if revision else {})


def unchanged(service: Raw, annotations: Mapping[str, str]) -> Manifest:
    """The Service that callers know as it stands, save its annotations: of its spec the fields that are ours."""
    foreign = dict.fromkeys(set(service["spec"]) - {"selector", "ports", "trafficDistribution"})
    return build.respecified(service, annotations, **foreign)


def _endpoints(parent: Raw, lane: Lane) -> Manifest:
    """A headless Service: what makes the EndpointSlices of one revision."""
    name = parent["metadata"]["name"]
    port = {"name": "http", "port": SERVER_PORT, "targetPort": "http", "protocol": "TCP"}
    spec = {"clusterIP": "None", "selector": selector(name, lane.revision), "ports": [port]}
    revision = {labels.REVISION: lane.revision}
    return build.child(parent, SERVER, "v1", "Service", lane.service, {"spec": spec}, **revision)


def _route(
    parent: Raw,
    spec: ModelDeploymentSpec,
    port: int,
    lanes: Sequence[Lane],
    testers: Testers | None,
    copies: Copies | None,
    zones: Mapping[str, int],
) -> Manifest:
    name, service = parent["metadata"]["name"], spec.service
    route = Route(
        deployment=name,
        port=port,
        lanes=list(lanes),
        sticky=spec.routing.sticky,
        testers=testers,
        copies=copies,
        zones=dict(zones),
        request_timeout=service.request_timeout,
        max_queued=service.max_queued_requests,
        server_limit=spec.inference.batch_size + service.max_queued_requests,
    )
    body = {"data": {ROUTE: route.to_json()}}
    return build.child(parent, GATEWAY, "v1", "ConfigMap", _route_name(name), body)


def _service(parent: Raw, spec: ModelDeploymentSpec, way: Way, revision: str | None) -> Manifest:
    """`revision`: the only one that serves callers who come past the Gateway, where that splits the traffic."""
    name = parent["metadata"]["name"]
    port = {"name": "http", "port": spec.service.port, "targetPort": "http", "protocol": "TCP"}
    body = {"selector": selector(name, revision), "ports": [port]}
    if way.through:
        at = [port | {"targetPort": way.port}]
        body = {"selector": _AT_GATEWAY, "ports": at, "trafficDistribution": "PreferClose"}
    mark = {labels.GATEWAY_PORT: str(way.port)} if way.port is not None else {}
    return build.child(parent, SERVER, "v1", "Service", name, {"spec": body}, **mark)


def _route_name(name: str) -> str:
    return f"{name}-route"


def _revision(pod: Raw) -> str:
    return dig(pod, "metadata", "labels", labels.REVISION) or ""


def _settled(service: Raw | None) -> int | None:
    mark = dig(service, "metadata", "labels", labels.GATEWAY_PORT) or ""
    return int(mark) if mark.isdecimal() else None


def _age(raw: Raw | None, now: datetime) -> timedelta:
    made = build.parsed(dig(raw, "metadata", "creationTimestamp"))
    return now - made if made else timedelta()
