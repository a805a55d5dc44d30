"""The safety net under the watches: LIST everything now and then, and put right what no event told.

Owns: when and how kinds are listed, where that is not allowed, and whether the watches are alive. Must not know: what
wakes do.

A namespace that may not be listed holds up no other: it was deleted, and its Role with it, or has none yet. Nothing is
done there until all of it can be seen.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Protocol

from .errors import EngineError, Forbidden
from .kinds import CLUSTERED, DISPENSABLE, WATCHED, Key, Kind, selector_of
from .metrics import Metrics
from .queue import Queue
from .store import Store

Raw = dict[str, Any]
log = logging.getLogger(__name__)
JITTER = 0.2
FIRST = 0.1
"""The first round comes early, at this share of the interval: it finds what was deleted while the watches began."""
CLOSED_EVERY = 10.0
"""Seconds between two tries to list what may not be listed."""

Place = tuple[str, str | None]
"""What has a watch of its own: a kind's plural, and a namespace, or None for all."""


class Lists(Protocol):
    """What of the Api is needed here."""

    def pages(self, kind: Kind, namespace: str | None, selector: str | None = None) -> AsyncIterator[list[Raw]]: ...


class Resync:
    """Lists every kind in every namespace watched; None as a namespace stands for all."""

    def __init__(
        self,
        api: Lists,
        store: Store,
        queue: Queue,
        metrics: Metrics,
        *,
        namespaces: Sequence[str | None],
        interval: float,
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._store = store
        self._queue = queue
        self._metrics = metrics
        self._namespaces = namespaces
        self._interval = interval
        self._clock = clock
        self._places = [(k, n) for k in WATCHED for n in ((None,) if k in CLUSTERED else namespaces)]
        self._heard = {(kind.plural, namespace): float("-inf") for kind, namespace in self._places}
        self._finished = dict(self._heard)
        self._forbidden: set[tuple[Kind, str | None]] = set()
        self._begun = False
        """Whether the first round is over, during which watches may only just begin."""
        self.deaf: set[Place] = set()
        """Whose watch missed a change and was silent for a whole round: dead."""

    def heard(self, kind: Kind, namespace: str | None) -> None:
        """The watch of that kind gave a sign of life, there."""
        place = (kind.plural, namespace if namespace in self._namespaces else None)
        self._heard[place] = self._clock()
        self.deaf.discard(place)

    @property
    def age(self) -> float:
        """Seconds since what was listed longest ago was listed; what may not be listed is told by the log."""
        closed = {(kind.plural, namespace) for kind, namespace in self._forbidden}
        return self._clock() - min((at for place, at in self._finished.items() if place not in closed), default=0.0)

    @property
    def forbidden(self) -> int:
        """How many kinds, by namespace, may not be listed."""
        return len(self._forbidden)

    def closed(self, namespace: str) -> bool:
        """Whether nothing may be done there, for not all can be seen."""
        return any(where == namespace and kind not in DISPENSABLE for kind, where in self._forbidden)

    async def first(self) -> None:
        """Everything, before any work is done; tried until it succeeds."""
        for kind, namespace in self._places:
            while True:
                try:
                    await self._place(kind, namespace)
                    break
                except EngineError as failure:
                    log.warning("waiting for %s: %s", kind.plural, failure)
                    await asyncio.sleep(self._spread(2))
        self._wake((*self._store.gateways.keys(), *self._store.parents()))

    async def run(self) -> None:
        """Round after round, for ever."""
        await asyncio.sleep(self._spread(self._interval * FIRST))
        while True:
            await self._each(self._places)
            self._begun = True
            self._store.forget_tombstones()
            self._wake((*self._store.gateways.keys(), *self._store.parents()))
            await asyncio.sleep(self._spread(self._interval))

    async def reopen(self) -> None:
        """Try what may not be listed, for ever, and go on where it may be again."""
        while True:
            await asyncio.sleep(self._spread(CLOSED_EVERY))
            before = tuple(self._forbidden)
            await self._each(before)
            if opened := {namespace for kind, namespace in before if (kind, namespace) not in self._forbidden}:
                known = (*self._store.gateways.keys(), *self._store.parents())
                self._wake(key for key in known if opened & {key.namespace, None})

    async def _each(self, places: Iterable[tuple[Kind, str | None]]) -> None:
        for kind, namespace in places:
            try:
                await self._place(kind, namespace)
            except EngineError as failure:
                log.warning("resync of %s failed, next round will tell: %s", kind.plural, failure)
            except Exception:  # a bug met by one kind's objects must not end the work; health tells if it lasts
                log.exception("resync of %s failed", kind.plural)

    async def _place(self, kind: Kind, namespace: str | None) -> None:
        """Raises EngineError, but where going on without is better than waiting."""
        try:
            repaired = await self._list(kind, namespace)
        except Forbidden as failure:
            if namespace is None and kind not in DISPENSABLE:
                raise
            if (kind, namespace) not in self._forbidden:
                log.error("going on without %s in %s: %s", kind.plural, namespace or "all namespaces", failure.message)
            self._forbidden.add((kind, namespace))
            return
        if (kind, namespace) in self._forbidden:
            self._forbidden.discard((kind, namespace))
            log.info("%s in %s can be listed again", kind.plural, namespace or "all namespaces")
        else:
            self._judge((kind.plural, namespace), repaired)
        self._finished[kind.plural, namespace] = self._clock()

    async def _list(self, kind: Kind, namespace: str | None) -> int:
        began = self._clock()
        listed: set[str] = set()
        repaired = 0
        async for page in self._api.pages(kind, namespace, selector_of(kind)):
            for raw in page:
                listed.add(raw["metadata"]["uid"])
                repaired += self._woke(self._store.put(kind, raw))
        for ghost in self._store.missing(kind, namespace, listed, began):
            repaired += self._woke(self._store.delete(kind, ghost))
        return repaired

    def _judge(self, place: Place, repaired: int) -> None:
        """A change or two may just be on their way; a watch that also said nothing since the last round is dead."""
        last = self._finished[place]
        if last == float("-inf") or not repaired:
            return
        self._metrics.missed.labels(place[0]).inc(repaired)
        if self._begun and self._heard[place] < last:
            log.error("the watch of %s is dead: it missed %d changes", where(place), repaired)
            self.deaf.add(place)

    def _woke(self, keys: set[Key]) -> bool:
        self._wake(keys)
        return bool(keys)

    def _wake(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._queue.add(key)

    @staticmethod
    def _spread(seconds: float) -> float:
        return seconds * (1 + random.uniform(-JITTER, JITTER))


def where(place: Place) -> str:
    """In words."""
    plural, namespace = place
    return f"{plural} in {namespace}" if namespace else plural
