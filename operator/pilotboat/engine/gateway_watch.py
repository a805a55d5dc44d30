"""Takes a gateway that does not answer out of its Services, long before the cluster knows that its node is lost.

Owns: asking every gateway again and again whom it does not reach, and the label by which Services choose.
Must not know: what a gateway does, nor what becomes of nodes on which nobody is reached (node_watch.py), of replicas
that have just become ready (newcomers.py) and of feedback that was refused (floods.py).

kubelet's silence is noticed after 40 to 50 seconds, and until then every other caller would be sent to a dead gateway.
The last gateway that takes requests is never taken out, whoever else still answers while it ends, and where none
answers, it is rather we who are cut off: nothing is done. A gateway comes back by the same question, also a lone one.
Whoever makes a gateway anew gives it the label from the start, so Services lose nothing while no operator runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import aiohttp
from prometheus_client import Counter

from pilotboat.api import labels
from pilotboat.api.routing import AGENT_PORT, Unreached, authority
from pilotboat.plan import diagnose

from .errors import EngineError
from .evidence import body
from .floods import Floods
from .gateways import key_of
from .kinds import POD, Kind
from .newcomers import Newcomers
from .store import Store

log = logging.getLogger(__name__)

EVERY = 1.0
TIMEOUT = 1.0
MISSES = 3
"""Unanswered in a row until a gateway is taken out: three to six seconds."""
WELCOME = (0.15, 0.3)
"""Seconds from a newcomer's readiness to the first question about it, and from there to the second: it is `Ready` that
waits for the answer. Gateways learn of it when we do."""

Raw = dict[str, Any]
Name = tuple[str, str]


class Patches(Protocol):
    """What of the Api is needed here."""

    async def merge(self, kind: Kind, namespace: str, name: str, body: Raw) -> Raw: ...


class GatewayWatch:
    """Asks the gateways of every namespace."""

    def __init__(
        self,
        api: Patches,
        store: Store,
        changes: Counter,
        doubt: Callable[[set[str]], None],
        newcomers: Newcomers,
        floods: Floods,
        *,
        every: float = EVERY,
        timeout: float = TIMEOUT,
        port: int = AGENT_PORT,
    ) -> None:
        self._api = api
        self._store = store
        self._changes = changes
        self._doubt = doubt
        """Told after each round on which nodes a replica is that Kubernetes calls ready and no gateway reaches."""
        self._newcomers = newcomers
        self._floods = floods
        self._every = every
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._port = port
        self._missed: defaultdict[Name, int] = defaultdict(int)

    async def run(self) -> None:
        """Round after round, for ever; and in between for the sake of newcomers."""
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(timeout=self._timeout, connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._rounds(session), name="gateways in rounds")
            group.create_task(self._welcome(session), name="newcomers")

    async def _rounds(self, session: aiohttp.ClientSession) -> None:
        while True:
            await asyncio.sleep(self._every)
            groups = {name: self._pods(name) for name in self._namespaces()}
            self._forget(groups.values())
            self._newcomers.only(groups)
            self._floods.only(groups)
            doubtful = await asyncio.gather(*(self._round(session, *group) for group in groups.items()))
            self._doubt(set().union(*doubtful))

    async def _welcome(self, session: aiohttp.ClientSession) -> None:
        """What is not answered here is left to the rounds; who is silent here is not thought dead for it."""
        while True:
            await self._newcomers.noticed.wait()
            self._newcomers.noticed.clear()
            for pause in WELCOME:
                await asyncio.sleep(pause)
                waiting = [name for name in self._namespaces() if self._newcomers.asked(name)]
                await asyncio.gather(*(self._ask(session, name, self._pods(name)) for name in waiting))

    def _namespaces(self) -> list[str]:
        return [key.namespace for key in tuple(self._store.gateways.keys())]

    def _pods(self, namespace: str) -> list[Raw]:
        """Gateways that have been up: one that starts is nobody's yet."""
        found = self._store.pods(key_of(namespace))
        return [pod for pod in found if pod["status"].get("podIP") and pod["status"].get("phase") == "Running"]

    def _forget(self, groups: Iterable[list[Raw]]) -> None:
        there = {_name(pod) for pods in groups for pod in pods}
        for name in self._missed.keys() - there:
            del self._missed[name]

    async def _round(self, session: aiohttp.ClientSession, namespace: str, pods: list[Raw]) -> set[str]:
        """Nodes with a replica that none of those who answered reaches."""
        answers = await self._ask(session, namespace, pods)
        told = [answer for answer in answers if answer is not None]
        self._floods.told(namespace, [answer.flooded for answer in told])
        await self._choose(pods, [answer is not None for answer in answers])
        return self._nodes_of(namespace, set.intersection(*(set(answer.pods) for answer in told))) if told else set()

    async def _ask(self, session: aiohttp.ClientSession, namespace: str, pods: list[Raw]) -> list[Unreached | None]:
        """Each of them; what they say of newcomers is passed on."""
        asked = self._newcomers.asked(namespace)
        answers = await asyncio.gather(*(self._answers(session, pod, asked) for pod in pods))
        taking = [answer for pod, answer in zip(pods, answers, strict=True) if answer and diagnose.ready(pod)]
        unseated = set().union(*(answer.unseated for answer in taking)) if taking else None
        warmed = {name: seconds for answer in taking for name, seconds in answer.warmed.items()}
        self._newcomers.told(namespace, asked, unseated, warmed)
        return list(answers)

    def _nodes_of(self, namespace: str, names: Iterable[str]) -> set[str]:
        pods = [pod for name in names if (pod := self._store.find(POD, namespace, name))]
        return {pod["spec"]["nodeName"] for pod in pods if diagnose.ready(pod)}

    async def _choose(self, pods: Sequence[Raw], answered: Sequence[bool]) -> None:
        for pod, answers in zip(pods, answered, strict=True):
            self._missed[_name(pod)] = 0 if answers else self._missed[_name(pod)] + 1
        stay = [answers and _serves(pod) and diagnose.ready(pod) for pod, answers in zip(pods, answered, strict=True)]
        for pod, answers in zip(pods, answered, strict=True):
            serves = _serves(pod)
            if serves and any(stay) and self._missed[_name(pod)] >= MISSES:
                await self._mark(pod, "false")
            elif not serves and answers:
                await self._mark(pod, labels.SERVES)

    async def _answers(self, session: aiohttp.ClientSession, pod: Raw, asked: Sequence[str]) -> Unreached | None:
        """None: no answer."""
        url = f"http://{authority(pod['status']['podIP'], self._port)}/unreached"
        try:
            return Unreached.model_validate_json(await body(session, f"{url}?of={','.join(asked)}" if asked else url))
        except aiohttp.ClientResponseError as refusal:  # an agent from before there was this page
            return Unreached() if refusal.status < 500 else None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        except ValueError:  # not in the shape we know
            return Unreached()

    async def _mark(self, pod: Raw, value: str) -> None:
        namespace, name = _name(pod)
        try:
            await self._api.merge(POD, namespace, name, {"metadata": {"labels": {labels.SERVING: value}}})
        except EngineError as failure:  # asked again in the next round
            log.warning("gateway %s/%s could not be marked: %s", namespace, name, failure)
            return
        self._changes.labels(value).inc()
        told = "answers again: callers are sent to it" if value == labels.SERVES else "does not answer: taken out"
        log.warning("gateway %s/%s %s", namespace, name, told)


def _serves(pod: Mapping[str, Any]) -> bool:
    """Whether Services choose it."""
    return bool(pod["metadata"]["labels"].get(labels.SERVING) == labels.SERVES)


def _name(pod: Mapping[str, Any]) -> Name:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]
