"""The client that is measured against, and the user's side of a run: plain aiohttp, sixteen requests in flight.

Owns: creating many objects at once, and waiting by a watch until all of them are well. Must not know: the operator.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

from pilotboat.engine.api import load_configuration

Raw = dict[str, Any]
IN_FLIGHT = 16
PATIENCE = 900.0
PATHS = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Service": "/api/v1/namespaces/{}/services",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "ModelDeployment": "/apis/pilotboat.dev/v1alpha1/namespaces/{}/modeldeployments",
}


class Refused(RuntimeError):
    """The API server did not do what was asked."""


class Load:
    """A session with the API server."""

    def __init__(self, host: str, session: aiohttp.ClientSession) -> None:
        self._host = host
        self._session = session

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: Path) -> AsyncIterator[Self]:
        """Open while the block runs."""
        config = await load_configuration(str(kubeconfig))
        context = ssl.create_default_context(cafile=config.ssl_ca_cert)
        context.load_cert_chain(config.cert_file, config.key_file)
        connector = aiohttp.TCPConnector(ssl=context, limit=IN_FLIGHT + 4)
        async with aiohttp.ClientSession(connector=connector, read_bufsize=2**21) as session:
            yield cls(config.host, session)

    async def send(self, method: str, path: str, body: Raw | None = None, content: str = "application/json") -> Raw:
        """One request; Refused where the answer is an error."""
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content}
        async with self._session.request(method, self._host + path, data=data, headers=headers) as response:
            text = await response.read()
            if response.status >= 400:
                raise Refused(f"{method} {path}: {response.status}: {text[:500]!r}")
            answer: Raw = json.loads(text)
            return answer

    async def create(self, manifests: Iterable[Raw]) -> None:
        """One after the other."""
        for manifest in manifests:
            await self.send("POST", PATHS[manifest["kind"]].format(manifest["metadata"]["namespace"]), manifest)

    async def create_all(self, groups: Iterable[Sequence[Raw]]) -> None:
        """Each group in order, sixteen groups at once."""
        waiting = iter(groups)

        async def work() -> None:
            for group in waiting:
                await self.create(group)

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))

    async def merge(self, kind: str, namespace: str, name: str, patch: Raw) -> None:
        """A JSON merge patch."""
        path = f"{PATHS[kind].format(namespace)}/{name}"
        await self.send("PATCH", path, patch, "application/merge-patch+json")

    async def changes(self, kind: str, namespace: str) -> AsyncIterator[Raw]:
        """Every object of a kind, first as it is and then whenever it changes."""
        path = PATHS[kind].format(namespace)
        listed = await self.send("GET", path)
        for raw in listed["items"]:
            yield raw
        since = listed["metadata"]["resourceVersion"]
        url = f"{self._host}{path}?watch=true&resourceVersion={since}"
        async with self._session.get(url, timeout=aiohttp.ClientTimeout()) as stream:
            async for line in stream.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise Refused(f"the watch of {kind} ended: {event}")
                yield event["object"]

    async def until_all(self, kind: str, namespace: str, count: int, well: Callable[[Raw], bool]) -> None:
        """Until so many objects of a kind are well at once."""
        good: set[str] = set()
        async with asyncio.timeout(PATIENCE):
            async for raw in self.changes(kind, namespace):
                (good.add if well(raw) else good.discard)(raw["metadata"]["name"])
                if len(good) == count:
                    return


async def timed(load: Load, groups: Sequence[Sequence[Raw]], kind: str, well: Callable[[Raw], bool]) -> float:
    """Seconds from the first creation until there is one object of the kind a group, and all are well."""
    namespace = groups[0][0]["metadata"]["namespace"]
    waiting = asyncio.create_task(load.until_all(kind, namespace, len(groups), well))
    began = time.monotonic()
    await load.create_all(groups)
    await waiting
    return time.monotonic() - began


def available(deployment: Raw) -> bool:
    """All replicas of a Deployment's newest generation are available."""
    status = deployment.get("status") or {}
    current = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return bool(current and status.get("availableReplicas") == deployment["spec"]["replicas"])


def ready(parent: Raw) -> bool:
    """This generation of a custom resource is Ready."""
    conditions = (parent.get("status") or {}).get("conditions") or ()
    wanted = ("True", parent["metadata"]["generation"])
    return any(c["type"] == "Ready" and (c["status"], c.get("observedGeneration")) == wanted for c in conditions)
