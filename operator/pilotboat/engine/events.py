"""Kubernetes Events about parents: one object a message, counted up when it happens again.

Owns: their names, deduplication, and that posting them never holds anything up. Must not know: why they are emitted.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from pilotboat.api import labels
from pilotboat.plan.types import Event

from .errors import Conflict, EngineError, NotFound
from .kinds import EVENT, Kind

Raw = dict[str, Any]
log = logging.getLogger(__name__)

BACKLOG = 1000
"""Events that may wait; more are dropped, for they are news and not state."""
REMEMBERED = 4096
MAX_MESSAGE = 1024
"""Bytes of an Event's message that the API server takes."""


class Posts(Protocol):
    """What of the Api is needed here."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Raw | None: ...
    async def create(self, kind: Kind, namespace: str | None, body: Raw) -> Raw: ...
    async def merge(self, kind: Kind, namespace: str, name: str, body: Raw) -> Raw: ...


class Recorder:
    """Takes events at once and posts them one after the other."""

    def __init__(self, api: Posts, now: Callable[[], datetime], dropped: Callable[[], None]) -> None:
        self._api = api
        self._now = now
        self._dropped = dropped
        self._backlog: asyncio.Queue[Raw] = asyncio.Queue(BACKLOG)
        self._counts: OrderedDict[str, int] = OrderedDict()

    def emit(self, parent: Mapping[str, Any], events: tuple[Event, ...]) -> None:
        """Never waits, never fails."""
        for event in events:
            try:
                self._backlog.put_nowait(self._object(parent, event))
            except asyncio.QueueFull:
                self._dropped()

    async def run(self) -> None:
        """Post for ever."""
        while True:
            body = await self._backlog.get()
            try:
                await self._post(body)
            except EngineError as failure:
                log.info("event not posted: %s", failure)
                self._dropped()
            except Exception:  # news must never end the work
                log.exception("event not posted")
                self._dropped()
            finally:
                self._backlog.task_done()

    async def flushed(self) -> None:
        """Wait until everything emitted so far was tried."""
        await self._backlog.join()

    async def _post(self, body: Raw) -> None:
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        count = self._counts.get(name, 0)
        if not count:
            try:
                await self._api.create(EVENT, namespace, body)
            except Conflict:  # posted by us before a restart, or by the former leader
                live = await self._api.get(EVENT, namespace, name)
                count = int((live or {}).get("count") or 1)
        if count:
            await self._count_up(namespace, name, body, count + 1)
        self._remember(name, count + 1)

    async def _count_up(self, namespace: str, name: str, body: Raw, count: int) -> None:
        try:
            patch = {"count": count, "lastTimestamp": body["lastTimestamp"]}
            await self._api.merge(EVENT, namespace, name, patch)
        except NotFound:  # its hour is over: the API server forgets Events
            await self._api.create(EVENT, namespace, body)
            self._counts.pop(name, None)

    def _remember(self, name: str, count: int) -> None:
        self._counts[name] = count
        self._counts.move_to_end(name)
        if len(self._counts) > REMEMBERED:
            self._counts.popitem(last=False)

    def _object(self, parent: Mapping[str, Any], event: Event) -> Raw:
        meta = parent["metadata"]
        message = event.message.encode()[:MAX_MESSAGE].decode(errors="ignore")
        identity = "\0".join((meta["uid"], event.type, event.reason, message))
        now = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": meta["namespace"], "name": _name(meta["name"], identity)},
            "involvedObject": {"apiVersion": parent["apiVersion"], "kind": parent["kind"]}
            | {field: meta[field] for field in ("namespace", "name", "uid")},
            "type": event.type,
            "reason": event.reason,
            "message": message,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": labels.MANAGER},
            "reportingComponent": f"{labels.GROUP}/operator",
            "reportingInstance": labels.MANAGER,
        }


def _name(parent: str, identity: str) -> str:
    """The same message about the same object always has the same name."""
    return f"{parent}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
