"""The port to the API server: raw objects in and out, typed errors, and nothing else.

Owns: requests (on kubernetes.aio: its credentials, TLS and token rotation), their time-outs, cap and counting.
Must not know: what the objects mean, nor when to try again.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config

from pilotboat.api import labels
from pilotboat.plan.types import Manifest, Ref

from .errors import NotFound, Unavailable, from_response
from .kinds import Kind, kind_of

Raw = dict[str, Any]
Observer = Callable[[str, str, str, float], None]
"""Called with verb, plural, HTTP status (or the failure's name) and seconds."""

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
PAGE = 100
"""Objects a LIST answers at once: a page is in memory whole, at ten times the size of what is kept of it."""
IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def uses_pod_account(kubeconfig: str | None, context: str | None) -> bool:
    """Whether the pod's own service account is meant: nothing else is named, and there is one."""
    return kubeconfig is None and context is None and IN_CLUSTER.exists()


async def load_configuration(kubeconfig: str | None = None, context: str | None = None) -> client.Configuration:
    """Credentials: the kubeconfig or context named, else the pod's service account, else kubectl's own default."""
    loaded = client.Configuration()
    if uses_pod_account(kubeconfig, context):
        config.load_incluster_config(client_configuration=loaded)
    else:
        await config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=loaded)
    return loaded


class Api:
    """One pool of connections. `limit` caps requests in flight; None is for the Lease, which must never queue."""

    def __init__(
        self,
        configuration: client.Configuration,
        *,
        limit: int | None = 16,
        timeout: float = 30,
        observe: Observer = lambda verb, plural, code, seconds: None,
    ) -> None:
        configuration.connection_pool_maxsize = (limit or 4) + 4
        configuration.client_session_kwargs = {"trust_env": _behind_proxy(os.environ)}
        self.configuration = configuration
        self._client = client.ApiClient(configuration)
        self._cap: AbstractAsyncContextManager[Any] = asyncio.Semaphore(limit) if limit else nullcontext()
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._observe = observe
        self._may_write: Callable[[], bool] = lambda: True

    def only_while(self, sure: Callable[[], bool]) -> Self:
        """The same connections, for whoever must not write any more once that is no longer so: a leader that was
        paused wakes with writes under way, and somebody else leads."""
        view = copy.copy(self)
        view._may_write = sure
        return view

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Raw | None:
        """The object, or None where there is none."""
        try:
            return await self.find(kind, namespace, name)
        except NotFound:
            return None

    async def find(self, kind: Kind, namespace: str, name: str) -> Raw:
        """The object. Raises NotFound, or NoSuchKind where there cannot be one."""
        return await self._call("get", "GET", kind, kind.path(namespace, name))

    async def pages(self, kind: Kind, namespace: str | None, selector: str | None = None) -> AsyncIterator[list[Raw]]:
        """All objects, a page at a time. Without a resourceVersion the answer is never older than our watch."""
        query: dict[str, str] = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            answer = await self._call("list", "GET", kind, kind.path(namespace), query)
            stamp = {"apiVersion": kind.api_version, "kind": kind.kind}
            yield [stamp | item for item in answer["items"]]
            query["continue"] = answer["metadata"].get("continue") or ""
            if not query["continue"]:
                return

    async def apply(self, manifest: Manifest, manager: str, *, subresource: str | None = None) -> Raw:
        """Server-side apply, forced: of the fields sent we are the one owner."""
        ref = Ref.of(manifest)
        kind = kind_of(ref.api_version, ref.kind)
        path = kind.path(ref.namespace, ref.name, subresource)
        query = {"fieldManager": manager, "force": "true"}
        verb = f"apply_{subresource}" if subresource else "apply"
        return await self._call(verb, "PATCH", kind, path, query, manifest, APPLY)

    async def delete(self, ref: Ref, uid: str, grace: int | None = None) -> None:
        """Delete that very object, a pod with so many seconds to end; one that is gone already is fine."""
        kind = kind_of(ref.api_version, ref.kind)
        body: Raw = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        body |= {} if grace is None else {"gracePeriodSeconds": grace}
        try:
            await self._call("delete", "DELETE", kind, kind.path(ref.namespace, ref.name), body=body)
        except NotFound:
            return

    async def create(self, kind: Kind, namespace: str | None, body: Raw) -> Raw:
        """POST."""
        return await self._call("create", "POST", kind, kind.path(namespace), body=body)

    async def replace(self, kind: Kind, body: Raw) -> Raw:
        """PUT: with the resourceVersion in it, Conflict where somebody was faster."""
        meta = body["metadata"]
        return await self._call("update", "PUT", kind, kind.path(meta["namespace"], meta["name"]), body=body)

    async def merge(self, kind: Kind, namespace: str, name: str, body: Raw) -> Raw:
        """JSON merge patch."""
        return await self._call("patch", "PATCH", kind, kind.path(namespace, name), body=body, content=MERGE)

    async def _call(
        self,
        verb: str,
        method: str,
        kind: Kind,
        path: str,
        query: dict[str, str] | None = None,
        body: Raw | None = None,
        content: str = "application/json",
    ) -> Raw:
        async with self._cap:
            if method != "GET" and not self._may_write():
                raise Unavailable(0, "NotLeading", "the Lease was not renewed in time, so nothing is written")
            started = time.monotonic()
            code = "none"
            try:
                status, headers, data = await self._send(method, path, query, body, content)
                code = str(status)
            except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as failure:
                raise Unavailable(0, type(failure).__name__, str(failure) or self._silence(failure)) from failure
            finally:
                self._observe(verb, kind.plural, code, time.monotonic() - started)
        if status >= 400:
            raise from_response(status, headers, data)
        try:
            answer: Raw = json.loads(data)
        except ValueError:  # a proxy's page, for one
            told = f"{self.configuration.host} answered {status} with something that is no JSON: no API server's words"
            raise Unavailable(status, "NotJson", told) from None
        return answer

    def _silence(self, failure: Exception) -> str:
        if isinstance(failure, TimeoutError):
            return f"{self.configuration.host} did not answer within {self._timeout.total:g} s"
        return type(failure).__name__

    async def _send(
        self, method: str, path: str, query: dict[str, str] | None, body: Raw | None, content: str
    ) -> tuple[int, Any, bytes]:
        headers = {"Accept": "application/json", "Content-Type": content, "User-Agent": labels.MANAGER}
        token = await self.configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        url = f"{self.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        response = await self._client.rest_client.request(
            method, url, headers=headers, body=body, _request_timeout=self._timeout
        )
        return response.status, response.headers, await response.read()


def _behind_proxy(environ: Mapping[str, str]) -> bool:
    """Whether the environment names a proxy: looking for one costs aiohttp a thread's hop or two a request."""
    return any(environ.get(name) or environ.get(name.upper()) for name in ("http_proxy", "https_proxy", "all_proxy"))
