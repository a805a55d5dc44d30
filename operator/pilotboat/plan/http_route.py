"""The HTTPRoute of a ModelDeployment that a Gateway of the Gateway API serves.

Owns: what is looked up for it, whether it takes requests and why not, the Services behind it. Must not know: who gets
what share (shares.py, progression.py), what becomes of rules (http_rules.py), parents and hostnames (http_reach.py)
that are not ours.

It is looked up with each pass, not watched: the kind may not exist in the cluster, and a watch of it would fail there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ..api import labels
from ..api.base import seconds
from ..api.model_deployment import ModelDeploymentSpec
from ..api.reasons import Reason
from ..api.routing import SERVER_PORT, Lane, Testers
from ..api.traffic import Traffic
from . import build, http_reach
from .build import Raw, dig
from .http_reach import GROUP, Reach
from .http_rules import Mark, Ours, backend, merged, without
from .outcome import Cause
from .types import Manifest, Observed, Ref, Unread

API_VERSION = f"{GROUP}/v1"


def wanted(parent: Raw) -> bool:
    """Whether the spec asks for one."""
    return bool(dig(parent, "spec", "traffic") == Traffic.HTTP_ROUTE)


def references(parent: Raw) -> tuple[Ref, ...]:
    """The HTTPRoute, as long as something of ours may be in it, and the Gateway that the spec names."""
    if not wanted(parent):
        return (_ref(parent),) if dig(parent, "status", "httpRoute") else ()
    gateway = _gateway(parent)
    return (_ref(parent), gateway) if gateway else (_ref(parent),)


def trouble(observed: Observed) -> Cause | None:
    """Why the Gateway does not split the traffic; None where it does."""
    gateway = _gateway(observed.parent)
    told = _unread(observed) or _taken(observed)
    if told or gateway is None:
        return told
    if gateway in observed.references and observed.references[gateway] is None:
        where = f"Gateway {gateway.name} in namespace {gateway.namespace}"
        return Cause(Reason.GATEWAY_NOT_FOUND, f"{where} does not exist; requests go to the Service only")
    return _refused(observed, _live(observed))


def manifests(
    observed: Observed, spec: ModelDeploymentSpec, lanes: Sequence[Lane], testers: Testers | None
) -> list[Manifest]:
    """A Service for each revision, and the HTTPRoute where it can be written."""
    parent, gateway = observed.parent, spec.routing.gateway
    if gateway is None or _unread(observed) or _taken(observed):
        return []
    ours = _ours(observed, lanes, spec.service.request_timeout, testers)
    live = _live(observed)
    asked = Reach([{"group": GROUP, "kind": "Gateway", **gateway.wire()}], spec.routing.hostnames or None)
    reach, mine = http_reach.merged(live, asked, ours.namespace)
    body = {**reach.body, "rules": merged(dig(live, "spec", "rules") or (), ours)}
    return [*(_service(parent, lane) for lane in lanes), _manifest(parent, body, mine.note | _marked(ours.mark))]


def left(observed: Observed) -> tuple[list[Manifest], list[Raw]]:
    """What is written and what is deleted where no HTTPRoute is asked for any more: what others put into it stays, as
    long as a rule of theirs is there. Without one a route answers for its hosts that it has nothing for them."""
    live = _live(observed)
    if wanted(observed.parent) or live is None or _taken(observed):
        return [], []
    ours = _ours(observed, (), "", None)
    kept = without(dig(live, "spec", "rules") or (), ours)
    if not kept:
        return [], [live]
    body = {**live["spec"], **http_reach.without(live, ours.namespace).body, "rules": kept}
    return ([] if body == live["spec"] else [_manifest(observed.parent, body, {})]), []


def named(observed: Observed) -> str | None:
    """Name of the HTTPRoute in which something of ours is, or is to be."""
    made, gone = left(observed)
    return _ref(observed.parent).name if wanted(observed.parent) or made or gone else None


def services(parent: Raw, revisions: Collection[str]) -> set[str]:
    """Names of the Services behind the route."""
    name = parent["metadata"]["name"]
    return {backend(Lane(revision=each, service=f"{name}-{each}", share=0)) for each in revisions}


def _ref(parent: Raw) -> Ref:
    meta = parent["metadata"]
    return Ref(API_VERSION, "HTTPRoute", meta["namespace"], meta["name"])


def _gateway(parent: Raw) -> Ref | None:
    named = dig(parent, "spec", "routing", "gateway", "name")
    where = dig(parent, "spec", "routing", "gateway", "namespace") or parent["metadata"]["namespace"]
    return Ref(API_VERSION, "Gateway", where, named) if isinstance(named, str) and isinstance(where, str) else None


def _live(observed: Observed) -> Raw | None:
    return observed.references.get(_ref(observed.parent))


def _ours(observed: Observed, lanes: Sequence[Lane], timeout: str, testers: Testers | None) -> Ours:
    meta = observed.parent["metadata"]
    told = dig(_live(observed), "metadata", "annotations", labels.TESTERS) or ""
    header, _, value = told.partition("=")
    before = Mark(header, value) if header else None
    return Ours(meta["name"], meta["namespace"], lanes, _duration(timeout) if timeout else "", testers, before)


def _unread(observed: Observed) -> Cause | None:
    why = observed.unread.get(_ref(observed.parent))
    if why is None:
        return None
    said = {
        Unread.NO_SUCH_KIND: f"the API server does not know HTTPRoute of {API_VERSION}: its CRDs are not installed",
        Unread.FORBIDDEN: f"the operator may not read HTTPRoutes of {API_VERSION}",
    }
    return Cause(Reason.GATEWAY_API_MISSING, f"{said[why]}; requests go to the Service only")


def _taken(observed: Observed) -> Cause | None:
    """Who has the HTTPRoute of our name, where it is not ours: it is left alone."""
    live = _live(observed)
    owners = dig(live, "metadata", "ownerReferences") or ()
    if live is None or any(o.get("controller") and o["uid"] == observed.parent["metadata"]["uid"] for o in owners):
        return None
    by = next((f"belongs to {o['kind']} {o['name']}" for o in owners if o.get("controller")), "was made by others")
    return Cause(Reason.NAME_TAKEN, f"HTTPRoute {live['metadata']['name']} exists and {by}: it is left alone")


def _refused(observed: Observed, live: Raw | None) -> Cause | None:
    """What the Gateway's controller says of the HTTPRoute, by the newest that it has said."""
    said = [each for each in dig(live, "status", "parents") or () if _about(observed, each.get("parentRef") or {})]
    if not said:
        told = "the Gateway's controller has said nothing of the HTTPRoute yet; requests go to the Service only"
        return Cause(Reason.GATEWAY_STARTING, told)
    for one in said:
        for told in one.get("conditions") or ():
            if told.get("type") in ("Accepted", "ResolvedRefs") and told.get("status") == "False":
                why = f"{told['type']} is False, {told.get('reason')}: {told.get('message', '')}"
                return Cause(Reason.ROUTE_NOT_ACCEPTED, f"{one.get('controllerName')} says of the HTTPRoute: {why}")
    return None


