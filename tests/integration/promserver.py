"""A real Prometheus (Debian's) that scrapes pages of a test."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from lab.plane import free_ports
from tests.integration.test_prometheus import PATIENCE
from tools import host

SCRAPES = 3
"""Of each page before anything is asked: a rate needs two."""
EVERY = "1s"
"""A scrape may take as long. One that takes longer fails, and until the next the page's series are gone."""


@dataclass(frozen=True)
class Page:
    """What is scraped."""

    render: Callable[[], str]
    """Called at each scrape."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Those of the target."""
    own: bool = False
    """Whether its own labels stand where they meet these (`honor_labels`)."""


@dataclass(frozen=True)
class Server:
    """One that has scraped."""

    url: str
    process: subprocess.Popen[bytes]


def programs(folder: Path) -> Path:
    """Where `prometheus` and `promtool` are, unpacked under that folder."""
    return host.unpacked("prometheus", folder) / "usr" / "bin"


@asynccontextmanager
async def scraping(bin: Path, folder: Path, pages: Mapping[str, Page]) -> AsyncIterator[Server]:
    """One that has seen each page, by its job's name, several times."""
    port, own = free_ports(2)
    seen = dict.fromkeys(pages, 0)
    app = web.Application()

    async def metrics(request: web.Request) -> web.Response:
        name = request.match_info["job"]
        seen[name] += 1
        return web.Response(text=pages[name].render())

    app.router.add_get("/{job}", metrics)
    target = f"127.0.0.1:{port}"
    scrapes = [
        {
            "job_name": name,
            "metrics_path": f"/{name}",
            "honor_labels": page.own,
            "static_configs": [{"targets": [target], "labels": dict(page.labels)}],
        }
        for name, page in pages.items()
    ]
    config = {"global": {"scrape_interval": EVERY}, "scrape_configs": scrapes}
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    listen = f"--web.listen-address=127.0.0.1:{own}"
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        log = stack.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen([str(bin / "prometheus"), *options, listen], stdout=log, stderr=log)  # noqa: ASYNC220 -- returns at once
        stack.callback(process.wait)
        stack.callback(process.kill)
        url = f"http://127.0.0.1:{own}"
        async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
            while min(seen.values()) < SCRAPES or not await _ready(session, url):  # noqa: ASYNC110 -- another process
                await asyncio.sleep(0.05)
        yield Server(url, process)


async def _ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/-/ready") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
