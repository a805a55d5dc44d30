"""What a plan may look at: the parent's own objects from the store, and the objects its spec names.

Owns: Observed. Must not know: what is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, Protocol

from pilotboat.api import labels
from pilotboat.plan import diagnose
from pilotboat.plan.routes import SERVER
from pilotboat.plan.types import Answer, Observed, Planner, Questions, Ref, RegionState, Unread

from . import gateways
from .errors import Forbidden, NoSuchKind, NotFound
from .evidence import Heard
from .kinds import DNS_ENDPOINT, HTTP_ROUTE, MODEL_DEPLOYMENT, OPTIONAL, PARENTS, WATCHED, Key, Kind, kind_of
from .store import Store

Raw = dict[str, Any]
FOREIGN_AGE = 5.0
"""Seconds that an object we do not watch is taken from memory: enough for parents that name the same one."""
WRITTEN = (HTTP_ROUTE, DNS_ENDPOINT)
"""Of these, what we write ourselves: never taken from memory."""


class Reads(Protocol):
    """What of the Api is needed here."""

    async def find(self, kind: Kind, namespace: str, name: str) -> Raw: ...


class Witnesses(Protocol):
    """What of the EvidencePoller is needed here."""

    def want(self, key: Key, wanted: bool) -> None: ...
    def of(self, key: Key) -> list[Heard]: ...


class Answers(Protocol):
    """What of Prometheus is needed here."""

    def want(self, key: Key, asked: Questions | None) -> None: ...
    def of(self, key: Key) -> tuple[Answer, ...]: ...


class Posts(Protocol):
    """What of Regions is needed here."""

    def see(self, key: Key, parent: Mapping[str, Any] | None) -> None: ...
    def of(self, key: Key) -> RegionState | None: ...


class Arrivals(Protocol):
    """What of Newcomers is needed here."""

    def of(self, key: Key, ready: Set[str]) -> frozenset[str]: ...
    def unheard(self, key: Key) -> bool: ...
    def warmed(self, key: Key) -> Mapping[str, float]: ...
    def forget(self, key: Key) -> None: ...


class Refusals(Protocol):
    """What of Floods is needed here."""

    def of(self, key: Key) -> int: ...


class Lookup:
    """Builds Observed."""

    def __init__(
        self,
        api: Reads,
        store: Store,
        evidence: Witnesses,
        prometheus: Answers,
        regions: Posts,
        newcomers: Arrivals,
        floods: Refusals,
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._store = store
        self._evidence = evidence
        self._prometheus = prometheus
        self._regions = regions
        self._newcomers = newcomers
        self._floods = floods
        self._clock = clock
        self._foreign: dict[Ref, tuple[float, Raw | None]] = {}

    async def observe(self, key: Key, parent: Mapping[str, Any], planner: Planner) -> Observed:
        """All that the planner wants to see."""
        refs = planner.references(parent)
        self._store.watch(key, refs)
        references, unread = await self._read(refs)
        self._evidence.want(key, planner.wants_evidence(parent))
        heard = self._evidence.of(key)
        self._prometheus.want(key, planner.asks(parent))
        self._regions.see(key, parent)
        return Observed(
            parent,
            self._store.children(parent),
            self._store.pods(key),
            references,
            unread,
            gateway=self._store.gateways.state(key.namespace),
            nodes=self._store.nodes,
            dns=self._regions.of(key),
            evidence=tuple(evidence for evidence, _ in heard),
            evidence_at=tuple(at for _, at in heard),
            answers=self._prometheus.of(key),
            newcomers=self._new(key, parent),
            unheard=self._newcomers.unheard(key),
            warmed=self._newcomers.warmed(key),
            refused=self._floods.of(key),
        )

    def _new(self, key: Key, parent: Mapping[str, Any]) -> frozenset[str]:
        """Ready replicas that callers do not reach yet; none where requests go past our gateways."""
        if key.plural != MODEL_DEPLOYMENT.plural or not gateways.wanted_by(parent):
            self._newcomers.forget(key)
            return frozenset()
        ready = {
            pod["metadata"]["name"]
            for pod in self._store.pods(key)
            if pod["metadata"]["labels"].get(labels.COMPONENT) == SERVER and diagnose.ready(pod)
        }
        return self._newcomers.of(key, ready)

    def forget(self, key: Key) -> None:
        """The parent is gone or about to go: nothing of it is looked for any more."""
        self._regions.see(key, self._store.parent(key))
        self._store.watch(key, ())
        self._evidence.want(key, False)
        self._prometheus.want(key, None)
        self._newcomers.forget(key)
        if key.plural == labels.GATEWAYS:
            self._store.gateways.tell(key.namespace, {})

    async def _read(self, refs: Iterable[Ref]) -> tuple[dict[Ref, Mapping[str, Any] | None], dict[Ref, Unread]]:
        """What is referred to, and what cannot be read where the kind is one that may be missing."""
        found: dict[Ref, Mapping[str, Any] | None] = {}
        unread = {}
        for ref in refs:
            try:
                found[ref] = await self._find(ref)
            except NoSuchKind:
                unread[ref] = Unread.NO_SUCH_KIND
            except Forbidden:
                if kind_of(ref.api_version, ref.kind) not in OPTIONAL:
                    raise
                unread[ref] = Unread.FORBIDDEN
        return found, unread

    async def _find(self, ref: Ref) -> Mapping[str, Any] | None:
        kind = kind_of(ref.api_version, ref.kind)
        known = self._store.find(kind, ref.namespace, ref.name) if kind in WATCHED else None
        return known if known or kind in PARENTS else await self._fetch(kind, ref)

    async def _fetch(self, kind: Kind, ref: Ref) -> Raw | None:
        now = self._clock()
        fetched, raw = self._foreign.get(ref, (float("-inf"), None))
        if now - fetched > FOREIGN_AGE or kind in WRITTEN:  # what is written over is never taken from memory
            raw = await self._ask(kind, ref)
            self._foreign = {r: entry for r, entry in self._foreign.items() if now - entry[0] <= FOREIGN_AGE}
            self._foreign[ref] = (now, raw)
        return raw

    async def _ask(self, kind: Kind, ref: Ref) -> Raw | None:
        try:
            return await self._api.find(kind, ref.namespace, ref.name)
        except NoSuchKind:
            raise
        except NotFound:
            return None
