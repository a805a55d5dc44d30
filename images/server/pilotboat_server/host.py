"""The engine's home: loads it, warms it, drives it through the scheduler, and says how it is.

Owns the life of the engine in this process; it is the Backend of an HTTP front in the same process. Must not know:
HTTP, sockets, signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from pilotboat.api.base import seconds
from pilotboat.api.runtime import ServerConfig

from . import agentcheck, fanout, log
from .backend import ServerInfo
from .deepcheck import PATIENCE, DeepCheck
from .engines.base import Engine
from .errors import NOT_FINITE, ApiError, EngineFailed, InvalidModel, ServerError, Unavailable
from .metrics import Metrics
from .phases import Health, Life, Phase
from .scheduler import Limits, Scheduler
from .types import Event, GenerateRequest, Sampling

TICK = 0.01
"""Seconds: enough to be past a moment, not at it."""

LAST_SIGN = 5.0
"""Seconds in which an engine lets go of what was cancelled; one that is left takes the process with it."""

WARMUP = GenerateRequest("warm-up", 0.0, Sampling(temperature=0.0, top_p=1.0, max_tokens=2), text="Hello")
ONE_TOKEN = replace(WARMUP, id="deep-check", sampling=replace(WARMUP.sampling, max_tokens=1))


class EngineHost:
    """One engine, from loading to drained."""

    def __init__(self, config: ServerConfig, engine: Engine, began: float, stall_seconds: float) -> None:
        self._engine = engine
        self._stall = stall_seconds
        self._loaded = False
        self._metrics = Metrics(config.model.name)
        inference, service = config.inference, config.service
        limits = Limits(
            engine.slots, service.max_queued_requests, seconds(service.request_timeout), inference.max_length
        )
        self.scheduler = Scheduler(engine, limits, self._metrics)
        self._life = Life(began)
        self._check = DeepCheck(self._one_token, self._quiet, min(PATIENCE, stall_seconds))
        self._info = ServerInfo(
            config.model.name,
            int(time.time()),
            inference.max_length,
            engine.capabilities,
            inference.defaults,
            inference.limits,
            self.scheduler.room,
        )

    @property
    def info(self) -> ServerInfo:
        """What never changes."""
        return self._info

    async def start(self) -> None:
        """Load, generate once, and open. Raises StartupError, or what the engine raised."""
        await _in_daemon_thread(self._engine.load)
        self._loaded = True
        self._enter("warming")
        await self._warm_up()
        self._enter("serving")
        self.scheduler.open()

    async def _warm_up(self) -> None:
        try:
            async for _ in self.scheduler.generate(WARMUP, internal=True):
                pass
        except EngineFailed as error:
            if error.code != NOT_FINITE:
                raise
            raise InvalidModel(error.message) from None  # it would be no other after a restart

    def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncGenerator[tuple[int, Event], None]:
        """Events of each request, with its place."""
        return fanout.events(self.scheduler.generate, requests)

    async def health(self) -> Health:
        """For the probes."""
        now = time.monotonic()
        return self._life.health(now, self.scheduler.running, self.scheduler.waiting, self._stalled(now))

    async def inference(self) -> str:
        """For the deep check: why no token comes out of the engine; empty where one does."""
        return self.scheduler.refusal or await self._check.outcome()

    async def _one_token(self) -> str:
        try:
            async for _ in self.scheduler.generate(ONE_TOKEN, internal=True):
                pass
        except ApiError as error:
            return error.message
        except Exception as error:  # a bug of the engine's or ours: who asks must not wait for ever
            return type(error).__name__
        return ""

    def _quiet(self) -> float:
        return self.scheduler.quiet_seconds(time.monotonic())

    def weight(self) -> int | None:
        """For the agent check: how much of its places is free."""
        scheduler = self.scheduler
        return agentcheck.weight(self._life.phase, scheduler.running + scheduler.waiting, scheduler.room)

    async def metrics(self) -> bytes:
        """Prometheus text."""
        self.scheduler.sample()
        return self._metrics.render(time.monotonic())

    async def drain(self, grace: float) -> None:
        """Refuse what is new, let what is in finish for `grace` seconds, end the rest: at once where it hangs.

        What hangs may be what made the engine hang: it is told 500, which no gateway asks of the next replica.
        """
        self._enter("draining")
        self.scheduler.refuse("The server is shutting down.")
        if not await self._came_to_rest(time.monotonic() + grace):
            log.event("drain_deadline", running=self.scheduler.running, waiting=self.scheduler.waiting)
            late = Unavailable("The server shut down before the answer was whole.")
            hung = EngineFailed("The engine gives no sign of life, and the server shut down.")
            self.scheduler.abort_all(hung if self._stalled(time.monotonic()) else late, late)

    async def _came_to_rest(self, deadline: float) -> bool:
        """Whether all that was in has finished. What hangs will not: its pod is restarted for that very reason."""
        while (now := time.monotonic()) < deadline and not self._stalled(now):
            patience = self._stall - self.scheduler.quiet_seconds(now)
            try:
                await asyncio.wait_for(self.scheduler.wait_idle(), min(deadline - now, patience + TICK))
            except TimeoutError:
                continue
            return True
        return False

    def _stalled(self, now: float) -> bool:
        return self.scheduler.quiet_seconds(now) > self._stall

    def broken(self, error: BaseException) -> None:
        """The engine is beyond repair: nobody waits for it any longer. What it never began may be asked elsewhere."""
        self.scheduler.refuse("The engine has failed.")
        cause = str(error) if isinstance(error, ServerError) else type(error).__name__
        self.scheduler.abort_all(EngineFailed(f"The engine has failed: {cause}"), Unavailable("The engine has failed."))

    async def close(self, patience: float = LAST_SIGN) -> bool:
        """Give the engine back; False where it is still being loaded, or works on and hears nothing of the end."""
        try:
            await asyncio.wait_for(self.scheduler.wait_idle(), patience)
        except TimeoutError:
            log.event("engine_left", running=self.scheduler.running)
            return False
        if self._loaded:
            self._engine.close()
        return self._loaded

    def _enter(self, phase: Phase) -> None:
        before = self._life.phase
        took = self._life.enter(phase, time.monotonic())
        if before in self._life.startup:
            self._metrics.phase(before, took)
        log.event("phase", phase=phase, before=before, seconds=round(took, 3))


async def _in_daemon_thread(work: Callable[[], None]) -> None:
    """Like asyncio.to_thread, on a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if not result.done():
            result.set_exception(error) if error else result.set_result(None)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as caught:  # handed to whoever awaits
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop may be closed: then nobody awaits any more
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name="load", daemon=True).start()
    await result
