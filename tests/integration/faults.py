"""What befalls at one chosen write of an operator behind the proxy: it is killed, or a user is quicker than it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from tests.integration.cluster import PATIENCE
from tests.integration.proxy import Call, Faults, Proxy
from tests.integration.running import operator


async def killed_after(proxy: Proxy, namespace: str, last: int, *, answered: bool = True) -> None:
    """Run an operator until so many writes are done, then kill it: as it begins the next, or waits for the answer."""
    reached = asyncio.Event()

    async def stop(call: Call) -> web.Response | None:
        if call.write and done(proxy) >= last:
            reached.set()
            await asyncio.Event().wait()
        return None

    proxy.faults = Faults(before=stop) if answered else Faults(before=stop, after=stop)
    try:
        async with operator(proxy.configuration, namespace) as first:
            async with asyncio.timeout(PATIENCE):
                await reached.wait()
            await first.kill()
    finally:
        proxy.faults = Faults()


def after_writes(proxy: Proxy, number: int, act: Callable[[], Awaitable[object]]) -> asyncio.Event:
    """Do something once so many writes are done, before anyone hears of the last; the event is set when it is done.

    Just before a write is just after the one before it, and none is before the first.
    """
    acted = asyncio.Event()

    async def strike(call: Call) -> web.Response | None:
        if call.write and done(proxy) >= number:
            proxy.faults = Faults()
            await act()
            acted.set()
        return None

    proxy.faults = Faults(before=strike, after=strike)
    return acted


def done(proxy: Proxy) -> int:
    """How many writes the API server has done."""
    return len([call for call in proxy.writes if call.code])
