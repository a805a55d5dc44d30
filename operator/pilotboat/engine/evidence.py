"""What gateways have seen of the traffic of those parents whose plans want to know.

Owns: asking the gateways, and their newest answers. Must not know: what evidence means, or who judges by it.

Where a Gateway that is not ours splits the traffic (`traffic: HTTPRoute`), the server pods are asked instead.

Nothing is asked while nobody wants to know. The first answer of a gateway is whole; then it is asked for the minutes
that may have grown since, which take the place of those before: plans see all of it each time. A gateway that does not
answer, or not in the shape we know, is counted and asked again: plans see by the times of the answers what is old.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

import aiohttp
from prometheus_client import Counter
from pydantic import ValidationError

from pilotboat.api import labels
from pilotboat.api.routing import AGENT_PORT, POD_MINUTES, SERVER_PORT, Evidence, authority
from pilotboat.api.traffic import Traffic

from .gateways import key_of
from .kinds import Key
from .pod_evidence import KEPT, PERIOD, Ledger, Reading, read
from .store import Store

log = logging.getLogger(__name__)

EVERY = 3.0
"""Seconds between two rounds."""

TIMEOUT = aiohttp.ClientTimeout(total=2.5, connect=1)
MOST_BYTES = 16 * 1024 * 1024
"""Of one answer: a day of four revisions with every bucket of every minute in use is less."""

AT_ONCE = 16
MOST_GATEWAYS = 16
"""Gateways of which one parent's answers are kept: an agent has a new name with each start, and may start often."""

A = TypeVar("A")
Heard = tuple[Evidence, datetime]


