"""What of the objects is asked by namespace: who uses a gateway, who has which of its ports, whether it is there.

Owns: these facts, kept as objects come and go, and whom a change of one wakes. Must not know: what a gateway is made
of, nor why somebody uses it; it does no I/O.

A gateway's parent is no object: it is made up here, of the ModelDeployments that want a gateway or still have a route
through it. A thousand of them may share one, so what each pass needs is at hand without looking at all of them, and
they are woken only when the gateway comes, goes, or says something new of what is wrong with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from pilotboat.api import labels
from pilotboat.api.traffic import Traffic
from pilotboat.plan.types import GatewayState

from .kinds import CONFIG_MAP, DEPLOYMENT, GATEWAY_PARTS, MODEL_DEPLOYMENT, SERVICE, Key, Kind

Raw = dict[str, Any]
Name = tuple[str, str]
OWNERS = 32
"""ModelDeployments that own a gateway, the oldest ones: each more would have every object of it written again."""


class Claim(NamedTuple):
    """A Service that has a port of the gateway; the older comes first."""

    created: str
    uid: str
    name: str


@dataclass(frozen=True, slots=True)
class User:
    """A ModelDeployment as its namespace's gateway knows it."""

    created: str
    uid: str
    wants: bool


@dataclass(frozen=True, slots=True)
class Owner:
    """What an ownerReference needs."""

    name: str
    uid: str


