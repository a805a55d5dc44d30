"""How many requests are under way, how many replicas are up, how much feedback was refused: over HAProxy's workers.

Owns: adding up what workers say, those that only end their streams included. Must not know: who wants to know.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pilotboat.api.routing import Sighting

from . import runtime
from .config import SPILL_SERVER, backend, flood, server
from .runtime import Gone, Unreachable
from .settings import Settings
from .table import Table, sitting

Key = tuple[str, str]
BETWEEN_LOOKS = 0.5
MOMENT = 0.5
"""Seconds for which what was seen is told again."""


@dataclass
class Told:
    """By deployment and revision."""

    up: Counter[Key] = field(default_factory=Counter)
    open: Counter[Key] = field(default_factory=Counter)
    replicas: dict[str, dict[str, Sighting]] = field(default_factory=dict)
    """By deployment and pod."""
    floods: dict[str, int] = field(default_factory=dict)
    """By deployment: feedback refused since the worker that accepts has begun."""


async def look(settings: Settings, table: Table) -> Told:
    """Ask every worker. Raises Unreachable where none accepts."""
    told = Told()
    rows = await runtime.stats(settings.runtime)
    _add(told, rows, _revisions(table), accepts=True)
    told.floods = floods(rows, table)
    told.replicas = _sightings(rows, table, time.time())
    for worker in await _old(settings.master):
        with suppress(Unreachable):  # it has ended since
            await _add_old(told, settings, f"@!{worker} ")
    return told


class Looks:
    """One for all who ask within a moment. Where a node is lost the operator asks about every deployment of a namespace
    at once, and to look for one takes as long as for all."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last: asyncio.Task[Told] | None = None
        self._began = 0.0

    async def take(self, table: Table) -> Told:
        """As `look`."""
        now = time.monotonic()
        if self._last is None or (self._last.done() and now - self._began >= MOMENT):
            self._last, self._began = asyncio.create_task(look(self._settings, table)), now
        return await asyncio.shield(self._last)


async def _add_old(told: Told, settings: Settings, prefix: str) -> None:
    lanes = await runtime.show_map(settings.master, settings.map, prefix)
    revisions = {key.removeprefix("lane/"): value for key, value in lanes.items() if key.startswith("lane/")}
    _add(told, await runtime.stats(settings.master, prefix), revisions, accepts=False)


def unreached(rows: list[dict[str, str]], table: Table) -> frozenset[str]:
    """Pods, of any deployment, that the probes do not reach."""
    seen = _sightings(rows, table, time.time())
    return frozenset(pod for pods in seen.values() for pod, sighting in pods.items() if not sighting.up)


async def until_gone(settings: Settings) -> None:
    """Until HAProxy has ended with its last stream."""
    while True:
        try:
            await runtime.ask(settings.master, "show version")
        except Gone:
            return
        except Unreachable:  # it is there, and slow
            pass
        await asyncio.sleep(BETWEEN_LOOKS)


async def _old(master: Path) -> list[str]:
    try:
        return await runtime.old_workers(master)
    except Unreachable:
        return []


def floods(rows: list[dict[str, str]], table: Table) -> dict[str, int]:
    """By deployment: feedback refused since the worker that accepts has begun."""
    owners = {flood(name): name for name in table}
    return {owners[row["pxname"]]: int(row["stot"] or 0) for row in rows if row["pxname"] in owners}


def _sightings(rows: list[dict[str, str]], table: Table, now: float) -> dict[str, dict[str, Sighting]]:
    """Everybody who sits and does not leave: whether the probes reach him, and since when."""
    found = {(row["pxname"], row["svname"]): row for row in rows}
    told: dict[str, dict[str, Sighting]] = {}
    for (name, lane), at, seat in sitting(table):
        row = found.get((backend(name, lane), server(at)))
        if row is not None and not row["status"].startswith("MAINT"):
            seen = Sighting(up=not row["status"].startswith("DOWN"), since=round(now - int(row["lastchg"] or 0)))
            told.setdefault(name, {})[seat.pod] = seen
    return told


def _revisions(table: Table) -> dict[str, str]:
    return {
        backend(name, at): slot.revision
        for name, board in table.items()
        for at, slot in enumerate(board.slots)
        if slot.revision
    }


def _add(told: Told, rows: list[dict[str, str]], revisions: Mapping[str, str], *, accepts: bool) -> None:
    for row in rows:
        revision = revisions.get(row["pxname"])
        if revision is None or row["svname"] == SPILL_SERVER:
            continue
        key = (row["pxname"].rpartition(":")[0], revision)
        if row["svname"] == "BACKEND":
            told.open[key] += int(row["qcur"] or 0)
        else:
            told.open[key] += int(row["scur"] or 0)
            told.up[key] += accepts and row["status"].startswith("UP")
