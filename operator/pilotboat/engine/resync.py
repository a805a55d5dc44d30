"""The safety net under the watches: LIST everything now and then, and put right what no event told.

Owns: when and how kinds are listed, and whether the watches are alive. Must not know: what wakes do.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Protocol

from .errors import EngineError
from .kinds import CLUSTERED, WATCHED, Key, Kind, selector_of
from .metrics import Metrics
from .queue import Queue
from .store import Store

Raw = dict[str, Any]
log = logging.getLogger(__name__)
JITTER = 0.2
FIRST = 0.1
"""The first round comes early, at this share of the interval: it finds what was deleted while the watches began."""


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
        self._heard = dict.fromkeys((kind.plural for kind in WATCHED), float("-inf"))
        self._finished = dict.fromkeys((kind.plural for kind in WATCHED), float("-inf"))
        self.deaf: set[str] = set()
        """Kinds whose watch missed a change and was silent for a whole round: dead."""

    def heard(self, kind: Kind) -> None:
        """The watch of that kind gave a sign of life."""
        self._heard[kind.plural] = self._clock()
        self.deaf.discard(kind.plural)

    @property
    def age(self) -> float:
        """Seconds since the kind listed longest ago was listed."""
        return self._clock() - min(self._finished.values())

    async def first(self) -> None:
        """Everything, before any work is done; tried until it succeeds."""
        for kind in WATCHED:
            while True:
                try:
                    await self._kind(kind)
                    break
                except EngineError as failure:
                    log.warning("waiting for %s: %s", kind.plural, failure)
                    await asyncio.sleep(self._spread(2))
        self._wake((*self._store.gateways.keys(), *self._store.parents()))

    async def run(self) -> None:
        """Round after round, for ever."""
        await asyncio.sleep(self._spread(self._interval * FIRST))
        while True:
            for kind in WATCHED:
                try:
                    await self._kind(kind)
                except EngineError as failure:
                    log.warning("resync of %s failed, next round will tell: %s", kind.plural, failure)
                except Exception:  # a bug met by one kind's objects must not end the work; health tells if it lasts
                    log.exception("resync of %s failed", kind.plural)
            self._store.forget_tombstones()
            self._wake((*self._store.gateways.keys(), *self._store.parents()))
            await asyncio.sleep(self._spread(self._interval))

    async def _kind(self, kind: Kind) -> None:
        repaired = 0
        for namespace in (None,) if kind in CLUSTERED else self._namespaces:
            repaired += await self._list(kind, namespace)
        self._judge(kind, repaired)
        self._finished[kind.plural] = self._clock()

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

    def _judge(self, kind: Kind, repaired: int) -> None:
        """A change or two may just be on their way; a watch that also said nothing since the last round is dead."""
        last = self._finished[kind.plural]
        if last == float("-inf") or not repaired:
            return
        self._metrics.missed.labels(kind.plural).inc(repaired)
        if self._heard[kind.plural] < last:
            log.error("the watch of %s is dead: it missed %d changes", kind.plural, repaired)
            self.deaf.add(kind.plural)

    def _woke(self, keys: set[Key]) -> bool:
        self._wake(keys)
        return bool(keys)

    def _wake(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._queue.add(key)

    @staticmethod
    def _spread(seconds: float) -> float:
        return seconds * (1 + random.uniform(-JITTER, JITTER))
