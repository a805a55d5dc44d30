"""The port that kubelet and Prometheus ask: /healthz, /readyz, /metrics.

Owns: the three answers. Must not know: how they come about.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence

from aiohttp import web


def status_app(
    complaints: Callable[[], Sequence[str]], ready: Callable[[], bool], metrics: Callable[[], bytes]
) -> web.Application:
    """A replica is ready once it reached the API server and receives progress: a standby is as ready as a leader."""

    async def healthz(_: web.Request) -> web.Response:
        found = complaints()
        return web.Response(status=500 if found else 200, text="\n".join(found or ["ok"]) + "\n")

    async def readyz(_: web.Request) -> web.Response:
        if not ready():
            return web.Response(status=503, text="waiting for the API server\n")
        return web.Response(text="ok\n")

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", page)
    return app


async def serve(app: web.Application, host: str, port: int, context: ssl.SSLContext | None = None) -> web.AppRunner:
    """Start; the runner's cleanup stops it."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=context).start()
    return runner