class Gateways:
    """All namespaces' gateways."""

    def __init__(self) -> None:
        self._known: defaultdict[str, dict[str, User]] = defaultdict(dict)
        self._routed: defaultdict[str, set[str]] = defaultdict(set)
        self._claims: defaultdict[tuple[str, int], set[Claim]] = defaultdict(set)
        self._port_of: dict[Name, tuple[int, Claim]] = {}
        self._held: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self._parts: defaultdict[str, set[str]] = defaultdict(set)
        self._replicas: dict[str, int] = {}
        """By namespace: how many gateways take requests, where any does."""
        self._trouble: dict[str, tuple[str, str]] = {}

    def put(self, kind: Kind, raw: Mapping[str, Any]) -> set[Key]:
        """An object is there; whom that wakes."""
        meta = raw["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        if kind == MODEL_DEPLOYMENT:
            return self._know(namespace, name, None if "deletionTimestamp" in meta else _user(raw))
        if kind == CONFIG_MAP and (marks := meta.get("labels")) and marks.get(labels.COMPONENT) == "gateway":
            return self._route(namespace, marks.get(labels.INSTANCE, ""), True)
        if kind == SERVICE:
            return self._claim(namespace, name, _claim(raw))
        if kind in GATEWAY_PARTS and name == labels.GATEWAY:
            self._parts[namespace].add(kind.plural)
            return {key_of(namespace)} | (self._served(namespace, _serving(raw)) if kind == DEPLOYMENT else set())
        return set()

    def drop(self, kind: Kind, raw: Mapping[str, Any]) -> set[Key]:
        """An object is gone; whom that wakes."""
        meta = raw["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        if kind == MODEL_DEPLOYMENT:
            return self._know(namespace, name, None)
        if kind == CONFIG_MAP and (marks := meta.get("labels")) and marks.get(labels.COMPONENT) == "gateway":
            return self._route(namespace, marks.get(labels.INSTANCE, ""), False)
        if kind == SERVICE:
            return self._claim(namespace, name, None)
        if kind in GATEWAY_PARTS and name == labels.GATEWAY:
            self._parts[namespace].discard(kind.plural)
            if not self._parts[namespace]:
                del self._parts[namespace]
            return {key_of(namespace)} | (self._served(namespace, 0) if kind == DEPLOYMENT else set())
        return set()

    def state(self, namespace: str) -> GatewayState:
        """The gateway as its users see it; the ports are a view, not a copy."""
        held = MappingProxyType(self._held.get(namespace, {}))
        replicas = self._replicas.get(namespace, 0)
        return GatewayState(replicas > 0, self._trouble.get(namespace), held, replicas)

    def tell(self, namespace: str, status: Mapping[str, str]) -> set[Key]:
        """What a pass over the gateway found of its trouble; whom that wakes."""
        trouble = (status["reason"], status["message"]) if status else None
        if trouble == self._trouble.get(namespace):
            return set()
        self._trouble.pop(namespace, None)
        if trouble:
            self._trouble[namespace] = trouble
        return self._users_keys(namespace)

    def owners(self, namespace: str) -> list[Owner]:
        """The oldest users, in order of age."""
        known, routed = self._known.get(namespace, {}), self._routed.get(namespace, ())
        users = [(user.created, user.uid, name) for name, user in known.items() if user.wants or name in routed]
        return [Owner(name, uid) for _, uid, name in sorted(users)[:OWNERS]]

    def parent(self, namespace: str) -> Raw | None:
        """The made-up parent of a namespace's gateway; None where there is neither a user nor anything of one."""
        owners = self.owners(namespace)
        if not owners and not self._parts.get(namespace):
            return None
        return {
            "apiVersion": labels.API_VERSION,
            "kind": KIND,
            "metadata": {"namespace": namespace, "name": labels.GATEWAY},
            "spec": {"owners": [{"name": owner.name, "uid": owner.uid} for owner in owners]},
        }

    def keys(self) -> Iterator[Key]:
        """Every gateway that there is, or is to be."""
        for namespace in sorted({*self._known, *self._parts}):
            if self.parent(namespace):
                yield key_of(namespace)

    def _know(self, namespace: str, name: str, user: User | None) -> set[Key]:
        known = self._known[namespace]
        before = known.pop(name, None)
        if user:
            known[name] = user
        if not known:
            del self._known[namespace]
        routed = name in self._routed.get(namespace, ())
        same = _as_user(before, routed) == _as_user(user, routed)
        return set() if same else {key_of(namespace)}

    def _route(self, namespace: str, instance: str, there: bool) -> set[Key]:
        routed = self._routed[namespace]
        same = (instance in routed) is there
        (routed.add if there else routed.discard)(instance)
        if not routed:
            del self._routed[namespace]
        user = self._known.get(namespace, {}).get(instance)
        return set() if same or user is None or user.wants else {key_of(namespace)}

    def _claim(self, namespace: str, name: str, claim: tuple[int, Claim] | None) -> set[Key]:
        """Who claims a port that another has too is woken with it: the younger of the two has to move."""
        before = self._port_of.pop((namespace, name), None)
        if before:
            self._claims[namespace, before[0]].discard(before[1])
            self._settle(namespace, before[0])
        if claim:
            self._port_of[namespace, name] = claim
            self._claims[namespace, claim[0]].add(claim[1])
            self._settle(namespace, claim[0])
        if claim is None or claim == before or len(self._claims[namespace, claim[0]]) < 2:
            return set()
        return {Key(MODEL_DEPLOYMENT.plural, namespace, each.name) for each in self._claims[namespace, claim[0]]}

    def _settle(self, namespace: str, port: int) -> None:
        claims, held = self._claims[namespace, port], self._held[namespace]
        if claims:
            held[port] = min(claims).name
            return
        del self._claims[namespace, port]
        held.pop(port, None)
        if not held:
            del self._held[namespace]

    def _served(self, namespace: str, replicas: int) -> set[Key]:
        before = self._replicas.pop(namespace, 0)
        if replicas:
            self._replicas[namespace] = replicas
        return set() if bool(before) is bool(replicas) else self._users_keys(namespace)

    def _users_keys(self, namespace: str) -> set[Key]:
        known = self._known.get(namespace, {})
        return {Key(MODEL_DEPLOYMENT.plural, namespace, name) for name, user in known.items() if user.wants}


KIND = "Gateway"
"""Kind of the made-up parent."""


def key_of(namespace: str) -> Key:
    """The gateway of a namespace, as the queue knows it."""
    return Key(labels.GATEWAYS, namespace, labels.GATEWAY)


def owns(live: Mapping[str, Any]) -> bool:
    """Whether an object of a gateway's name is ours: without a controller, and written by us or owned by a user."""
    meta = live["metadata"]
    owners = meta.get("ownerReferences") or ()
    users = [o for o in owners if (o["apiVersion"], o["kind"]) == (labels.API_VERSION, MODEL_DEPLOYMENT.kind)]
    if any(owner.get("controller") for owner in owners):
        return False
    return bool(users) or labels.APPLIED in (meta.get("annotations") or {})


def wanted_by(raw: Mapping[str, Any]) -> bool:
    """Whether a ModelDeployment's requests are to go through its namespace's gateway."""
    return bool((raw.get("spec") or {}).get("traffic", Traffic.GATEWAY) == Traffic.GATEWAY)


def _user(raw: Mapping[str, Any]) -> User:
    meta = raw["metadata"]
    return User(meta.get("creationTimestamp", ""), meta["uid"], wanted_by(raw))


def _as_user(user: User | None, routed: bool) -> User | None:
    return user if user and (user.wants or routed) else None


def _claim(raw: Mapping[str, Any]) -> tuple[int, Claim] | None:
    meta = raw["metadata"]
    port = (meta.get("labels") or {}).get(labels.GATEWAY_PORT, "")
    owner = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), None)
    if not port.isdecimal() or owner is None or owner["name"] != meta["name"]:
        return None
    return int(port), Claim(meta.get("creationTimestamp", ""), meta["uid"], meta["name"])


def _serving(raw: Mapping[str, Any]) -> int:
    return ((raw.get("status") or {}).get("availableReplicas") or 0) if owns(raw) else 0
