"""A small client of the Kubernetes API: JSON over HTTPS with a client certificate, and watches.

It must not know Pilotboat's kinds.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from lab.layout import patience
from tools.steps import StepFailed

Object = dict[str, Any]
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


class ApiError(StepFailed):
    """The API server refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True)
class Client:
    host: str
    port: int
    context: ssl.SSLContext

    @classmethod
    def load(cls, kubeconfig: Path) -> Client:
        """Reads a kubeconfig that `pki` wrote: JSON with everything in it."""
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pair:  # the standard library reads a client's key from files only
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[part]))
            pair.flush()
            context.load_cert_chain(pair.name)
        url = urlsplit(cluster["server"])
        return cls(str(url.hostname), url.port or 443, context)

    def _open(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self.host, self.port, context=self.context, timeout=timeout)

    def _send(
        self, method: str, path: str, body: object = None, content: str = "application/json", timeout: float = 30
    ) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body)
        connection = self._open(timeout)
        connection.request(method, path, data, {"Content-Type": content, "Accept": "application/json"})
        response = connection.getresponse()
        if response.status >= 400:
            raise ApiError(response.status, response.read().decode(errors="replace"))
        return response

    def call(self, method: str, path: str, body: object = None, content: str = "application/json") -> Object:
        with self._send(method, path, body, content) as response:
            return cast(Object, json.load(response))

    def get(self, path: str) -> Object:
        return self.call("GET", path)

    def merge(self, path: str, patch: Object) -> Object:
        return self.call("PATCH", path, patch, MERGE)

    def apply(self, path: str, manifest: Object) -> Object:
        """Server-side apply: the same call creates and mends."""
        return self.call("PATCH", f"{path}?{urlencode({'fieldManager': 'lab', 'force': 'true'})}", manifest, APPLY)

    def delete(self, path: str) -> None:
        try:
            self.call("DELETE", path)
        except ApiError as error:
            if error.status != 404:
                raise

    def watch(self, path: str, since: str, seconds: int) -> Iterator[Object]:
        """Events since a resource version, for so many seconds."""
        query = urlencode({"watch": "true", "resourceVersion": since, "timeoutSeconds": seconds})
        with self._send("GET", f"{path}?{query}", timeout=seconds + 10) as response:
            for line in response:
                yield json.loads(line)

    def ready(self) -> bool:
        try:
            with self._send("GET", "/readyz", timeout=2 * patience()) as response:
                return response.status == 200
        except (OSError, ApiError, http.client.HTTPException):
            return False
