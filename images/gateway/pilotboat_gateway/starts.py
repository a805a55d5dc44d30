"""How long replicas that have just begun to serve had warmed up, as their own /readyz says.

Owns: asking them, and what of an answer is believed. Must not know: who wants to know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import aiohttp

from .scrape import Pod, each, whole

TIMEOUT = aiohttp.ClientTimeout(total=0.4)
"""Whoever asks us waits a second, and then doubts us."""
MOST = 4 << 10


async def warmed(pods: Iterable[Pod]) -> dict[str, float]:
    """Seconds by name; without those that do not answer or say nothing of it, as servers that are not ours."""
    asked = list(pods)
    told = await each(asked, TIMEOUT, _ask)
    return {pod.name: seconds for pod, seconds in zip(asked, told, strict=True) if seconds is not None}


async def _ask(session: aiohttp.ClientSession, pod: Pod) -> float | None:
    try:
        async with session.get(f"http://{pod.address}/readyz", allow_redirects=False) as response:
            return read(await whole(response, MOST))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None


def read(body: bytes) -> float | None:
    """The seconds in an answer; None where it has none that can be meant."""
    try:
        seconds = float(json.loads(body)["startup_seconds"]["warming"])
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    return seconds if 0 <= seconds < float("inf") else None
