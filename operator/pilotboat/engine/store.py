"""What is known of the cluster: the newest version seen of every object we watch.

Owns: objects, and who must be woken when one changes. Must not know: what is done with them; it does no I/O.

Three things may be out of order and are put right here: kopf hands events of two objects of one name in any order, our
own writes answer before their watch event comes, and a LIST answers later than events that came meanwhile. So an older
resourceVersion never replaces a newer one, and what was deleted never comes back in a version from before. (It may in a
later one: an object that loses our label leaves the watch as deleted, and is there again once it has the label back.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pilotboat.api import labels
from pilotboat.plan import nodes
from pilotboat.plan.types import Node, Ref

from .gateways import KIND, Gateways, owns
from .kinds import CLUSTERED, GATEWAY_PARTS, MODEL_DEPLOYMENT, NODE, PARENTS, POD, WATCHED, Key, Kind
from .owners import may_return, owner_of, parent_of
from .trim import pack, unpack

Raw = dict[str, Any]
Name = tuple[str, str]
"""Namespace and name."""

TOMBSTONES_KEPT = 900.0
"""Seconds that a deleted uid is remembered: longer than any request or LIST can take."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """An object: what is asked of all of them at hand, the rest packed."""

    version: int
    uid: str
    owner: str | Key | None
    """The uid of its controller; where somebody took that off it, whose it was."""
    parent: Key | None
    """Whom a change of it wakes."""
    packed: bytes
    node: str | None = None
    """Where a pod runs."""

    @property
    def raw(self) -> Raw:
        """The object."""
        return unpack(self.packed)


@dataclass
class _Table:
    """All objects of a kind."""

    objects: dict[Name, _Kept] = field(default_factory=dict)
    seen: dict[Name, float] = field(default_factory=dict)
    """When each was last reported by the API server."""


class Store:
    """Objects by kind and name, with the two look-ups a plan needs: by owner, and by label for pods."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tables = {kind.plural: _Table() for kind in WATCHED}
        self._owned: defaultdict[str | Key, set[tuple[str, Name]]] = defaultdict(set)
        self._pods: defaultdict[Key, set[Name]] = defaultdict(set)
        self._tombstones: dict[str, tuple[float, int]] = {}
        self._interest: defaultdict[Ref, set[Key]] = defaultdict(set)
        self._interests: dict[Key, tuple[Ref, ...]] = {}
        self._on_node: defaultdict[str, set[Name]] = defaultdict(set)
        self._nodes: dict[str, Node] = {}
        self.silent: dict[str, str] = {}
        """Nodes that are not heard of though Kubernetes still trusts them, and why; told by `silence`."""
        self.gateways = Gateways()

    def put(self, kind: Kind, raw: Mapping[str, Any]) -> set[Key]:
        """Take in an object; the parents to wake, none where this tells nothing new."""
        meta = raw["metadata"]
        name = _name(raw)
        table = self._tables[kind.plural]
        known = table.objects.get(name)
        _, dead = self._tombstones.get(meta["uid"], (0.0, -1))
        if _version(raw) <= dead or (known and _version(raw) < known.version):
            return set()
        table.seen[name] = self._clock()
        if known and known.version == _version(raw):
            return set()
        woken = self._unlink(kind, name, known) if known else set()
        table.objects[name] = kept = _kept(kind, raw)
        if kind in CLUSTERED:
            return self._know_node(name[1], raw)
        return woken | self._link(kind, name, kept) | self.gateways.put(kind, raw)

    def delete(self, kind: Kind, raw: Mapping[str, Any]) -> set[Key]:
        """The object of that uid is gone; the parents to wake."""
        meta = raw["metadata"]
        name = _name(raw)
        self._tombstones[meta["uid"]] = (self._clock(), _version(raw))
        table = self._tables[kind.plural]
        known = table.objects.get(name)
        if known is None or known.uid != meta["uid"]:
            return set()
        del table.objects[name]
        table.seen.pop(name, None)
        if kind in CLUSTERED:
            return self._know_node(name[1], None)
        return self._unlink(kind, name, known) | self.gateways.drop(kind, known.raw)

    def missing(self, kind: Kind, namespace: str | None, listed: set[str], began: float) -> list[Raw]:
        """Objects that a LIST begun at that time did not have, and of which nothing was heard since: ghosts."""
        table = self._tables[kind.plural]
        return [
            kept.raw
            for name, kept in table.objects.items()
            if kept.uid not in listed and table.seen[name] < began and namespace in (None, name[0])
        ]

    def forget_tombstones(self) -> None:
        """Drop those that nothing can ask for any more."""
        horizon = self._clock() - TOMBSTONES_KEPT
        self._tombstones = {uid: grave for uid, grave in self._tombstones.items() if grave[0] > horizon}

    def parent(self, key: Key) -> Raw | None:
        """The custom resource, or what stands for one, or None."""
        if key.plural == labels.GATEWAYS:
            return self.gateways.parent(key.namespace)
        return self._raw(key.plural, (key.namespace, key.name))

    def witness(self, key: Key) -> Key | None:
        """The custom resource without which that parent would not be: itself, or the gateway's owner last heard of.

        None: the last of them went while a pass was under way.
        """
        if key.plural != labels.GATEWAYS:
            return key
        owners = [Key(MODEL_DEPLOYMENT.plural, key.namespace, o.name) for o in self.gateways.owners(key.namespace)]
        return max(owners, key=self.seen, default=None)

    def seen(self, key: Key) -> float:
        """When the API server last told us of that custom resource."""
        return self._tables[key.plural].seen.get((key.namespace, key.name), float("-inf"))

    def parents(self) -> Iterator[Key]:
        """Every parent known."""
        for kind in PARENTS:
            for namespace, name in list(self._tables[kind.plural].objects):
                yield Key(kind.plural, namespace, name)

    def count(self, kind: Kind) -> int:
        """How many objects of a kind are known."""
        return len(self._tables[kind.plural].objects)

    def find(self, kind: Kind, namespace: str, name: str) -> Raw | None:
        """An object we watch, or None: which for other kinds than parents does not mean it does not exist."""
        return self._raw(kind.plural, (namespace, name))

    def children(self, parent: Mapping[str, Any]) -> tuple[Raw, ...]:
        """What the parent controls, by kind and name; of a gateway, what bears its name and is ours."""
        if parent["kind"] == KIND:
            name = (parent["metadata"]["namespace"], parent["metadata"]["name"])
            parts = (self._raw(kind.plural, name) for kind in GATEWAY_PARTS)
            return tuple(raw for raw in parts if raw and owns(raw))
        entries = sorted(self._owned.get(parent["metadata"]["uid"], ()))
        return tuple(self._tables[plural].objects[name].raw for plural, name in entries if plural != POD.plural)

    def orphans(self, key: Key, parent: Mapping[str, Any]) -> tuple[Raw, ...]:
        """What was made for the parent and has lost its controller, by kind and name. A gateway's parts have none."""
        entries = sorted(self._owned.get(key, ())) if parent["kind"] != KIND else ()
        found = (self._tables[plural].objects[name].raw for plural, name in entries)
        return tuple(raw for raw in found if may_return(parent, raw))

    def pods(self, key: Key) -> tuple[Raw, ...]:
        """The pods labelled as the parent's, by name."""
        return tuple(self._tables[POD.plural].objects[name].raw for name in sorted(self._pods.get(key, ())))

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Every node: a view, not a copy."""
        return MappingProxyType(self._nodes)

    def silence(self, name: str, words: str | None) -> set[Key]:
        """What we know of a node that says nothing of itself; None: it is heard of again. The parents to wake."""
        if words is None:
            self.silent.pop(name, None)
        else:
            self.silent[name] = words
        raw = self._raw(NODE.plural, ("", name))
        return self._know_node(name, raw) if raw else set()

    def watch(self, key: Key, refs: Iterable[Ref]) -> None:
        """From now on a change of one of these wakes that parent, and only of these."""
        refs = tuple(refs)
        if self._interests.get(key, ()) == refs:
            return
        for ref in self._interests.pop(key, ()):
            self._interest[ref].discard(key)
            if not self._interest[ref]:
                del self._interest[ref]
        if refs:
            self._interests[key] = refs
            for ref in refs:
                self._interest[ref].add(key)

    def _raw(self, plural: str, name: Name) -> Raw | None:
        kept = self._tables[plural].objects.get(name)
        return kept.raw if kept else None

    def _know_node(self, name: str, raw: Mapping[str, Any] | None) -> set[Key]:
        """Whom news of a node wakes: those with a pod on it. A heartbeat is no news."""
        before, node = self._nodes.pop(name, None), nodes.read(raw, self.silent.get(name)) if raw else None
        if node:
            self._nodes[name] = node
        if node == before:
            return set()
        pods = self._tables[POD.plural].objects
        return {parent for pod in self._on_node.get(name, ()) if (parent := pods[pod].parent)}

    def _link(self, kind: Kind, name: Name, kept: _Kept) -> set[Key]:
        if kept.owner:
            self._owned[kept.owner].add((kind.plural, name))
        if kind == POD and kept.parent:
            self._pods[kept.parent].add(name)
        if kept.node:
            self._on_node[kept.node].add(name)
        return self._woken(kind, name, kept)

    def _unlink(self, kind: Kind, name: Name, kept: _Kept) -> set[Key]:
        if kept.owner:
            _discard(self._owned, kept.owner, (kind.plural, name))
        if kind == POD and kept.parent:
            _discard(self._pods, kept.parent, name)
        if kept.node:
            _discard(self._on_node, kept.node, name)
        return self._woken(kind, name, kept)

    def _woken(self, kind: Kind, name: Name, kept: _Kept) -> set[Key]:
        woken = set(self._interest.get(Ref(kind.api_version, kind.kind, *name), ()))
        return woken | {kept.parent} if kept.parent else woken


def _kept(kind: Kind, raw: Mapping[str, Any]) -> _Kept:
    where = (raw.get("spec") or {}).get("nodeName") if kind == POD else None
    return _Kept(_version(raw), raw["metadata"]["uid"], owner_of(raw), parent_of(kind, raw), pack(kind, raw), where)


def _name(raw: Mapping[str, Any]) -> Name:
    meta = raw["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _version(raw: Mapping[str, Any]) -> int:
    # Comparable within a kind by KEP-5504; the API server's versions have always been etcd revisions.
    return int(raw["metadata"]["resourceVersion"])


def _discard(index: defaultdict[Any, set[Any]], key: object, entry: object) -> None:
    index[key].discard(entry)
    if not index[key]:
        del index[key]
