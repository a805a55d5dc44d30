"""A canned inference for replicas that get no traffic, because their zone was lost: whether they still can.

Owns: asking them, and what came of the last time. Must not know: zones, what is made of it.

Their readiness may be from before the loss. A replica that wants an API key is taken at its word: the gateway has none.
"""

from __future__ import annotations

from collections.abc import Iterable

import aiohttp

from .scrape import Pod, each, whole

TIMEOUT = aiohttp.ClientTimeout(total=30, connect=2)
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
        body = {"model": pod.deployment, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
        try:
            url = f"http://{pod.address}/v1/completions"
            async with session.post(url, json=body, allow_redirects=False) as response:
                said = (await whole(response, MOST)).decode(errors="replace")[:WORDS]
                return "" if response.status in (200, WANTS_KEY) else f"HTTP {response.status}: {said}"
        except TimeoutError:
            return f"no answer within {TIMEOUT.total:.0f} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"[:WORDS]
