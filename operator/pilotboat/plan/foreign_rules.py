"""The rules of an HTTPRoute that others have made: a ModelDeployment's weights where they name it, all else as it is.

Owns: which backendRef is whose, and what becomes of it. Must not know: Gateways, how an HTTPRoute is written.

Whoever made the route says by a backendRef to the ModelDeployment's own Service that a rule is meant, and by its weight
what part of the rule's requests is ours. The Services of revisions take its place, with that weight in sum: beside a
backend of others the parts stay as they were. Where nobody is beside them the sum says nothing, and is WHOLE.

Those who test the canary get a copy of each such rule that asks for their header too, for in a route with paths of its
own no other place is right. A copy sends to a Service of that one purpose, and is known again by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..api.routing import SERVER_PORT, WHOLE, Lane, Testers
from . import http_behind, shares

Json = dict[str, Any]
MOST = 100
"""Per cent."""


@dataclass(frozen=True)
class Mine:
    """Which ModelDeployment it is about, and what is to stand in the rules for it."""

    name: str
    namespace: str
    port: int
    """Of its own Service."""
    lanes: Sequence[Lane] = ()
    testers: Testers | None = None

    def plain(self, ref: Mapping[str, Any]) -> bool:
        """Whether a backendRef names the ModelDeployment's own Service."""
        return http_behind.is_service(ref, self.namespace) and ref.get("name") == self.name

    def split(self, ref: Mapping[str, Any]) -> bool:
        """Whether it names the Service of a revision."""
        return http_behind.is_service(ref, self.namespace) and http_behind.is_of(ref, self.name)

    def copied(self, rule: Json) -> bool:
        """Whether the rule is one that we made for testers."""
        name = http_behind.for_testers(self.name)
        return any(http_behind.is_service(ref, self.namespace) and ref.get("name") == name for ref in _refs(rule))


@dataclass(frozen=True)
class Part:
    """What a rule gives to us."""

    ref: Json
    """Of ours the one to make others of."""
    weight: int
    alone: bool


def part(rule: Json, mine: Mine) -> Part | None:
    """None where it gives nothing. The word of others counts before what we have made of an earlier one."""
    if mine.copied(rule):
        return None
    refs = _refs(rule)
    split = [ref for ref in refs if mine.split(ref)]
    word = [ref for ref in refs if mine.plain(ref)]
    said = word or split
    if not said:
        return None
    return Part(said[0], sum(ref.get("weight", 1) for ref in said), len(word) + len(split) == len(refs))


def named(rules: Sequence[Json], mine: Mine) -> bool:
    """Whether any rule gives something to us."""
    return any(part(rule, mine) for rule in rules)


def unsplit(rules: Sequence[Json], mine: Mine) -> list[int]:
    """Places of the rules that name the ModelDeployment's own Service."""
    return [place for place, rule in enumerate(rules) if any(map(mine.plain, _refs(rule)))]


def services(rules: Sequence[Json], mine: Mine) -> set[str]:
    """Names of our Services behind the route that stand in it."""
    refs = [ref for rule in rules for ref in _refs(rule) if mine.split(ref) or mine.copied(rule)]
    return {str(ref.get("name")) for ref in refs}


def too_coarse(rules: Sequence[Json], mine: Mine, share: int) -> tuple[int, int, int] | None:
    """The first rule whose weight for us has no part for `share` per cent: its place, the weight, and by how much all
    weights of the rule must be multiplied. Nobody's shares change by that."""
    for place, rule in enumerate(rules):
        ours = part(rule, mine)
        if ours and not ours.alone and 0 < ours.weight * share < MOST:
            return place, ours.weight, -(-MOST // (ours.weight * share))
    return None


def merged(live: Sequence[Json], mine: Mine) -> list[Json]:
    """The rules with our weights, and with a copy for testers behind each that has some."""
    made: list[Json] = []
    for rule in live:
        if ours := part(rule, mine):
            made.append(_replaced(rule, mine, _weighed(ours, mine.lanes)))
            made += _for_testers(rule, ours, mine)
        elif not mine.copied(rule):
            made.append(rule)
    return made


def without(live: Sequence[Json], mine: Mine) -> list[Json]:
    """The rules with the ModelDeployment's own Service in the place of its revisions': it may be gone, and then these
    requests fail; to send them to whoever is beside would be nobody's word."""
    return [_given_back(rule, mine) for rule in live if not mine.copied(rule)]


def _refs(rule: Json) -> list[Json]:
    return list(rule.get("backendRefs") or ())


def _weighed(ours: Part, lanes: Sequence[Lane]) -> list[Json]:
    whole = WHOLE if ours.alone and ours.weight else ours.weight
    split = shares.apportioned([lane.share for lane in lanes], whole)
    pairs = zip(lanes, split, strict=True)
    return [_ref(ours.ref, http_behind.backend(lane), SERVER_PORT, weight) for lane, weight in pairs]


def _ref(like: Json, name: str, port: int, weight: int) -> Json:
    return {**like, "name": name, "port": port, "weight": weight}


def _replaced(rule: Json, mine: Mine, made: Sequence[Json]) -> Json:
    """The rule with these in the place of the first of ours."""
    refs = _refs(rule)
    ours = [mine.plain(ref) or mine.split(ref) for ref in refs]
    rest = [ref for ref, own in zip(refs, ours, strict=True) if not own]
    place = ours.index(True)
    return {**rule, "backendRefs": [*rest[:place], *made, *rest[place:]]}


def _for_testers(rule: Json, ours: Part, mine: Mine) -> list[Json]:
    """None where a match has a word of its own about the header, or the rule is to send us nothing."""
    matches: list[Json] = rule.get("matches") or [{}]
    if mine.testers is None or not ours.weight or any(_asks(match, mine.testers.header) for match in matches):
        return []
    asked = {"type": "Exact", "name": mine.testers.header, "value": mine.testers.value}
    marked = [{**match, "headers": [*(match.get("headers") or ()), asked]} for match in matches]
    behind = _ref(ours.ref, http_behind.for_testers(mine.name), SERVER_PORT, 1)
    copied = {key: value for key, value in rule.items() if key != "name"}  # a rule's name stands once in a route
    return [{**copied, "matches": marked, "backendRefs": [behind]}]


def _asks(match: Json, header: str) -> bool:
    return any(str(each.get("name")).lower() == header.lower() for each in match.get("headers") or ())


def _given_back(rule: Json, mine: Mine) -> Json:
    ours = part(rule, mine)
    if ours is None or not any(map(mine.split, _refs(rule))):
        return rule
    weight = 1 if ours.alone and ours.weight == WHOLE else ours.weight
    return _replaced(rule, mine, [_ref(ours.ref, mine.name, mine.port, weight)])
