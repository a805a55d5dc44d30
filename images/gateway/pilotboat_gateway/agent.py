"""The agent's life: two watches, one loop that drives HAProxy, and what is told of the traffic.

Owns: which task does what when. Must not know: how any of it works.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import time
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import cast

from pilotboat.api.routing import Evidence, Route, Unreached

from . import kube, requestlog, starts, streams, web, world
from .canned import Canned
from .driver import Driver
from .evidence import Recorder
from .kube import Kube, Objects
from .metrics import Metrics
from .requestlog import Copied, Seen
from .runtime import Rejected, Unreachable
from .scrape import Pod, Scraper
from .settings import Settings
from .tails import Tails

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two looks whether HAProxy is there, who of those who drain has ended, and whom it does not reach."""
SCRAPE, CANNED = 10.0, 5.0
NOT_THERE, REFUSED = 0.1, 1.0
"""Seconds until the next try."""
AWAY = 10.0
"""Seconds after which it is told that HAProxy cannot be reached."""
READ, PIECE = 0.1, 2**18
"""Seconds between two looks at what HAProxy has told, and bytes of it that are taken at once."""
NEWS = ("Server ", "backend ")
"""How lines begin in which HAProxy says who is reached no more, or again, and why."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


async def run(settings: Settings) -> None:
    """Until a signal, and then until HAProxy has ended: its last streams are evidence too."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop.set)
    agent = Agent(settings)
    life = asyncio.create_task(agent.live())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((life, stopped), return_when=asyncio.FIRST_COMPLETED)
    if not life.done():
        await asyncio.wait((life, asyncio.create_task(streams.until_gone(settings))), return_when="FIRST_COMPLETED")
        life.cancel()
        await asyncio.wait((life,))
    if not life.cancelled() and (error := life.exception()):
        raise error


