"""One replica's life: its two ports, waiting to lead, leading, and a quick end.

Owns: what is started and stopped when. Must not know: how any of it works.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack

from aiohttp import web

from pilotboat import wiring
from pilotboat.engine import tls
from pilotboat.engine.api import Api, load_configuration
from pilotboat.engine.engine import Engine, utc
from pilotboat.engine.errors import EngineError
from pilotboat.engine.leader import Elector, Timing, Watchdog
from pilotboat.engine.metrics import Metrics
from pilotboat.engine.receiver import Receiver
from pilotboat.engine.web import serve, status_app
from pilotboat.plan import PLANNERS
from pilotboat.plan.types import PlanSettings
from pilotboat.settings import Http, Progress, Settings

log = logging.getLogger(__name__)

CERTIFICATE_CHECK = 12 * 3600.0
POSTS = 8
"""Requests in flight at once for the receiver of progress."""
SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


async def run(settings: Settings) -> int:
    """Live until a signal, or until something ends that must not; the exit code."""
    stop = stop_event()
    life = asyncio.create_task(Replica(settings).live(), name="life")
    stopped = asyncio.create_task(stop.wait(), name="signal")
    await asyncio.wait((life, stopped), return_when=asyncio.FIRST_COMPLETED)
    if life.done():
        log.critical("ended by %s", life.exception(), exc_info=life.exception())
        return 1
    log.info("stopping")
    life.cancel()
    await asyncio.wait((life,))
    return 0


def stop_event() -> asyncio.Event:
    """Set by SIGTERM or SIGINT, which a thread awaits: kopf sets signal handlers of its own, and would end first."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def wait() -> None:
        signal.sigwait(SIGNALS)
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, name="signals", daemon=True).start()
    return stop


class Replica:
    """Holds what its two ports ask about."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._engine: Engine | None = None
        self._receiving = False

    async def live(self) -> None:
        """Never returns; cancelled, it gives the Lease up and closes what it opened."""
        work = self._settings.work
        configuration = await load_configuration(self._settings.kubeconfig)
        async with AsyncExitStack() as stack:
            await self._open(
                stack, status_app(self._complaints, lambda: self._receiving, self._metrics.render), self._settings.http
            )
            observe = self._metrics.observe_request
            api = await stack.enter_async_context(
                Api(configuration, limit=work.requests, timeout=work.request_timeout, observe=observe)
            )
            identity = await self._identity(api)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            identity.load_into(context)
            # A pool of its own: anybody may post, and what is asked about his token must not delay the work.
            configuration = await load_configuration(self._settings.kubeconfig)
            asking = await stack.enter_async_context(
                Api(configuration, limit=POSTS, timeout=work.request_timeout, observe=observe)
            )
            receiver = Receiver(asking, lambda code: self._metrics.progress_posts.labels(code).inc())
            await self._open(stack, receiver.app(), self._settings.progress, context)
            self._receiving = True
            async with asyncio.TaskGroup() as group:
                group.create_task(self._renew(api, identity, context), name="certificate")
                group.create_task(self._stand(api, identity), name="candidate")

    async def _stand(self, api: Api, identity: tls.Identity) -> None:
        """Wait for the Lease, lead, give it up."""
        lease = self._settings.lease
        timing = Timing(lease.duration, lease.renew, lease.retry)
        configuration = await load_configuration(self._settings.kubeconfig)
        # A pool of its own: a storm of work must not delay the renewal.
        async with Api(configuration, limit=None, timeout=lease.renew / 2) as own:
            name, node = self._settings.identity, self._settings.node
            elector = Elector(own, self._settings.namespace, lease.name, name, timing, node=node)
            await elector.acquire()
            watchdog = Watchdog(elector, timing)
            watchdog.start()
            self._metrics.leader.set(1)
            try:
                await self._lead(api, identity, elector)
            finally:
                watchdog.stop()
                await elector.release()

    async def _lead(self, api: Api, identity: tls.Identity, elector: Elector) -> None:
        work, namespaces = self._settings.work, self._settings.watch_namespaces
        self._engine = Engine(
            api.only_while(elector.sure),
            PLANNERS,
            self._plan_settings(identity),
            self._metrics,
            namespaces=namespaces or (None,),
            workers=work.workers,
            resync=work.resync,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(_keep(elector), name="lease")
            group.create_task(self._engine.run(elector.predecessor), name="engine")
            group.create_task(wiring.watch(self._engine, api, namespaces, work.watch_silence), name="watches")

    async def _identity(self, api: Api, known: tls.Identity | None = None) -> tls.Identity:
        """The receiver's certificate; waits for an API server that does not answer yet."""
        settings = self._settings
        secret, hosts = settings.progress.secret, settings.progress_hosts
        while True:
            try:
                return await tls.ensure(api, settings.namespace, secret, hosts, utc(), known)
            except EngineError as failure:
                log.warning("waiting for the API server: %s", failure)
                await asyncio.sleep(settings.lease.retry)

    async def _renew(self, api: Api, identity: tls.Identity, context: ssl.SSLContext) -> None:
        while True:
            await asyncio.sleep(CERTIFICATE_CHECK)
            identity = await self._identity(api, identity)
            identity.load_into(context)
            if self._engine:
                self._engine.reconciler.settings = self._plan_settings(identity)

    def _complaints(self) -> Sequence[str]:
        return self._engine.health.complaints() if self._engine else ()

    def _plan_settings(self, identity: tls.Identity) -> PlanSettings:
        images = self._settings.images
        return PlanSettings(
            server_image=images.server,
            trainer_image=images.trainer,
            fetch_image=images.fetch,
            gateway_image=images.gateway,
            image_pull_policy=images.pull_policy,
            image_pull_secrets=images.pull_secrets,
            hub_endpoint=self._settings.hub_endpoint,
            progress_url=self._settings.progress_url,
            progress_ca=identity.ca.decode(),
        )

    @staticmethod
    async def _open(
        stack: AsyncExitStack, app: web.Application, where: Http | Progress, context: ssl.SSLContext | None = None
    ) -> None:
        runner = await serve(app, where.host, where.port, context)
        stack.push_async_callback(runner.cleanup)


async def _keep(elector: Elector) -> None:
    """Returns never: without the Lease there is nothing this process may still do."""
    await elector.keep()
    log.critical("the Lease is lost: ending at once")
    os._exit(1)
