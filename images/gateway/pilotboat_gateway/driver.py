"""Makes HAProxy do what the routes and endpoints say: files first, then the running process, by the least that does it.

Owns: the order of writes, when a reload is needed, the slots' life. Must not know: where routes come from, evidence.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pilotboat.api.routing import Route

from . import moves, runtime, streams, table
from .config import LEAVING, REPLACED, backend, lanes_map, map_text, place_of, render, server, shifted, signature
from .floods import Floods
from .metrics import Metrics
from .runtime import Rejected, Running, Unreachable
from .scrape import Pod
from .settings import Settings
from .table import Board, Places
from .tails import Tails
from .trial import Trial

log = logging.getLogger(__name__)

BETWEEN_RELOADS = 1.0
"""Seconds: a burst of new deployments is one reload, or a few."""
LAST_ANSWERS = 1.0
"""Seconds for which a worker that is about to be replaced ends each connection with its answer. It shuts those that
rest at the reload: a caller who asks at that moment would get nothing, and cannot know whether he was heard."""
RELOADED_WITHIN = 15.0


@dataclass(frozen=True)
class Saved:
    """What a restarted agent goes on from."""

    routes: dict[str, Route]
    boards: dict[str, Board]

    @classmethod
    def load(cls, path: Path) -> Saved:
        """The file, or nothing where there is none or it cannot be read."""
        try:
            raw = json.loads(path.read_text())
            routes = {name: Route.model_validate(route) for name, route in raw["routes"].items()}
            return cls(routes, table.load(raw["table"]))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("%s cannot be read: %s", path, error)
            return cls({}, {})

    def dump(self) -> str:
        """As `load` reads it."""
        routes = {name: route.wire() for name, route in sorted(self.routes.items())}
        return json.dumps({"routes": routes, "table": table.dump(self.boards)})


class Driver:
    """One HAProxy."""

    def __init__(self, settings: Settings, metrics: Metrics, tails: Tails) -> None:
        self._settings = settings
        self._metrics = metrics
        self._tails = tails
        self._trial = Trial(settings)
        self._reloaded = -BETWEEN_RELOADS
        self._drained: set[str] | None = None
        """Servers that drain because we said so; None until the first look at a HAProxy that another agent drove."""
        self.saved = Saved.load(settings.state)
        self._wanted = ""
        """Signature of what is on disk."""
        self.boards: table.Table = self.saved.boards
        """Who sits where in HAProxy as it was last steered: while it is reloaded that is not what is saved, and slots
        that were laid out anew would tell of one pod what is true of another."""
        self._leaves = False
        self._running: Running | None = None
        """The worker that was steered last."""
        self.unreached: frozenset[str] = frozenset()
        """Pods that its probes did not reach when we last looked."""
        self.floods = Floods()
        self.seated: table.Pods = frozenset()
        """Those that it has a place for since the last change that was applied."""
        self._left: dict[tuple[str, str], float] = {}
        self.applied = False
        """HAProxy runs, and with what was last wanted."""
        metrics.applied.set_function(lambda: self.applied)
        self.ready = False
        """HAProxy runs, and was steered since it began: a change that is under way, or refused, takes nothing from
        that."""
        self.written = False
        """The files are of this agent's life: HAProxy may start with them."""

    @property
    def refused(self) -> dict[str, str]:
        """Deployments whose routes HAProxy refuses, and its words: what stood before of them stands."""
        return self._trial.refused

    async def apply(self, routes: Mapping[str, Route], places: Places, leaves: bool = False) -> None:
        """Bring files and process to this; `leaves`: callers are to make their next connection elsewhere.

        Raises Unreachable where no HAProxy runs yet, Rejected where it refuses."""
        try:
            await self._apply(routes, places, leaves)
        except Unreachable:
            self.ready = False
            raise

    async def _apply(self, routes: Mapping[str, Route], places: Places, leaves: bool) -> None:
        self.applied, self._leaves = False, leaves
        saved, wanted = await self._planned(routes, places)
        self._write(saved, wanted)
        if (await runtime.running(self._settings.runtime)).signature != wanted:
            await self._reload(wanted)
        await self._steer()
        if leaves:
            await self._tails.follow()
            # Soon nobody accepts whom they could hand it to.
            await runtime.hand_on_no_more(self._settings.master, self._settings.map)
        before, self.seated = self.seated, table.seated(saved.boards)
        self._left = table.left(self._left, before, self.seated, time.time())
        self.applied = self.ready = True

    async def still_matches(self) -> bool:
        """Whether HAProxy, which may have been started anew, runs with what is on disk and gives everybody the weight
        that he is to have; True before anything is.

        Raises Unreachable where it ends meanwhile."""
        found = await self._found()
        if found is None:
            self.ready = False
        if not self.applied:
            return True
        steered = found == self._running
        same = found is not None and steered and found.signature == self._wanted and await self._weighs()
        if not self.applied:  # a change began meanwhile, and says itself when it is done
            return True
        self.applied, self.ready = same, steered
        return same

    async def _weighs(self) -> bool:
        """Whether nobody who takes requests has another weight than his zone's."""
        return not moves.misweighed(self.saved.boards, await runtime.servers(self._settings.runtime))

    def pods(self, weight: int | None = None) -> list[Pod]:
        """Everybody who takes requests; or those whose zone has that weight."""
        boards = self.saved.boards
        return [
            Pod(name, boards[name].slots[lane].revision or "", seat.pod, place_of(seat))
            for (name, lane), _, seat in table.sitting(boards)
            if weight in (None, seat.weight)
        ]

    def left(self, deployment: str) -> dict[str, float]:
        """Pods that have no place any more, and when they lost it."""
        return {pod: since for (name, pod), since in self._left.items() if name == deployment}

    async def sweep(self) -> bool:
        """Move what waits in vain, and take those out who drained and have no stream left; True where any went.

        Raises Unreachable where no HAProxy runs: what its probes reached is remembered for the next one."""
        rows = await runtime.stats(self._settings.runtime)
        await runtime.tell(self._settings.runtime, moves.requeue(rows))
        self.unreached = streams.unreached(rows, self.boards)
        self._see_floods(rows)
        waiting = table.draining(self.saved.boards)
        busy = {(row["pxname"], row["svname"]) for row in rows if int(row["scur"] or 0) + int(row["qcur"] or 0)}
        idle = [(name, lane, at) for name, lane, at in waiting if (backend(name, lane), server(at)) not in busy]
        self.saved = Saved(self.saved.routes, table.release(self.saved.boards, idle))
        return bool(idle)

    def _see_floods(self, rows: list[dict[str, str]]) -> None:
        self.floods.see(streams.floods(rows, self.saved.boards), time.monotonic())

    async def _planned(self, routes: Mapping[str, Route], places: Places) -> tuple[Saved, str]:
        """What HAProxy is to run with, which takes it, and the signature. A configuration that it refuses never gets
        to its files."""
        saved, wanted = self._plan(routes, places)
        if await self._refuses(saved, wanted):
            await self._trial.blame(routes, self.saved.routes)
            saved, wanted = self._plan(routes, places)
            if words := await self._refuses(saved, wanted):
                raise Rejected(words)
        return saved, wanted

    def _plan(self, routes: Mapping[str, Route], places: Places) -> tuple[Saved, str]:
        usable = self._trial.usable(routes, self.saved.routes)
        saved = Saved(usable, table.arrange(usable, places, self.saved.boards))
        return saved, signature(saved.routes, saved.boards, self._settings)

    async def _refuses(self, saved: Saved, wanted: str) -> str:
        config = self._settings.config
        if config.exists() and wanted in config.read_text():
            return ""
        return await self._trial.refuses(render(saved.routes, saved.boards, self._settings))

    def _write(self, saved: Saved, wanted: str) -> None:
        """What a restart begins with."""
        settings, text = self._settings, render(saved.routes, saved.boards, self._settings)
        mapped = map_text(self._entries(saved))
        self.saved, self._wanted = saved, wanted
        for path, content in ((settings.state, saved.dump()), (settings.map, mapped), (settings.config, text)):
            _replace(path, content)
        self.written = True

    def _entries(self, saved: Saved) -> dict[str, str]:
        return lanes_map(saved.routes, saved.boards) | (LEAVING if self._leaves and saved.routes else {})

    async def _reload(self, wanted: str) -> None:
        await self._shift()
        await asyncio.sleep(self._reloaded + BETWEEN_RELOADS - time.monotonic())
        await self._say_last()
        await self._tails.follow()
        self._reloaded = time.monotonic()
        self._metrics.reloads.inc()
        log.info("reloading HAProxy")
        await runtime.reload(self._settings.master)
        async with asyncio.timeout(RELOADED_WITHIN):
            while not await self._runs(wanted):  # noqa: ASYNC110 -- another process, which tells nobody
                await asyncio.sleep(0.02)
        self._drained = set()

    async def _shift(self) -> None:
        """Shares wait for no reload where the worker of now has the lanes: a canary that is given up least of all."""
        running = await runtime.show_map(self._settings.runtime, self._settings.map)
        if (entries := shifted(running, self._entries(self.saved))) != running:
            await runtime.replace_map(self._settings.runtime, self._settings.map, entries)
            self._metrics.changes.inc()

    async def _say_last(self) -> None:
        """The new worker reads the map's file, which does not say so."""
        entries = await runtime.show_map(self._settings.runtime, self._settings.map)
        if entries:  # else there is no route, and nobody is answered
            await runtime.replace_map(self._settings.runtime, self._settings.map, entries | REPLACED)
            await asyncio.sleep(LAST_ANSWERS)

    async def _runs(self, wanted: str) -> bool:
        found = await self._found()
        return found is not None and found.signature == wanted

    async def _found(self) -> Running | None:
        try:
            return await runtime.running(self._settings.runtime)
        except Unreachable:
            return None

    async def _steer(self) -> None:
        """The running process, without a reload: newcomers first, then the shares, then those who leave."""
        socket = self._settings.runtime
        running, placed = await runtime.running(socket), await runtime.servers(socket)
        if (drained := self._drained) is None:
            drained = {f"{owner}/{name}" for (owner, name), there in placed.items() if there.draining}
        coming, going, drained = moves.moves(self.saved.boards, placed, drained)
        if running != self._running:
            coming += moves.trusted(self.saved.boards, placed, self.unreached, self._running is not None)
            self._see_floods(await runtime.stats(socket))  # before the first caller of a new one is counted
        self._drained = (self._drained or set()) | drained  # whether it hears of it or not
        await runtime.tell(socket, coming)
        entries = self._entries(self.saved)
        if await runtime.show_map(socket, self._settings.map) != entries:
            await runtime.replace_map(socket, self._settings.map, entries)
            self._metrics.changes.inc()
        await runtime.tell(socket, going)
        self._running, self._drained, self.boards = running, drained, self.saved.boards


def _replace(path: Path, content: str) -> None:
    """All of it or nothing: a process may die between any two lines."""
    new = path.with_name(path.name + ".new")
    new.write_text(content)
    new.replace(path)