class Agent:
    """One namespace's."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._recorder = Recorder()
        self._metrics = Metrics(self._recorder)
        self._tails = Tails(settings, self._line_of_old)
        self._driver = Driver(settings, self._metrics, self._tails)
        self._looks = streams.Looks(settings)
        self._scraper = Scraper()
        self._canned = Canned()
        self._configs: Objects | None = None
        self._slices: Objects | None = None
        self._changed = asyncio.Event()
        self._since: float | None = None
        """When the oldest change that is not applied yet was told."""
        self._routes: Mapping[str, Route] = self._driver.saved.routes
        self._bad: set[str] = set()
        self._name = uuid.uuid4().hex
        self._began = time.time()
        self._told = 0.0
        """When a failed request was last logged."""

    async def live(self) -> None:
        """Never returns."""
        answers = web.Answers(
            ready=lambda: self._driver.ready,
            synced=lambda: self._driver.written,
            metrics=self._page,
            unreached=self._unreached,
            evidence=self._evidence,
            feedback=self._feedback,
        )
        async with AsyncExitStack() as stack:
            self._settings.log.unlink(missing_ok=True)
            lines = await asyncio.start_unix_server(self._lines, str(self._settings.log))
            stack.callback(lines.close)
            runner = await web.serve(web.app(answers), self._settings.agent_port)
            stack.push_async_callback(runner.cleanup)
            configuration = await kube.load_configuration(self._settings.kubeconfig)
            api = await stack.enter_async_context(Kube(configuration, self._settings.namespace))
            async with asyncio.TaskGroup() as group:
                group.create_task(api.follow(kube.CONFIGS, self._configs_are))
                group.create_task(api.follow(kube.SLICES, self._slices_are))
                group.create_task(self._drive())
                group.create_task(self._look())
                group.create_task(self._scrape())
                group.create_task(self._try_resting())

    def _configs_are(self, objects: Objects) -> None:
        self._configs = objects
        self._wake()

    def _slices_are(self, objects: Objects) -> None:
        self._slices = objects
        self._wake()

    def _wake(self) -> None:
        if self._configs is not None and self._slices is not None:
            self._since = self._since or time.monotonic()
            self._changed.set()

    async def _drive(self) -> None:
        """One at a time; what changes meanwhile is the next one's."""
        away: float | None = None
        while True:
            await self._changed.wait()
            self._changed.clear()
            since, self._since = self._since, None
            try:
                await self._apply()
                away = None
                if since is not None:
                    self._metrics.apply.observe(time.monotonic() - since)
            except Unreachable as error:
                away = self._away(away or time.monotonic(), error)
                await self._again(NOT_THERE, since)
            except (Rejected, TimeoutError, OSError) as error:
                self._metrics.failures.inc()
                log.error("HAProxy cannot be brought to what is wanted: %s %s", type(error).__name__, error)
                await self._again(REFUSED, since)

    def _away(self, since: float, error: Unreachable) -> float:
        """Since when HAProxy cannot be reached, as long as that was not told. It may begin later than the agent."""
        if time.monotonic() - since < AWAY:
            return since
        self._metrics.failures.inc()
        log.error("HAProxy cannot be brought to what is wanted for %.0f s: %s", AWAY, error)
        return math.inf

    async def _again(self, seconds: float, since: float | None) -> None:
        await asyncio.sleep(seconds)
        self._since = since or self._since
        self._changed.set()

    async def _apply(self) -> None:
        assert self._configs is not None
        assert self._slices is not None
        self._routes, problems = world.routes(self._configs.values(), self._routes)
        for name, route in self._routes.items():
            for lane in route.lanes:
                self._recorder.meet(name, lane.revision)
        slices = self._slices.values()
        leaves = world.leaves(slices, self._settings.address)
        try:
            await self._driver.apply(self._routes, world.endpoints(slices), leaves)
        finally:
            self._complain(problems | {world.config_map(name): said for name, said in self._driver.refused.items()})

    def _complain(self, problems: Mapping[str, str]) -> None:
        for name in sorted(problems.keys() - self._bad):
            log.error("the route in ConfigMap %s cannot be used, the last good one stands: %s", name, problems[name])
        for name in self._bad - problems.keys():
            self._metrics.bad_routes.remove(name)
        for name in problems:
            self._metrics.bad_routes.labels(name).set(1)
        self._bad = set(problems)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            await self._tails.sweep()
            try:
                if not await self._driver.still_matches() or await self._driver.sweep():
                    self._wake()
            except Unreachable:
                self._wake()
            except Rejected as error:  # what was there when it was asked has gone before it was told
                log.warning("HAProxy refused what a look told it: %s", error)
                self._wake()

    async def _scrape(self) -> None:
        while True:
            await asyncio.sleep(SCRAPE)
            for pod, counts in await self._scraper.round(self._pods()):
                self._recorder.per_token(pod.deployment, pod.revision, pod.name, counts, time.time())

    async def _try_resting(self) -> None:
        """Whose zone gets nothing is tried, so that it is known when the zone may have traffic again."""
        while True:
            await asyncio.sleep(CANNED)
            await self._canned.round(self._driver.pods(weight=0))

    def _pods(self) -> list[Pod]:
        """Of deployments where revisions are compared."""
        shared = {name for name, route in self._routes.items() if sum(lane.share > 0 for lane in route.lanes) > 1}
        return [pod for pod in self._driver.pods() if pod.deployment in shared]

    async def _lines(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """HAProxy's own connection; one a worker. Read a few times a second, what came meanwhile at once: to wake for
        each line costs more than all else that is done for it, and of the core that the request itself needs."""
        rest, transport = b"", cast("asyncio.Transport", writer.transport)
        try:
            while piece := await reader.read(PIECE):
                transport.pause_reading()
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    self._line(line.decode(errors="replace"))
                await asyncio.sleep(READ)
                transport.resume_reading()
        except OSError as error:
            log.warning("the log of requests broke off: %s", error)
        finally:
            writer.close()

    def _line(self, text: str) -> None:
        self._record(requestlog.read(text), text)
        if text.startswith(NEWS):
            log.info("HAProxy: %s", text.rstrip())

    def _line_of_old(self, text: str) -> None:
        """Of a worker that accepts nothing more, or is about to."""
        self._record(requestlog.read(text, stopping=True), text)

    def _record(self, told: Seen | Copied | None, line: str) -> None:
        match told:
            case Seen() as seen:
                self._recorder.request(seen, time.time())
                self._failed(seen, line)
            case Copied() as copy:
                self._recorder.copied(copy)

    def _failed(self, seen: Seen, line: str) -> None:
        """The first of each second is told: where many fail, it says what all would."""
        if seen.error and time.monotonic() - self._told >= 1:
            self._told = time.monotonic()
            log.info("a request failed: %s", line.rstrip())

    async def _page(self) -> bytes:
        self._metrics.servers_up.clear()
        self._metrics.streams.clear()
        try:
            told = await streams.look(self._settings, self._driver.boards)
        except Unreachable:
            return self._metrics.render()
        self._recorder.floods = told.floods
        for key, count in told.up.items():
            self._metrics.servers_up.labels(*key).set(count)
        for key, count in told.open.items():
            self._metrics.streams.labels(*key).set(count)
        return self._metrics.render()

    async def _evidence(self, name: str, since: float) -> Evidence | None:
        if name not in self._routes:
            return None
        try:
            told = await self._looks.take(self._driver.boards)
        except Unreachable:
            told = streams.Told()
        seen = told.replicas.get(name, {})
        return Evidence(
            gateway=self._name,
            now=time.time(),
            began=self._began,
            minutes=self._recorder.minutes(name, since),
            pods=self._recorder.pods(name, since),
            open_streams={revision: count for (owner, revision), count in told.open.items() if owner == name},
            replicas={pod: each.model_copy(update={"canned": self._canned.of(pod)}) for pod, each in seen.items()},
            left=self._driver.left(name),
            feedback=self._recorder.outcomes(name),
        )

    async def _unreached(self, asked: list[str]) -> Unreached:
        seated = {pod for _, pod in self._driver.seated}
        unseated = [name for name in asked if name not in seated]
        new = [pod for pod in self._driver.pods() if pod.name in asked and pod.name in seated]
        warmed = await starts.warmed(new) if new else {}
        flooded = self._driver.floods.lately(time.monotonic())
        return Unreached(pods=sorted(self._driver.unreached), unseated=unseated, warmed=warmed, flooded=flooded)

    def _feedback(self, deployment: str, request: str, outcome: str) -> bool:
        return self._recorder.feedback(deployment, request, outcome)