def _about(observed: Observed, ref: Raw) -> bool:
    """Whether that is our Gateway, of all parents that the route may have."""
    namespace = observed.parent["metadata"]["namespace"]
    ours = dig(observed.parent, "spec", "routing", "gateway") or {}
    return http_reach.parent_key(ref, namespace) == http_reach.parent_key(ours, namespace)


def _service(parent: Raw, lane: Lane) -> Manifest:
    """With an address of its own: some Gateways cannot send to a headless Service (ADR 8)."""
    name = parent["metadata"]["name"]
    port = {"name": "http", "port": SERVER_PORT, "targetPort": "http", "protocol": "TCP"}
    selector = {labels.INSTANCE: name, labels.COMPONENT: "server", labels.REVISION: lane.revision}
    body = {"spec": {"selector": selector, "ports": [port]}}
    return build.child(parent, "server", "v1", "Service", backend(lane), body, **{labels.REVISION: lane.revision})


def _manifest(parent: Raw, spec: dict[str, Any], notes: dict[str, str]) -> Manifest:
    name = parent["metadata"]["name"]
    return build.child(parent, "gateway", API_VERSION, "HTTPRoute", name, {"spec": spec}, notes)


def _marked(mark: Mark | None) -> dict[str, str]:
    return {labels.TESTERS: f"{mark.header}={mark.value}"} if mark else {}


def _duration(text: str) -> str:
    """As the Gateway API writes durations: at most five digits a part."""
    whole = seconds(text)
    return f"{whole // 3600}h{whole % 3600 // 60}m{whole % 60}s"
