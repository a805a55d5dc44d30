"""Who acts: one replica at a time, by a Lease.

Owns: taking, keeping and giving up the Lease; the end of the process when it is lost. Must not know: what leaders do.

Why not kubernetes.aio.leaderelection: it measures with the wall clock, which may jump, and it does not give the Lease
up at the end, so each restart would cost 15 s. Ours counts the holder's silence by our monotonic clock, as client-go.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from pilotboat.api import labels

from .errors import Conflict, EngineError, NotFound
from .kinds import LEASE, Kind

Raw = dict[str, Any]
log = logging.getLogger(__name__)


END_WITHIN = 2.0
"""Seconds in which a process ends that has lost the Lease, or cannot be sure of it any more."""
LOOK = 0.5
"""Seconds of these for one look: the watchdog's at the clock, or the API server's answer to whose Lease it is."""


@dataclass(frozen=True)
class Timing:
    """Seconds: client-go's defaults, but for `retry`, so that what was taken is noticed in time."""

    lease: float = 15
    """A holder silent for so long has lost the Lease."""
    renew: float = 10
    """A leader that could not renew for so long gives up; the rest is for it to stop."""
    retry: float = END_WITHIN - LOOK
    """Between tries of whoever waits, and between renewals: only then does a leader see that another has it."""

    @property
    def overdue(self) -> float:
        """Without a renewal for so long the watchdog ends the process, at its next look."""
        return self.renew + END_WITHIN - 2 * LOOK


@dataclass(frozen=True)
class Predecessor:
    """Who led before us and fell silent: he did not give the Lease up."""

    node: str
    """Where he ran; empty where he did not say."""
    renewed: str
    """His last word, by the clock of that node."""
    silence: float
    """Seconds since we first saw it."""


class Leases(Protocol):
    """What of the Api is needed here."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Raw | None: ...
    async def create(self, kind: Kind, namespace: str | None, body: Raw) -> Raw: ...
    async def replace(self, kind: Kind, body: Raw) -> Raw: ...


class Elector:
    """One candidate."""

    def __init__(
        self,
        api: Leases,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        node: str = "",
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._timing = timing or Timing()
        self._clock = clock
        self._node = node
        self._lease: Raw | None = None
        self._changed = clock()
        self.renewed = float("-inf")
        """When the last renewal that succeeded was begun: leadership surely holds for `lease` seconds from then."""
        self.predecessor: Predecessor | None = None
        """From whom the Lease was taken; None where it was free."""

    async def acquire(self) -> None:
        """Returns when we lead."""
        told = None
        while not await self.attempt():
            if self._held_by_other() and (holder := self._holder()) != told:
                log.info("%s stands by: %s holds the Lease", self._identity, holder)
                told = holder
            await asyncio.sleep(self._timing.retry)
        log.info("%s leads", self._identity)

    def sure(self) -> bool:
        """Whether nobody else can lead: then we may write."""
        return self._clock() - self.renewed < self._timing.renew

    async def keep(self) -> None:
        """Renew; returns when the Lease is lost."""
        while self.sure():
            await asyncio.sleep(self._timing.retry)
            if not await self.attempt() and self._held_by_other():
                return

    async def release(self) -> None:
        """Give the Lease up, so that the next one need not wait; best effort."""
        if self._lease is None or self._held_by_other():
            return
        spec = self._lease["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._api.replace(LEASE, self._lease | {"spec": spec})
        except EngineError as failure:
            log.warning("the Lease could not be given up: %s", failure)
        self.renewed = float("-inf")

    async def attempt(self) -> bool:
        """One try to take or renew; False where somebody else holds it or the API server does not answer."""
        began = self._clock()
        try:
            async with asyncio.timeout(self._timing.renew / 2):
                held = await self._taken()
        except (EngineError, TimeoutError) as failure:
            log.warning("the Lease could not be renewed: %s", failure)
            self._lease = None if isinstance(failure, Conflict) else self._lease
            return False
        self.renewed = began if held else self.renewed
        return held

    async def _taken(self) -> bool:
        """Whether we have it; where it is not the one we knew any more, by a second look at once: it may be gone, and
        nobody must lead for long beside whoever makes it anew."""
        try:
            return await self._take()
        except (Conflict, NotFound):
            self._lease = None
            return await self._take()

    async def _take(self) -> bool:
        if self._lease and self._lease["spec"].get("holderIdentity") == self._identity:
            self._lease = await self._api.replace(LEASE, self._body(self._lease))
            return True
        live = await self._api.get(LEASE, self._namespace, self._name)
        if live is None:
            if self._held_by_other() and self._clock() - self._changed < self._duration():
                return False  # somebody has deleted it, which does not end its holder
            self._lease = await self._api.create(LEASE, self._namespace, self._body(None))
            return True
        self._notice(live)
        silence = self._clock() - self._changed
        if self._held_by_other() and silence < self._duration():
            return False
        self.predecessor = _predecessor(live, silence) if self._held_by_other() else None
        self._lease = await self._api.replace(LEASE, self._body(live))
        return True

    def _notice(self, live: Raw) -> None:
        """The holder's silence is counted from when we saw its last sign, by our own clock."""
        if self._lease is None or self._lease["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
            self._changed = self._clock()
        self._lease = live

    def _held_by_other(self) -> bool:
        return self._holder() not in ("", self._identity)

    def _holder(self) -> str:
        """By what we know; empty: nobody."""
        return str((self._lease or {}).get("spec", {}).get("holderIdentity") or "")

    def _duration(self) -> float:
        return float((self._lease or {}).get("spec", {}).get("leaseDurationSeconds") or self._timing.lease)

    def _body(self, live: Raw | None) -> Raw:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = (live or {}).get("spec", {})
        ours = old.get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._timing.lease),
            "acquireTime": old.get("acquireTime") if ours else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (live is not None and not ours),
        }
        meta: Raw = live["metadata"] if live else {"name": self._name, "namespace": self._namespace}
        meta = meta | {"annotations": {**(meta.get("annotations") or {}), labels.LEADERS_NODE: self._node}}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": meta, "spec": spec}


def _predecessor(live: Raw, silence: float) -> Predecessor:
    node = (live["metadata"].get("annotations") or {}).get(labels.LEADERS_NODE) or ""
    return Predecessor(node, live["spec"].get("renewTime") or "", silence)


class Watchdog:
    """Ends the process when leadership can no longer be sure, even if the event loop is stuck.

    The event loop itself leaves `keep` after 10 s, where no request holds it up; this thread fires a second later and
    well before 15 s, when another may lead. There is nothing to save: every write is idempotent, and whoever leads next
    looks at what is.
    """

    def __init__(self, elector: Elector, timing: Timing, die: Callable[[int], Any] = os._exit) -> None:
        self._elector = elector
        self._limit = timing.overdue
        self._die = die
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lease-watchdog", daemon=True)

    def start(self) -> None:
        """From now on."""
        self._thread.start()

    def stop(self) -> None:
        """The Lease is about to be given up."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK):
            if time.monotonic() - self._elector.renewed > self._limit:
                log.critical("the Lease was not renewed in time: ending at once")
                self._die(1)
                return
