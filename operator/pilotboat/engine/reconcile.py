"""One pass over one parent: look, plan, apply, write the status, tell.

Owns: the order of things. Must not know: queues and watches, nor what any plan is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pilotboat.api import labels
from pilotboat.plan.types import Observed, Plan, Planner, PlanSettings

from . import owners
from .apply import Applier
from .errors import ParentGone
from .kinds import Key, kind_of
from .lookup import Lookup, Raw
from .newcomers import AT_FIRST
from .store import Store

Emit = Callable[[Raw, Plan], None]
"""Called with a parent as it was, and the plan whose status has been written."""
Wake = Callable[[Iterable[Key]], None]

HELD_BACK = timedelta(seconds=AT_FIRST)
"""How long a status waits for what gateways say of a replica that has just become ready. They answer within a fraction
of it, and the pass that follows tells of the replica as it is, once."""


class TryAgain(Exception):
    """The pass went through, but something was refused: to be tried again with back-off."""


class Reconciler:
    """Makes passes."""

    def __init__(
        self,
        store: Store,
        lookup: Lookup,
        applier: Applier,
        planners: Mapping[str, Planner],
        settings: PlanSettings,
        emit: Emit,
        wake: Wake,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._lookup = lookup
        self._applier = applier
        self._planners = planners
        self.settings = settings
        self._emit = emit
        self._wake = wake
        self._now = now

    async def reconcile(self, key: Key) -> timedelta | None:
        """When to look again, if nothing happens before. Raises TryAgain or an EngineError."""
        parent = self._store.parent(key)
        if parent is None or _gone(parent):
            self._lookup.forget(key)
            return None
        try:
            return await self._pass(key, parent)
        except ParentGone as failure:
            self._wake(self._forget(failure.gone))
            return None

    async def _pass(self, key: Key, parent: Raw) -> timedelta | None:
        planner = self._planners[key.plural]
        observed = await self._lookup.observe(key, parent, planner)
        if orphans := self._orphans(key, observed):
            await self._applier.take_back(key, parent, orphans)
            observed = await self._lookup.observe(key, parent, planner)
        plan = planner.plan(observed, self.settings, self._now())
        rejected = await self._applier.carry_out(key, plan, observed)
        if rejected:
            plan = planner.plan(replace(observed, rejected=rejected), self.settings, self._now())
        if observed.unheard and not rejected:
            return min(HELD_BACK, plan.requeue_after or HELD_BACK)
        await self._report(key, parent, plan)
        if rejected:
            raise TryAgain("; ".join(sorted(f"{ref.kind} {ref.name}: {r.message}" for ref, r in rejected.items())))
        return plan.requeue_after

    def _orphans(self, key: Key, observed: Observed) -> list[Mapping[str, Any]]:
        """Children whose ownerReference somebody took off, also of kinds that are looked up and not watched."""
        unwatched = (raw for raw in observed.references.values() if raw and owners.owner_of(raw) == key)
        parent = observed.parent
        return [*self._store.orphans(key, parent), *(raw for raw in unwatched if owners.may_return(parent, raw))]

    def _forget(self, gone: Mapping[str, Any] | None) -> set[Key]:
        return self._store.delete(kind_of(gone["apiVersion"], gone["kind"]), gone) if gone else set()

    async def _report(self, key: Key, parent: Raw, plan: Plan) -> None:
        """The status last and once; events only for what is news. A gateway's is told by those who use it."""
        if key.plural == labels.GATEWAYS:
            self._wake(self._store.gateways.tell(key.namespace, plan.status or {}))
        elif plan.status is None or await self._applier.write_status(parent, plan.status):
            self._emit(parent, plan)


def _gone(parent: Raw) -> bool:
    """Whether it is deleted, and nothing of it is in objects of others."""
    meta = parent["metadata"]
    return "deletionTimestamp" in meta and labels.ROUTE_FINALIZER not in (meta.get("finalizers") or ())
