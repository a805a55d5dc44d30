"""What befalls at one chosen call of an operator behind the proxy: it is killed, a user is quicker, it is not answered.

And what came of it: `changes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from tests.integration.cluster import PATIENCE
from tests.integration.proxy import Call, Faults, Proxy, status
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


def changes(proxy: Proxy) -> list[str]:
    """What was created and what deleted, each as often as it was: who makes all anew has the same end state, too."""
    made = [f"+ {_named(call)}" for call in proxy.writes if call.code == 201]
    return sorted(made + [f"- {_named(call)}" for call in proxy.writes if call.method == "DELETE" and call.code < 300])


def _named(call: Call) -> str:
    """Plural and name: those of two namespaces are the same."""
    return "/".join(call.path.split("/")[-2:])


LATE = 1.0
"""Seconds that an answer takes which is late."""


def trouble(proxy: Proxy, kind: str, which: Callable[[Call], bool]) -> asyncio.Event:
    """The first call of those is not answered as it should be; the event is set when it was made.

    `kind` is a status, in place of what was asked for, or `late`: done at once, and answered when watches have told
    of it.
    """
    met = asyncio.Event()

    async def meet(call: Call) -> web.Response | None:
        if met.is_set() or not which(call):
            return None
        met.set()
        if kind == "late":
            await asyncio.sleep(LATE)
            return None
        return status(int(kind), "trouble", **({"Retry-After": "1"} if kind == "429" else {}))

    proxy.faults = Faults(after=meet) if kind == "late" else Faults(before=meet)
    return met
