"""Where an HTTPRoute holds, its parents and hostnames, of which some are ours and some are others': ours changed alone.

Owns: which entry is whose, what is remembered of that, and what becomes of it. Must not know: rules (http_rules.py),
how an HTTPRoute is written.

Both lists have one owner as a whole in the API, and nothing in an entry says who wrote it. So what we put there stands
in an annotation, in one write with the lists: whenever an operator ends, the two agree. An entry that others had there
before we asked for the same stays theirs, and outlives our asking. Without the annotation (others may delete it) only
what is asked for now is taken for ours: rather an old entry of ours that stays than one of others that goes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..api import labels
from .build import Raw, dig

GROUP = "gateway.networking.k8s.io"

Json = dict[str, Any]
_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class Reach:
    """Parents and hostnames; None for hostnames that are not written by us at all."""

    parents: Sequence[Json] = ()
    hostnames: Sequence[str] | None = None

    @property
    def body(self) -> Json:
        """As the spec of an HTTPRoute says it."""
        return {"parentRefs": list(self.parents)} | ({"hostnames": list(self.hostnames)} if self.hostnames else {})

    @property
    def note(self) -> dict[str, str]:
        """The annotation that remembers this as ours."""
        told: Json = {"parentRefs": list(self.parents)}
        told |= {} if self.hostnames is None else {"hostnames": list(self.hostnames)}
        return {labels.REACH: json.dumps(told, sort_keys=True, separators=(",", ":"))}


def merged(live: Raw | None, asked: Reach, namespace: str) -> tuple[Reach, Reach]:
    """What is to stand in the route, and what of it is ours: the others' in their order, ours that were not there last.

    Hostnames stay unwritten until we ask for one: till then the list has no owner but those who made it.
    """
    there, before = _there(live), _remembered(live) or asked
    parents, our_parents = _among(there.parents, asked.parents, before.parents, _by_parent(namespace))
    wanted, known = asked.hostnames or (), before.hostnames
    if not wanted and known is None:
        return Reach(parents), Reach(our_parents)
    hosts, our_hosts = _among(there.hostnames or (), wanted, known or (), str)
    return Reach(parents, hosts), Reach(our_parents, our_hosts if hosts else None)


def without(live: Raw, namespace: str) -> Reach:
    """What others have put there. Where that is no parent, or no hostname, ours stay for the rules of others: these
    would be served by nobody, or answer for every host."""
    there, before = _there(live), _remembered(live) or Reach()
    parents, _ = _among(there.parents, (), before.parents, _by_parent(namespace))
    hosts, _ = _among(there.hostnames or (), (), before.hostnames or (), str)
    return Reach(parents or there.parents, hosts or there.hostnames)


def parent_key(ref: Mapping[str, Any], namespace: str) -> Hashable:
    """What a parentRef of a route in that namespace points at, with what may be left out."""
    group, kind = ref.get("group", GROUP), ref.get("kind") or "Gateway"
    where = ref.get("namespace") or namespace
    return group, kind, where, ref.get("name"), ref.get("sectionName") or None, ref.get("port")


def _by_parent(namespace: str) -> Callable[[Json], Hashable]:
    return lambda ref: parent_key(ref, namespace)


def _among(
    live: Sequence[_Entry], asked: Sequence[_Entry], before: Sequence[_Entry], key: Callable[[_Entry], Hashable]
) -> tuple[list[_Entry], list[_Entry]]:
    """The entries as they are to be, each asked for once, and those of them that are ours."""
    wanted = {key(entry): entry for entry in asked}
    mine, there = set(map(key, before)), set(map(key, live))
    kept, met = list[_Entry](), set[Hashable]()
    for entry in live:
        known = key(entry)
        if known in wanted and known not in met:
            kept.append(entry)
            met.add(known)
        elif known not in wanted and known not in mine:
            kept.append(entry)
    kept += [entry for known, entry in wanted.items() if known not in met]
    return kept, [entry for known, entry in wanted.items() if known in mine or known not in there]


def _there(live: Raw | None) -> Reach:
    return Reach(dig(live, "spec", "parentRefs") or (), dig(live, "spec", "hostnames") or ())


def _remembered(live: Raw | None) -> Reach | None:
    """What we put there; None where nothing says so, or nothing that can be read."""
    try:
        told = json.loads(dig(live, "metadata", "annotations", labels.REACH) or "")
    except ValueError:
        return None
    parents, hosts = dig(told, "parentRefs"), dig(told, "hostnames")
    if not _all(parents, _is_ref) or not (hosts is None or _all(hosts, _is_scalar)):
        return None
    return Reach(parents, hosts)


def _all(entries: Any, kind: Callable[[Any], bool]) -> bool:
    return isinstance(entries, list) and all(map(kind, entries))


def _is_ref(entry: Any) -> bool:
    return isinstance(entry, dict) and all(map(_is_scalar, entry.values()))


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int)
