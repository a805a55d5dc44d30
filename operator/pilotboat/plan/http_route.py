"""The HTTPRoute of a ModelDeployment that a Gateway of the Gateway API serves: one of ours, or one of others.

Owns: what is looked up for it, which of the two it is; of ours, whether it takes requests, and what is written.
Must not know: who gets what share (shares.py, progression.py), what becomes of rules (http_rules.py), parents and
hostnames (http_reach.py) that are not ours, what is done in a route of others (foreign_route.py).

It is looked up with each pass, not watched: the kind may not exist in the cluster, and a watch of it would fail there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ..api import labels
from ..api.base import seconds
from ..api.model_deployment import ModelDeploymentSpec
from ..api.reasons import Reason
from ..api.routing import Lane, Testers
from ..api.traffic import Traffic
from . import build, foreign_route, http_behind, http_heard, http_reach
from .build import Raw, dig
from .http_heard import API_VERSION, KIND
from .http_reach import GROUP, Reach
from .http_rules import Mark, Ours, merged, without
from .outcome import Cause
from .types import Manifest, Observed, Ref


def wanted(parent: Raw) -> bool:
    """Whether the spec asks for one."""
    return bool(dig(parent, "spec", "traffic") == Traffic.HTTP_ROUTE)


def references(parent: Raw) -> tuple[Ref, ...]:
    """The HTTPRoute, those in which something of ours may be, and the Gateway that the spec names."""
    known = dig(parent, "status", "httpRoute")
    asked = [_route(parent), _gateway(parent)] if wanted(parent) else []
    left = http_heard.ref(parent, known) if isinstance(known, str) else None
    return tuple(dict.fromkeys(filter(None, [*asked, left])))


def trouble(observed: Observed) -> Cause | None:
    """Why the Gateway does not split the traffic; None where it does."""
    if foreign := foreign_route.given(observed.parent):
        return foreign_route.trouble(observed, foreign)
    gateway = _gateway(observed.parent)
    told = http_heard.unread(observed, _ref(observed.parent)) or _taken(observed)
    if told or gateway is None:
        return told
    if gateway in observed.references and observed.references[gateway] is None:
        where = f"Gateway {gateway.name} in namespace {gateway.namespace}"
        return Cause(Reason.GATEWAY_NOT_FOUND, f"{where} does not exist; requests go to the Service only")
    return http_heard.refused(each for each in http_heard.parents(_live(observed)) if _about(observed, each))


def manifests(
    observed: Observed, spec: ModelDeploymentSpec, lanes: Sequence[Lane], testers: Testers | None
) -> list[Manifest]:
    """A Service for each revision, and the HTTPRoute where it can be written."""
    parent, gateway = observed.parent, spec.routing.gateway
    if spec.routing.http_route and (foreign := foreign_route.given(parent)):
        return foreign_route.manifests(observed, spec, foreign, lanes, testers)
    if gateway is None or http_heard.unread(observed, _ref(parent)) or _taken(observed):
        return []
    ours = _ours(observed, lanes, spec.service.request_timeout, testers)
    live = _live(observed)
    asked = Reach([{"group": GROUP, "kind": "Gateway", **gateway.wire()}], spec.routing.hostnames or None)
    reach, mine = http_reach.merged(live, asked, ours.namespace)
    body = {**reach.body, "rules": merged(dig(live, "spec", "rules") or (), ours)}
    behind = [http_behind.service(parent, http_behind.backend(lane), lane.revision) for lane in lanes]
    return [*behind, _manifest(parent, body, mine.note | _marked(ours.mark))]


def left(observed: Observed) -> tuple[list[Manifest], list[Raw]]:
    """What is written and what is deleted where an HTTPRoute is not asked for any more. One of others gets back what
    was theirs. Of ours what others put into it stays, as long as a rule of theirs is there: without one a route answers
    for its hosts that it has nothing for them."""
    made, gone = _ours_left(observed)
    return [*foreign_route.owed(observed), *made], gone


def _ours_left(observed: Observed) -> tuple[list[Manifest], list[Raw]]:
    live, asked = _live(observed), wanted(observed.parent) and foreign_route.given(observed.parent) is None
    if asked or live is None or _taken(observed):
        return [], []
    ours = _ours(observed, (), "", None)
    kept = without(dig(live, "spec", "rules") or (), ours)
    if not kept:
        return [], [live]
    body = {**live["spec"], **http_reach.without(live, ours.namespace).body, "rules": kept}
    return ([] if body == live["spec"] else [_manifest(observed.parent, body, {})]), []


def named(observed: Observed) -> str | None:
    """Name of the HTTPRoute in which something of ours is, or is to be: the one of before as long as it is there."""
    made, gone = _ours_left(observed)
    if foreign_route.keeps(observed):
        return str(dig(observed.parent, "status", "httpRoute"))
    if made or gone:
        return _ref(observed.parent).name
    return _route(observed.parent).name if wanted(observed.parent) else None


def services(observed: Observed, revisions: Collection[str]) -> set[str]:
    """Names of the Services behind the route, and of those that are still named in one."""
    parent = observed.parent
    behind = http_behind.names(parent["metadata"]["name"], revisions) if wanted(parent) else set()
    return behind | foreign_route.services(observed)


def changes_unheard(observed: Observed, judged: bool) -> bool:
    """Whether it has to be looked at again and again: while a canary is judged, or something is being given back."""
    return (judged and wanted(observed.parent)) or foreign_route.keeps(observed)


def _ref(parent: Raw) -> Ref:
    """The HTTPRoute of ours."""
    return http_heard.ref(parent, parent["metadata"]["name"])


def _route(parent: Raw) -> Ref:
    """The HTTPRoute that the spec asks for."""
    return foreign_route.given(parent) or _ref(parent)


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


def _taken(observed: Observed) -> Cause | None:
    """Who has the HTTPRoute of our name, where it is not ours: it is left alone."""
    live = _live(observed)
    if live is None or http_heard.ours(observed.parent, live):
        return None
    owner = http_heard.owner(live)
    by = f"belongs to {owner['kind']} {owner['name']}" if owner else "was made by others"
    return Cause(Reason.NAME_TAKEN, f"HTTPRoute {live['metadata']['name']} exists and {by}: it is left alone")


def _about(observed: Observed, said: Raw) -> bool:
    """Whether that is our Gateway's word, of all parents that the route may have."""
    namespace = observed.parent["metadata"]["namespace"]
    ours = dig(observed.parent, "spec", "routing", "gateway") or {}
    return http_reach.parent_key(said.get("parentRef") or {}, namespace) == http_reach.parent_key(ours, namespace)


def _manifest(parent: Raw, spec: dict[str, Any], notes: dict[str, str]) -> Manifest:
    name = parent["metadata"]["name"]
    return build.child(parent, "gateway", API_VERSION, KIND, name, {"spec": spec}, notes)


def _marked(mark: Mark | None) -> dict[str, str]:
    return {labels.TESTERS: f"{mark.header}={mark.value}"} if mark else {}


def _duration(text: str) -> str:
    """As the Gateway API writes durations: at most five digits a part."""
    whole = seconds(text)
    return f"{whole // 3600}h{whole % 3600 // 60}m{whole % 60}s"
