"""The rules of an HTTPRoute in which some are ours and some are not: ours changed, the others as they are.

Owns: which rule or backendRef is whose, and what becomes of it. Must not know: Gateways, how an HTTPRoute is written.

`rules` and `backendRefs` have one owner as a whole in the API, so whoever writes one entry writes all of them. A
backendRef is ours where it names a Service that we make for a revision. In every rule that has such a one, ours get
their weights, WHOLE in sum; every other backendRef keeps its own, its place and its order, and so does every other
rule. So a foreign backend of weight 1000 has half of a rule's traffic, whatever our canary does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..api.routing import SERVER_PORT, WHOLE, Lane, Testers
from . import http_behind
from .http_behind import backend

Json = dict[str, Any]
_EVERYTHING = {"type": "PathPrefix", "value": "/"}


@dataclass(frozen=True)
class Mark:
    """The header by which testers are known."""

    header: str
    value: str


@dataclass(frozen=True)
class Ours:
    """What is to stand in the rules for one ModelDeployment."""

    name: str
    namespace: str
    lanes: Sequence[Lane]
    timeout: str
    testers: Testers | None = None
    before: Mark | None = None
    """What testers were known by when the rules were last written."""

    def owns(self, ref: Mapping[str, Any]) -> bool:
        """Whether a backendRef names a Service of one of our revisions."""
        return http_behind.is_service(ref, self.namespace) and http_behind.is_of(ref, self.name)

    @property
    def mark(self) -> Mark | None:
        """What testers are known by from now on."""
        return Mark(self.testers.header, self.testers.value) if self.testers else None


def merged(live: Sequence[Json], ours: Ours) -> list[Json]:
    """The rules with ours in them: those that were there in their order, then ours that were not."""
    shares = {backend(lane): lane.share for lane in ours.lanes}
    special = {backend(lane): WHOLE for lane in ours.lanes if ours.testers and lane.revision == ours.testers.revision}
    made: list[Json] = []
    plain = marked = False
    for rule in live:
        if not _has_ours(rule, ours):
            made.append(rule)
        elif special and _mark(rule) == ours.mark:
            made.append(_weighed(rule, special, ours))
            marked = True
        elif _mark(rule) not in (ours.before, ours.mark) or _mark(rule) is None or _foreign(rule, ours):
            made.append(_weighed(rule, shares, ours))
            plain = plain or _mark(rule) is None
    if special and not marked:
        made.append(_weighed({"matches": [_match(ours.mark)]}, special, ours))
    return made if plain else [*made, _weighed({"matches": [_match(None)]}, shares, ours)]


def without(live: Sequence[Json], ours: Ours) -> list[Json]:
    """The rules without ours: what others have put there."""
    kept = []
    for rule in live:
        if not _has_ours(rule, ours):
            kept.append(rule)
        elif foreign := _foreign(rule, ours):
            kept.append({**rule, "backendRefs": foreign})
    return kept


def _refs(rule: Json) -> list[Json]:
    return list(rule.get("backendRefs") or ())


def _has_ours(rule: Json, ours: Ours) -> bool:
    return any(ours.owns(ref) for ref in _refs(rule))


def _foreign(rule: Json, ours: Ours) -> list[Json]:
    return [ref for ref in _refs(rule) if not ours.owns(ref)]


def _weighed(rule: Json, shares: Mapping[str, int], ours: Ours) -> Json:
    """The rule with our weights; a rule of our own shape has our time-out too."""
    left = dict(shares)
    refs = []
    for ref in _refs(rule):
        if not ours.owns(ref):
            refs.append(ref)
        elif ref["name"] in left:
            refs.append({**ref, "port": SERVER_PORT, "weight": left.pop(ref["name"])})
    refs += [_ref(name, weight) for name, weight in left.items()]
    own = rule.get("matches") in ([_match(None)], [_match(ours.mark)])
    timeouts = {"timeouts": {**(rule.get("timeouts") or {}), "request": ours.timeout}} if own else {}
    return {**rule, "backendRefs": refs, **timeouts}


def _ref(name: str, weight: int) -> Json:
    return {"group": "", "kind": "Service", "name": name, "port": SERVER_PORT, "weight": weight}


def _match(mark: Mark | None) -> Json:
    match: Json = {"path": dict(_EVERYTHING)}
    return match | ({"headers": [{"type": "Exact", "name": mark.header, "value": mark.value}]} if mark else {})


def _mark(rule: Json) -> Mark | None:
    """The header that a rule asks for, where that is all it asks for."""
    matches: list[Json] = rule.get("matches") or []
    headers: list[Json] = (matches[0].get("headers") or []) if len(matches) == 1 else []
    if len(headers) != 1:
        return None
    mark = Mark(str(headers[0].get("name")), str(headers[0].get("value")))
    return mark if matches[0] == _match(mark) else None
