"""The server's main process: the engine, and the HTTP front in this process or in workers.

Owns the order of things: bind, front up (so probes are answered), load, serve, drain, end. Must not know: OpenAI's API.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from typing import Protocol

from pilotboat.api.runtime import ServerConfig

from . import agentcheck, context, cpu, engines, held, log, modelfiles
from .config import Environment
from .engines.base import EngineSettings
from .host import EngineHost
from .httpserver import bind
from .supervisor import Supervisor


class Front(Protocol):
    """What answers HTTP."""

    async def run(self) -> None:
        """Until stopped."""
        ...

    def stop(self) -> None:
        """Send the answers that are there, then end within seconds, whatever callers do."""
        ...


class LocalFront:
    """`service.workers: 1`: HTTP in this process."""

    def __init__(self, host: EngineHost, listener: socket.socket, api_keys: tuple[str, ...]) -> None:
        from .app import create_app
        from .httpserver import HttpServer

        self._listener = listener
        self._server = HttpServer(create_app(host, api_keys))

    async def run(self) -> None:
        """uvicorn, until stopped."""
        await self._server.serve(sockets=[self._listener])

    def stop(self) -> None:
        """As Front says."""
        self._server.stop()


class Server:
    """One server process, from config to exit."""

    def __init__(self, config: ServerConfig, environment: Environment, began: float) -> None:
        self._config = config
        self._environment = environment
        self._began = began
        self._stop = asyncio.Event()
        self._fatal: BaseException | None = None
        self._held: list[int] = []

    async def run(self) -> bool:
        """After a drain: whether nothing runs any more. Raises what made the start or the engine fail."""
        host = self._host()
        service = self._config.service
        with bind(service.host, service.port) as listener:
            log.event("listening", host=service.host, port=listener.getsockname()[1], workers=service.workers)
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
            async with agentcheck.listening(service.host, service.agent_port, host.weight):
                await self._answer(host, self._front(host, listener))
        if self._fatal is not None:
            raise self._fatal
        return await host.close()

    async def _answer(self, host: EngineHost, front: Front) -> None:
        answering = asyncio.create_task(front.run())
        try:
            await self._live(host, answering)
        finally:
            front.stop()
            await answering

    async def _live(self, host: EngineHost, answering: asyncio.Task[None]) -> None:
        """Load, then wait for the first thing that ends us; drain unless the engine is gone."""
        starting = asyncio.create_task(host.start())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({starting, stopping, answering}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await asyncio.wait({stopping, answering}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            answering.result()
        if self._fatal is not None:
            return  # whoever waited was told when it broke
        await host.drain(self._environment.drain_seconds)

    def _host(self) -> EngineHost:
        model = self._config.model
        self._held = held.hold(Path(place) for place in (model.path, model.adapter) if place)
        found = modelfiles.inspect(Path(model.path), self._config.engine.type, adapted=model.adapter is not None)
        config = self._config.model_copy(update={"inference": context.fitted(self._config.inference, found)})
        threads = config.inference.cpu_threads or cpu.default_threads()
        adapter = Path(model.adapter) if model.adapter else None
        loop = asyncio.get_running_loop()

        def on_fatal(error: BaseException) -> None:
            loop.call_soon_threadsafe(self._on_fatal, host, error)

        gpus = config.gpu.count if config.gpu else 0
        settings = EngineSettings(found.path, config.inference, threads, on_fatal, adapter, config.engine.fake, gpus)
        log.event("settings", engine=found.engine.value, threads=threads, model=config.model.name, **_shown(config))
        engine = engines.create(found.engine, settings)
        host = EngineHost(config, engine, self._began, self._environment.stall_seconds)
        return host

    def _on_fatal(self, host: EngineHost, error: BaseException) -> None:
        """At once: what waits must not be given to an engine that is no more."""
        host.broken(error)
        log.event("engine_broken", error=type(error).__name__, message=str(error)[:500])
        self._fatal = self._fatal or error
        self._stop.set()

    def _front(self, host: EngineHost, listener: socket.socket) -> Front:
        workers = self._config.service.workers
        if workers > 1:
            return Supervisor(host, listener, workers, self._environment.worker_seconds)
        return LocalFront(host, listener, self._environment.api_keys)


def _shown(config: ServerConfig) -> dict[str, object]:
    inference = config.inference
    return {
        "device": inference.device.value,
        "precision": inference.precision.value,
        "batch_size": inference.batch_size,
        "max_length": inference.max_length,
        "gpu_memory_fraction": inference.gpu_memory_fraction,
        "max_queued_requests": config.service.max_queued_requests,
        "request_timeout": config.service.request_timeout,
    }