class EvidencePoller:
    """Keeps, for each parent that wants it, the newest answer of every gateway by name."""

    def __init__(
        self,
        store: Store,
        wake: Callable[[Iterable[Key]], None],
        polls: Counter,
        now: Callable[[], datetime],
        *,
        every: float = EVERY,
        port: int = AGENT_PORT,
        server_port: int = SERVER_PORT,
    ) -> None:
        self._store = store
        self._wake = wake
        self._polls = polls
        self._now = now
        self._every = every
        self._port = port
        self._server_port = server_port
        self._ledgers: dict[Key, Ledger] = {}
        self._heard: dict[Key, dict[str, Heard]] = {}
        self._names: dict[Key, dict[str, str]] = {}
        """Which gateway it was that answered last, by address."""
        self._wanted = asyncio.Event()

    def want(self, key: Key, wanted: bool) -> None:
        """From now on ask for that parent, or ask no more and forget."""
        if wanted:
            self._heard.setdefault(key, {})
            self._wanted.set()
        else:
            self._heard.pop(key, None)
            self._names.pop(key, None)
            self._ledgers.pop(key, None)

    def of(self, key: Key) -> list[Heard]:
        """The newest answers, by the gateways' names."""
        return [heard for _, heard in sorted(self._heard.get(key, {}).items())]

    async def run(self) -> None:
        """Round after round while anybody wants to know, for ever."""
        async with aiohttp.ClientSession(timeout=TIMEOUT, read_bufsize=2**18) as session:
            gate = asyncio.Semaphore(AT_ONCE)
            while True:
                await self._wanted.wait()
                if not self._heard:
                    self._wanted.clear()
                    continue
                past = {key for key in self._heard if self._goes_past_us(key)}
                await asyncio.gather(
                    *(self._ask(session, gate, *each) for each in self._questions(past)),
                    *(self._ask_pods(session, gate, key) for key in past),
                )
                await asyncio.sleep(self._every)

    def _goes_past_us(self, key: Key) -> bool:
        parent = self._store.parent(key)
        return parent is not None and parent["spec"].get("traffic") == Traffic.HTTP_ROUTE

    def _questions(self, past: set[Key]) -> list[tuple[Key, str]]:
        """Who is asked about whom: the ready gateways of each namespace."""
        by_namespace: defaultdict[str, list[Key]] = defaultdict(list)
        for key in self._heard:
            if key not in past:
                by_namespace[key.namespace].append(key)
        return [
            (key, address)
            for namespace, keys in by_namespace.items()
            for address in map(_address, self._store.pods(key_of(namespace)))
            if address
            for key in keys
        ]

    async def _ask(self, session: aiohttp.ClientSession, gate: asyncio.Semaphore, key: Key, address: str) -> None:
        before = self._before(key, address)
        since = _grows_from(before) if before else 0
        where = f"{authority(address, self._port)}/evidence/{key.name}?since={since}"
        answer = await self._answer(session, gate, where, Evidence.model_validate_json)
        if answer is None or key not in self._heard:
            return
        names = self._names.setdefault(key, {})
        if before is not None:
            if before is not self._before(key, address) or before.gateway != answer.gateway:
                names.pop(address, None)  # a part of something else: the next round asks for all of it
                return
            answer = _grown(before, answer, since)
        names[address] = answer.gateway
        self._take(key, answer)

    def _before(self, key: Key, address: str) -> Evidence | None:
        """All that was heard so far of the gateway there."""
        name = self._names.get(key, {}).get(address)
        heard = self._heard.get(key, {}).get(name) if name else None
        return heard[0] if heard else None

    async def _ask_pods(self, session: aiohttp.ClientSession, gate: asyncio.Semaphore, key: Key) -> None:
        """One round over the ready server pods of a parent; where none answers, nothing new is known."""
        pods = [(pod, address) for pod in self._store.pods(key) if (address := _address(pod))]
        readings = await asyncio.gather(
            *(
                self._answer(session, gate, f"{authority(address, self._server_port)}/metrics", _reading)
                for _, address in pods
            )
        )
        if key not in self._heard or not any(reading is not None for reading in readings):
            return
        ledger, now = self._ledgers.setdefault(key, Ledger()), self._now().timestamp()
        for (pod, _), reading in zip(pods, readings, strict=True):
            if reading is not None:
                meta = pod["metadata"]
                ledger.book(meta["uid"], (meta.get("labels") or {}).get(labels.REVISION, ""), reading, now)
        ledger.keep((pod["metadata"]["uid"] for pod in self._store.pods(key)), now)
        self._take(key, ledger.evidence(now))

    async def _answer(
        self, session: aiohttp.ClientSession, gate: asyncio.Semaphore, where: str, understand: Callable[[bytes], A]
    ) -> A | None:
        """What was answered, or None where nothing was that can be understood: counted either way."""
        async with gate:
            try:
                answer = understand(await body(session, f"http://{where}"))
            except (aiohttp.ClientError, TimeoutError, OSError, ValidationError, ValueError, KeyError) as failure:
                log.debug("no evidence from %s: %s", where, failure)
                self._polls.labels("failed").inc()
                return None
        self._polls.labels("answered").inc()
        return answer

    def _take(self, key: Key, evidence: Evidence) -> None:
        heard = self._heard.get(key)
        if heard is None:  # not wanted any more by the time the answer came
            return
        before = heard.get(evidence.gateway)
        heard[evidence.gateway] = (evidence, self._now())
        if len(heard) > MOST_GATEWAYS:
            del heard[min(heard, key=lambda gateway: heard[gateway][1])]
        if before is None or before[0].model_copy(update={"now": evidence.now}) != evidence:
            self._wake([key])


async def body(session: aiohttp.ClientSession, url: str) -> bytes:
    """What is answered with a status below 400. Raises aiohttp's errors, and ValueError where it is too much."""
    async with session.get(url, allow_redirects=False) as response:
        response.raise_for_status()
        told = bytearray()
        async for chunk in response.content.iter_any():
            told += chunk
            if len(told) > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES} bytes")
    return bytes(told)


def _grows_from(before: Evidence) -> int:
    """The beginning of the first minute that may have grown since; one earlier, for clocks are set."""
    return int(before.now) // PERIOD * PERIOD - PERIOD


def _grown(before: Evidence, answer: Evidence, since: int) -> Evidence:
    """An answer with what was told before of the minutes that it leaves out, of one day."""
    old = range(int(answer.now) - KEPT, since)
    minutes = {
        name: [*(each for each in before.minutes.get(name, ()) if each.start in old), *answer.minutes.get(name, ())]
        for name in {**before.minutes, **answer.minutes}
    }
    pods = [*answer.pods, *(each for each in before.pods if each.start in old)][:POD_MINUTES]
    return answer.model_copy(update={"minutes": minutes, "pods": pods})


def _reading(body: bytes) -> Reading:
    return read(body.decode())


def _address(pod: Mapping[str, Any]) -> str | None:
    """Where a gateway answers; None where it is not ready."""
    ready = False
    with suppress(KeyError):
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])
    return pod["status"].get("podIP") if ready and "deletionTimestamp" not in pod["metadata"] else None
