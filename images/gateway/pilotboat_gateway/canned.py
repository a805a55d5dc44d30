"""A canned inference for replicas that get no traffic, because their zone was lost: whether they still can.

Owns: asking them, and what came of the last time. Must not know: zones, what is made of it.

Their readiness may be from before the loss. Our server infers for whoever asks its deep health check, without an API
key. One of another make, which has none, is sent a request; where it wants a key it is taken at its word, for the
gateway has none.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import aiohttp

from .scrape import Pod, each, whole

TIMEOUT = aiohttp.ClientTimeout(total=30, connect=2)
DEEP_CHECK = "/readyz/inference"
"""Of our server: 200 or 503. Anything else says that it is none of ours, or an older one."""
WANTS_KEY = 401
MOST = 64 << 10
"""Bytes of an answer: it has one token."""
WORDS = 200
"""Characters of what a replica says instead."""


class Canned:
    """Remembers the last answer of each: empty where it was one."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def of(self, pod: str) -> str | None:
        """Why the last one failed, empty where it did not; None: none was made since the pod has no traffic."""
        return self._told.get(pod)

    async def round(self, pods: Iterable[Pod]) -> None:
        """Ask each of these once, and forget all others."""
        asked = list(pods)
        answers = await each(asked, TIMEOUT, self._ask)
        self._told = {pod.name: answer for pod, answer in zip(asked, answers, strict=True)}

    async def _ask(self, session: aiohttp.ClientSession, pod: Pod) -> str:
        try:
            status, said = await _answer(session.get(f"http://{pod.address}{DEEP_CHECK}", allow_redirects=False))
            if status not in (200, 503):
                body = {"model": pod.deployment, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
                url = f"http://{pod.address}/v1/completions"
                status, said = await _answer(session.post(url, json=body, allow_redirects=False))
                status = 200 if status == WANTS_KEY else status
            return "" if status == 200 else f"HTTP {status}: {said}"
        except TimeoutError:
            return f"no answer within {TIMEOUT.total:.0f} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"[:WORDS]


async def _answer(asking: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> tuple[int, str]:
    """Status and words. Raises as `whole` does."""
    async with asking as response:
        return response.status, (await whole(response, MOST)).decode(errors="replace")[:WORDS]
