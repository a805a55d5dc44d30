"""A real API server as the tests see it: raw objects, and waiting for what should come true."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client

from lab import crds, plane
from pilotboat.api import labels
from pilotboat.engine.api import Api
from pilotboat.engine.kinds import CHILDREN, EVENT, FINE_TUNE_JOB, MODEL_DEPLOYMENT, Kind, kind_of
from pilotboat.plan.types import Ref
from tools.host import ROOT

Raw = dict[str, Any]
PATIENCE = 180.0
"""Seconds until a wait fails; nothing is ever waited for that long."""
NAMESPACE = Kind("v1", "Namespace", "namespaces")


def tls(configuration: client.Configuration) -> ssl.SSLContext | None:
    """The client's side of a kubeconfig."""
    if not configuration.host.startswith("https"):
        return None
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


class Cluster:
    """One namespace of a test's own."""

    def __init__(self, configuration: client.Configuration, namespace: str) -> None:
        self.configuration = configuration
        self.namespace = namespace
        self.api = Api(configuration, limit=None)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls(configuration) or True), read_bufsize=2**21
        )

    async def close(self) -> None:
        await self.api.__aexit__()
        await self._session.close()

    async def get(self, kind: Kind, name: str) -> Raw:
        found = await self.api.get(kind, self.namespace, name)
        assert found, f"{kind.kind} {name} does not exist"
        return found

    async def list(self, kind: Kind) -> list[Raw]:
        return [raw async for page in self.api.pages(kind, self.namespace) for raw in page]

    async def apply(self, manifest: Raw, manager: str = "a-user", **options: Any) -> Raw:
        """As a user, with server-side apply."""
        meta = {"namespace": self.namespace, **manifest["metadata"]}
        return await self.api.apply({**manifest, "metadata": meta}, manager, **options)

    async def merge(self, kind: Kind, name: str, body: Raw) -> Raw:
        return await self.api.merge(kind, self.namespace, name, body)

    async def delete(self, raw: Raw) -> None:
        await self.api.delete(Ref.of(raw), raw["metadata"]["uid"])

    async def orphan(self, raw: Raw) -> None:
        """Delete it and leave its children, as `kubectl delete --cascade=orphan` does."""
        ref = Ref.of(raw)
        url = f"{self.configuration.host}{kind_of(ref.api_version, ref.kind).path(ref.namespace, ref.name)}"
        async with self._session.delete(url, json={"propagationPolicy": "Orphan"}) as response:
            assert response.ok, await response.text()

    async def until(self, kind: Kind, true: Callable[[list[Raw]], Any], namespace: str | None = None) -> list[Raw]:
        """Wait, by a watch, until it is true of the objects of a kind."""
        objects: list[Raw] = []
        try:
            async with asyncio.timeout(PATIENCE):
                async for objects in self._states(kind, namespace or self.namespace):
                    if true(objects):
                        return objects
        except TimeoutError:
            raise AssertionError(f"never came true of {kind.plural}: {json.dumps(objects)[:4000]}") from None
        raise AssertionError("the states of a cluster do not end")

    async def _states(self, kind: Kind, namespace: str) -> AsyncIterator[list[Raw]]:
        url = f"{self.configuration.host}{kind.path(namespace)}"
        while True:
            async with self._session.get(url) as response:
                listed = await response.json()
            state = {raw["metadata"]["name"]: raw for raw in listed["items"]}
            yield list(state.values())
            query = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
            async with self._session.get(url, params=query, timeout=aiohttp.ClientTimeout()) as stream:
                async for line in stream.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        break
                    name = event["object"]["metadata"]["name"]
                    state.pop(name, None)
                    if event["type"] != "DELETED":
                        state[name] = event["object"]
                    yield list(state.values())

    async def events(self, reason: str) -> list[Raw]:
        return [event for event in await self.list(EVENT) if event["reason"] == reason]

    async def shape(self) -> Raw:
        """All that the operator made, without what differs between two runs: to compare end states."""
        shapes: Raw = {}
        for kind in (MODEL_DEPLOYMENT, FINE_TUNE_JOB, *CHILDREN):
            for raw in await self.list(kind):
                if kind in (MODEL_DEPLOYMENT, FINE_TUNE_JOB) or raw["metadata"].get("ownerReferences"):
                    shapes[f"{kind.kind} {raw['metadata']['name']}"] = _shape(raw, self.namespace)
        return shapes


VOLATILE = frozenset(
    [
        *("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "namespace", "annotations"),
        *("clusterIP", "clusterIPs", "lastTransitionTime", "lastUpdateTime", "time", "url"),
        *("startTime", "endTime", "completionTime", "controller-uid", "batch.kubernetes.io/controller-uid"),
    ]
)


POD_NAME = re.compile(r"\b([a-z0-9-]+?)(-[0-9b-z]{6,10})?-[24-9b-df-hj-np-tv-xz]{5}\b")
"""What Kubernetes' controllers call pods: letters and digits that make no words."""


def _shape(value: Any, namespace: str) -> Any:
    if isinstance(value, dict):
        # Another controller fills in the status of children, when it gets to it.
        owned = "ownerReferences" in value.get("metadata", {})
        return {
            k: _shape(v, namespace) for k, v in value.items() if k not in VOLATILE and not (owned and k == "status")
        }
    if isinstance(value, list):
        return [_shape(item, namespace) for item in value]
    return POD_NAME.sub(r"\1-a-pod", value.replace(namespace, "a-namespace")) if isinstance(value, str) else value


def ours(raw: Raw) -> bool:
    """Whether the operator made it, or had it made, whoever owns it."""
    return (raw["metadata"].get("labels") or {}).get(labels.MANAGED_BY) == labels.MANAGER


@contextmanager
def control_plane(name: str) -> Iterator[Path]:
    """etcd, kube-apiserver and kube-controller-manager on loopback, with our CRDs: the kubeconfig, while the block
    runs."""
    kubeconfig = plane.start(name, components=plane.CONTROLLED)
    try:
        crds.apply(kubeconfig, sorted((ROOT / "crds").glob("*.yaml")))
        yield kubeconfig
    finally:
        plane.stop(name)


@asynccontextmanager
async def namespace_of(configuration: client.Configuration, name: str) -> AsyncIterator[Cluster]:
    """A new namespace; it is left to the end of the plane."""
    cluster = Cluster(configuration, name)
    try:
        await cluster.api.create(NAMESPACE, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        yield cluster
    finally:
        await cluster.close()
