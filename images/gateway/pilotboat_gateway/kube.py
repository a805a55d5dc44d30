"""LIST and WATCH: what there is of a kind, now and whenever it changes, for as long as the process lives.

Owns: requests to the API server (on kubernetes.aio: its credentials, TLS and token rotation) and going on without it.
Must not know: what the objects mean.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config

log = logging.getLogger(__name__)

Raw = dict[str, Any]
Objects = Mapping[str, Raw]
IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
SILENCE = 70.0
"""Seconds without a sign, bookmarks included (one a minute), after which a watch is begun anew."""
AGAIN = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds until the next try, the last of them for ever."""
WORKED = 1.0
"""Seconds that a watch has lasted which was one: every watch ends after a while."""


class Lost(Exception):
    """The API server did not answer as it should; the message says how."""


@dataclass(frozen=True)
class Kind:
    """A kind's path within a namespace, and which of its objects are wanted."""

    path: str
    selector: str


CONFIGS = Kind("/api/v1/namespaces/{}/configmaps", "app.kubernetes.io/component=gateway")
SLICES = Kind("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", "kubernetes.io/service-name")


async def load_configuration(kubeconfig: str | None) -> client.Configuration:
    """Credentials: the kubeconfig named, else the pod's service account, else kubectl's own default."""
    loaded = client.Configuration()
    if kubeconfig is None and IN_CLUSTER.exists():  # noqa: ASYNC240 -- one stat, before anything else runs
        config.load_incluster_config(client_configuration=loaded)
    else:
        await config.load_kube_config(config_file=kubeconfig, client_configuration=loaded)
    return loaded


class Kube:
    """One namespace of the API server."""

    def __init__(self, configuration: client.Configuration, namespace: str) -> None:
        proxied = any(os.environ.get(name) or os.environ.get(name.upper()) for name in ("http_proxy", "https_proxy"))
        configuration.client_session_kwargs = {"trust_env": proxied, "read_bufsize": 2**21}
        self._configuration = configuration
        self._client = client.ApiClient(configuration)
        self._namespace = namespace

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def follow(self, kind: Kind, tell: Callable[[Objects], None]) -> None:
        """Never returns. `tell` gets all objects by name after the first LIST and after each change; never none for
        want of an answer."""
        tries, clock = 0, asyncio.get_running_loop().time
        while True:
            began = math.inf
            try:
                objects, version = await self._list(kind)
                tell(objects)
                began = clock()
                await self._watch(kind, objects, version, tell)
                if clock() - began < WORKED:
                    raise Lost("it ended at once")
                tries = 0
            except (Lost, aiohttp.ClientError, TimeoutError, OSError, ValueError) as failure:
                tries = 0 if clock() - began >= WORKED else tries
                if tries == 0:
                    log.warning("the watch of %s is lost: %s %s", kind.path, type(failure).__name__, failure)
                await asyncio.sleep(AGAIN[min(tries, len(AGAIN) - 1)])
                tries += 1

    async def _list(self, kind: Kind) -> tuple[dict[str, Raw], str]:
        response = await self._get(kind, {}, aiohttp.ClientTimeout(total=30))
        answer = await response.read()
        with _readable():
            told = json.loads(answer)
            return {_name(raw): raw for raw in told["items"] or ()}, told["metadata"]["resourceVersion"]

    async def _watch(self, kind: Kind, objects: dict[str, Raw], version: str, tell: Callable[[Objects], None]) -> None:
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        response = await self._get(kind, query, aiohttp.ClientTimeout(sock_connect=5, sock_read=SILENCE))
        try:
            async for line in response.response.content:
                with _readable():
                    event = json.loads(line)
                    changed = _change(objects, event["type"], event["object"])
                if changed:
                    tell(objects)
        finally:
            response.response.close()

    async def _get(self, kind: Kind, query: dict[str, str], limits: aiohttp.ClientTimeout) -> Any:
        headers = {"Accept": "application/json", "User-Agent": "pilotboat-gateway"}
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        path = kind.path.format(self._namespace)
        url = f"{self._configuration.host}{path}?{urlencode({**query, 'labelSelector': kind.selector})}"
        response = await self._client.rest_client.request("GET", url, headers=headers, _request_timeout=limits)
        if response.status != 200:
            text = (await response.read())[:200].decode(errors="replace")
            raise Lost(f"{response.status}: {text}")
        return response


@contextmanager
def _readable() -> Iterator[None]:
    """What is read here and is not as the API has it is no answer."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Lost(f"what it answered cannot be read: {type(error).__name__} {error}") from None


def _name(raw: Raw) -> str:
    return str(raw["metadata"]["name"])


def _change(objects: dict[str, Raw], kind: str, raw: Raw) -> bool:
    """Do what an event says; whether it says that anything is another. Raises Lost where it is the watch's end."""
    if kind == "ERROR":
        raise Lost(f"{raw.get('code')}: {raw.get('message')}")
    if kind == "BOOKMARK":
        return False
    objects.pop(_name(raw), None)
    if kind != "DELETED":
        objects[_name(raw)] = raw
    return True
