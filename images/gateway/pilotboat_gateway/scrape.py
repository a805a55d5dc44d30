"""Time per output token, as every pod's own /metrics tells it: fetched now and then, and what was added since counted.

Owns: asking many pods, reading one histogram and its differences. Must not know: what is done with the counts.

A pod may run any program: what its page says that cannot be meant is left out, and it ends nothing of ours.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import aiohttp

from pilotboat.api.routing import BOUNDS

NAME = "vllm:request_time_per_output_token_seconds_bucket"
BUCKET = re.compile(r'[{,]le="([^"]+)"')
TIMEOUT = aiohttp.ClientTimeout(total=5)
AT_ONCE = 16
MOST = 4 << 20
"""Bytes of a page; one that is longer is no server's of ours."""
COUNTS = 2.0**53
"""Where a float no longer counts one by one."""

T = TypeVar("T")
Page = dict[float, float]
"""Cumulative counts by upper bound in seconds."""


@dataclass(frozen=True)
class Pod:
    """Whom to ask, and for whom it counts."""

    deployment: str
    revision: str
    name: str
    address: str


def read(page: str) -> Page:
    """Cumulative counts by upper bound in seconds, over all label sets. Raises ValueError for a page that is cut."""
    if not page.endswith("\n"):
        raise ValueError("the page is cut")
    found: Page = {}
    for line in page.splitlines():
        if line.startswith(NAME) and (bound := BUCKET.search(line)):
            upper, count = float(bound[1]), float(line.rpartition(" ")[2])
            if not math.isnan(upper) and 0 <= count < COUNTS:
                found[upper] = found.get(upper, 0.0) + count
    return found


def added(before: Page, after: Page) -> Counter[int]:
    """What came in between, by index into BOUNDS; a server that began anew counts from nothing.

    Nothing where the buckets are not those of before: what a new one holds may be all that the server ever counted.
    """
    counts: Counter[int] = Counter()
    if before.keys() != after.keys():
        return counts
    anew = any(after[bound] < count for bound, count in before.items())
    below = 0.0
    for bound in sorted(after):
        cumulative = after[bound] - (0.0 if anew else before[bound])
        if cumulative > below:
            counts[nearest(bound)] += round(cumulative - below)
        below = max(below, cumulative)
    return counts


def nearest(seconds: float) -> int:
    """Index of the bound nearest to a bucket's; beyond the last for what has no bound."""
    if math.isinf(seconds * 1000):
        return len(BOUNDS)
    return min(range(len(BOUNDS)), key=lambda at: abs(math.log(BOUNDS[at] / max(1e-9, seconds * 1000))))


async def each(
    pods: Sequence[Pod], limits: aiohttp.ClientTimeout, ask: Callable[[aiohttp.ClientSession, Pod], Awaitable[T]]
) -> list[T]:
    """What all of them answered, in their order; no more than AT_ONCE are asked at the same time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(session: aiohttp.ClientSession, pod: Pod) -> T:
        async with gate:
            return await ask(session, pod)

    # A connection a question: a replica may close one that rests, just when it is asked again.
    async with aiohttp.ClientSession(timeout=limits, connector=aiohttp.TCPConnector(force_close=True)) as session:
        return await asyncio.gather(*(one(session, pod) for pod in pods))


async def whole(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body to its end. Raises aiohttp's errors where it is cut, and ValueError where it is longer."""
    told = bytearray()
    async for chunk in response.content.iter_any():
        told += chunk
        if len(told) > most:
            raise ValueError(f"more than {most} bytes")
    return bytes(told)


class Scraper:
    """Remembers each pod's last page."""

    def __init__(self) -> None:
        self._before: dict[Pod, Page] = {}

    async def round(self, pods: Iterable[Pod]) -> list[tuple[Pod, Counter[int]]]:
        """Ask everybody once. Whoever is asked for the first time, or does not answer, adds nothing."""
        asked = list(dict.fromkeys(pods))
        self._before = {pod: self._before[pod] for pod in asked if pod in self._before}
        pages = await each(asked, TIMEOUT, self._page)
        grown = []
        for pod, page in zip(asked, pages, strict=True):
            if page is None:
                continue
            if pod in self._before and (counts := added(self._before[pod], page)):
                grown.append((pod, counts))
            self._before[pod] = page
        return grown

    async def _page(self, session: aiohttp.ClientSession, pod: Pod) -> Page | None:
        try:
            async with session.get(f"http://{pod.address}/metrics", allow_redirects=False) as response:
                page = await whole(response, MOST)
                return read(page.decode(errors="replace")) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None
