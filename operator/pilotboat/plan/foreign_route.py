"""The HTTPRoute of others that a ModelDeployment names: in it are weights of ours, which are given back in the end.

Owns: whether it can be used and why not, what is written and when, what holds a ModelDeployment until that is undone.
Must not know: what becomes of rules (foreign_rules.py), who gets what share (shares.py, progression.py).

Nothing is written before status says where, and the finalizer holds the ModelDeployment: whatever happens then, what
was written is found again. Of the HTTPRoute nothing but `rules` is ever written.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from ..api import conditions, labels
from ..api.model_deployment import ModelDeploymentSpec, Service
from ..api.reasons import Reason
from ..api.routing import Lane, Testers
from . import build, foreign_rules, http_behind, http_heard, outcome
from .build import Raw, dig
from .foreign_rules import Json, Mine
from .outcome import Cause
from .types import Event, Manifest, Observed, Plan, Ref, Unread

LEAVES_WITHIN = timedelta(seconds=30)
"""After which a ModelDeployment that is deleted goes, whatever is left of it in the HTTPRoute."""
_AGAIN = timedelta(seconds=5)


def given(parent: Raw) -> Ref | None:
    """The HTTPRoute that the spec names."""
    name = dig(parent, "spec", "routing", "httpRoute", "name")
    return http_heard.ref(parent, name) if isinstance(name, str) else None


def trouble(observed: Observed, route: Ref) -> Cause | None:
    """Why the weights do not stand in it, or are not those that split the traffic."""
    live = observed.references.get(route)
    if unread := http_heard.unread(observed, route):
        return unread
    if live is None:
        told = f"HTTPRoute {route.name} does not exist in namespace {route.namespace}; requests go to the Service only"
        return Cause(Reason.ROUTE_NOT_FOUND, told)
    if http_heard.ours(observed.parent, live):
        told = f"HTTPRoute {route.name} was made for this ModelDeployment and goes with it: name one of your own"
        return Cause(Reason.NAME_TAKEN, told)
    accepted = http_heard.accepting(http_heard.parents(live))
    return _unsplit(observed, route, _rules(live)) or http_heard.refused(accepted)


def manifests(
    observed: Observed, spec: ModelDeploymentSpec, route: Ref, lanes: Sequence[Lane], testers: Testers | None
) -> list[Manifest]:
    """A Service for each revision, and the rules where something of them is ours."""
    parent, live = observed.parent, observed.references.get(route)
    mine = _mine(parent, spec.service.port, lanes, testers)
    if live is None or not _claimed(parent, route) or http_heard.ours(parent, live):
        return []
    if not foreign_rules.named(_rules(live), mine):
        return []
    made = [http_behind.service(parent, http_behind.backend(lane), lane.revision) for lane in lanes]
    if testers and testers.revision:
        made.append(http_behind.service(parent, http_behind.for_testers(mine.name), testers.revision))
    return [*made, _manifest(route, foreign_rules.merged(_rules(live), mine))]


def services(observed: Observed) -> set[str]:
    """Names of our Services that may not go yet: those that stand in the HTTPRoute, and what testers are to have."""
    live = _known(observed)
    named = foreign_rules.services(_rules(live), _mine(observed.parent)) if live else set()
    canary = given(observed.parent) and dig(observed.parent, "status", "rollout")
    return named | ({http_behind.for_testers(observed.parent["metadata"]["name"])} if canary else set())


def owed(observed: Observed) -> list[Manifest]:
    """What is to be given back: where the spec does not name the HTTPRoute any more, or the parent is deleted."""
    parent, live = observed.parent, _known(observed)
    if live is None or not _held(parent) or http_heard.ours(parent, live) or _wanted(parent, Ref.of(live)):
        return []
    back = foreign_rules.without(_rules(live), _mine(parent))
    return [] if back == _rules(live) else [_manifest(Ref.of(live), back)]


def free(observed: Observed) -> bool:
    """Whether nothing of ours is in an HTTPRoute of others, nor is to be."""
    parent = observed.parent
    at = _at(parent)
    wanted = at is not None and _wanted(parent, at)
    return not (wanted or owed(observed) or _hidden(observed))


def keeps(observed: Observed) -> bool:
    """Whether status has to remember the HTTPRoute that it names."""
    return bool(owed(observed)) or _hidden(observed)


def farewell(observed: Observed, now: datetime) -> Plan:
    """What is done for a ModelDeployment that is deleted. Nobody waits long for that: what could not be given back by
    then stays, and is told."""
    back, parent = owed(observed), observed.parent
    if not back and not _hidden(observed):
        return Plan(free=True)
    since = build.parsed(parent["metadata"]["deletionTimestamp"])
    if since and now - since > LEAVES_WITHIN:
        route = dig(parent, "status", "httpRoute")
        told = f"HTTPRoute {route} cannot be written, and names Services of {parent['metadata']['name']}, which go"
        return Plan(events=(Event("Warning", Reason.BACKENDS_LEFT, told),), free=True)
    return Plan(apply=tuple(back), free=bool(back), requeue_after=_AGAIN)


def _unsplit(observed: Observed, route: Ref, rules: Sequence[Json]) -> Cause | None:
    """What of the rules keeps the traffic from being split as is asked."""
    parent, mine = observed.parent, _mine(observed.parent)
    if not foreign_rules.named(rules, mine):
        told = f"no rule of HTTPRoute {route.name} has a backendRef to Service {mine.name}: put one, with port"
        return Cause(Reason.ROUTE_WITHOUT_BACKEND, f"{told} {mine.port}, into the rules that are meant")
    if coarse := foreign_rules.too_coarse(rules, mine, _least(parent)):
        place, weight, factor = coarse
        told = f"spec.rules[{place}] of HTTPRoute {route.name} gives {mine.name} a weight of {weight} beside others, of"
        told += f" which {_least(parent)} % are no whole: multiply the weights of all its backendRefs by {factor}"
        return Cause(Reason.ROUTE_TOO_COARSE, told)
    if not _claimed(parent, route):
        return Cause(Reason.GATEWAY_STARTING, f"HTTPRoute {route.name} is about to be taken up")
    return _plain(parent, route, foreign_rules.unsplit(rules, mine))


def _plain(parent: Raw, route: Ref, places: Sequence[int]) -> Cause | None:
    """Rules that name the plain Service: as it is at first, and at rest no matter, for that has all pods then."""
    before = conditions.find(outcome.previous(parent), conditions.GATEWAY_READY)
    split = before is not None and before.reason in (Reason.ROUTED, Reason.ROUTE_OVERWRITTEN)
    if not places or (split and not dig(parent, "status", "rollout")):
        return None
    where = f"spec.rules[{places[0]}] of HTTPRoute {route.name} names Service {parent['metadata']['name']}"
    if not split:
        return Cause(Reason.GATEWAY_STARTING, f"{where}, in whose place the weights are being put")
    told = f"{where} again, so the canary has none of its requests: the weights are written anew, and no step ends"
    return Cause(Reason.ROUTE_OVERWRITTEN, f"{told} meanwhile; have what applies the HTTPRoute leave out its rules")


def _least(parent: Raw) -> int:
    """The smallest share in per cent that a step gives to one of the two; all of it where there is none."""
    steps = dig(parent, "spec", "rollout", "steps")
    weights = [dig(step, "weight") for step in steps] if isinstance(steps, list) else []
    both = [part for each in weights if isinstance(each, int) for part in (each, foreign_rules.MOST - each)]
    return min((part for part in both if part > 0), default=foreign_rules.MOST)


def _wanted(parent: Raw, route: Ref) -> bool:
    return "deletionTimestamp" not in parent["metadata"] and given(parent) == route


def _claimed(parent: Raw, route: Ref) -> bool:
    """Whether status says that it is there."""
    return bool(dig(parent, "status", "httpRoute") == route.name)


def _held(parent: Raw) -> bool:
    """Whether something may have been written."""
    return labels.ROUTE_FINALIZER in (parent["metadata"].get("finalizers") or ())


def _at(parent: Raw) -> Ref | None:
    """The HTTPRoute that status names."""
    name = dig(parent, "status", "httpRoute")
    return http_heard.ref(parent, name) if isinstance(name, str) else None


def _known(observed: Observed) -> Raw | None:
    at = _at(observed.parent)
    return observed.references.get(at) if at else None


def _hidden(observed: Observed) -> bool:
    """Whether something of ours may be in an HTTPRoute that we may not read any more."""
    at = _at(observed.parent)
    return at is not None and _held(observed.parent) and observed.unread.get(at) is Unread.FORBIDDEN


def _rules(live: Raw) -> list[Json]:
    return list(dig(live, "spec", "rules") or ())


def _mine(parent: Raw, port: int | None = None, lanes: Sequence[Lane] = (), testers: Testers | None = None) -> Mine:
    meta, asked = parent["metadata"], dig(parent, "spec", "service", "port")
    known = port or (asked if isinstance(asked, int) else Service().port)
    return Mine(meta["name"], meta["namespace"], known, lanes, testers if testers and testers.revision else None)


def _manifest(route: Ref, rules: Sequence[Json]) -> Manifest:
    """Without an owner: a part of what belongs to others."""
    meta = {"name": route.name, "namespace": route.namespace}
    return {"apiVersion": route.api_version, "kind": route.kind, "metadata": meta, "spec": {"rules": list(rules)}}
