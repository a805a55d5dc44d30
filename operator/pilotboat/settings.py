"""Everything that can be set, from environment variables.

Owns: names, types, defaults; the docstring of a field is its reference. Must not know: who reads it.

A field's variable is PILOTBOAT_, its group's name where it has one, and its own: `images.server` is
PILOTBOAT_IMAGES_SERVER. Lists are separated by commas. A variable that is empty counts as not set.
"""

from __future__ import annotations

import dataclasses
import math
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, get_type_hints

from pydantic import TypeAdapter, ValidationError

from .api.base import BaseUrl
from .engine.leader import END_WITHIN, Timing

PREFIX = "PILOTBOAT"
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class BadSetting(ValueError):
    """A variable cannot be read; the message names it."""


@dataclass(frozen=True)
class Images:
    """Container images of the pods we make."""

    server: str = "localhost/pilotboat/server:latest"
    """Inference server, where a ModelDeployment does not name its own."""
    trainer: str = "localhost/pilotboat/trainer:latest"
    """Trainer, where a FineTuneJob does not name its own."""
    fetch: str = "localhost/pilotboat/fetch:latest"
    """Init container that fetches models and data sets."""
    gateway: str = "localhost/pilotboat/gateway:latest"
    """HAProxy and its agent, between callers and replicas."""
    pull_policy: str = "IfNotPresent"
    """Always, IfNotPresent or Never."""
    pull_secrets: tuple[str, ...] = ()
    """Secrets for pulling, in the namespace of each custom resource."""


@dataclass(frozen=True)
class Work:
    """How much is done at once, and how often everything is looked at."""

    workers: int = 16
    """Custom resources worked on at once."""
    requests: int = 16
    """Requests to the API server in flight at once."""
    request_timeout: float = 30
    """Seconds."""
    resync: float = 300
    """Seconds between two LISTs of everything, give or take a fifth."""
    watch_silence: float = 70
    """Seconds without a sign, bookmarks included (one a minute), after which a watch is begun anew."""


@dataclass(frozen=True)
class Lease:
    """Leader election."""

    name: str = "pilotboat"
    """Name of the Lease in the operator's namespace."""
    duration: float = Timing.lease
    """Seconds after which a silent leader is replaced."""
    renew: float = Timing.renew
    """Seconds without renewal after which a leader ends itself."""
    retry: float = Timing.retry
    """Seconds between tries."""


@dataclass(frozen=True)
class Http:
    """The port for kubelet and Prometheus."""

    host: str = "0.0.0.0"
    """Address to listen on."""
    port: int = 8080
    """Port of /healthz, /readyz and /metrics."""


@dataclass(frozen=True)
class Progress:
    """The receiver of trainers' progress."""

    host: str = "0.0.0.0"
    """Address to listen on."""
    port: int = 8443
    """Port, with TLS."""
    service: str = "pilotboat-progress"
    """Name of the Service before it, in the operator's namespace; its port is 8443."""
    url: str | None = None
    """Base URL that trainers post to, where it is not that Service's."""
    secret: str = "pilotboat-progress-tls"
    """Secret in the operator's namespace that keeps its certificate; made where there is none."""


@dataclass(frozen=True)
class Settings:
    """All of it."""

    namespace: str = ""
    """The operator's own namespace; the pod's, or `pilotboat-system`, when left out."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces served; all when left out."""
    kubeconfig: str | None = None
    """Path of a kubeconfig; the pod's service account, or kubectl's default, when left out."""
    identity: str = ""
    """Name of this replica in the Lease; the host's name when left out."""
    node: str = ""
    """Node that this replica runs on: who leads after it asks whether it was lost with the node."""
    hub_endpoint: str | None = None
    """Hub or mirror that models come from, where a source names none; the Hugging Face hub when left out."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    images: Images = field(default_factory=Images)
    work: Work = field(default_factory=Work)
    lease: Lease = field(default_factory=Lease)
    http: Http = field(default_factory=Http)
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """From the environment. Raises BadSetting."""
        loaded: Self = _read(cls, PREFIX, environ)
        if loaded.hub_endpoint:
            _address(f"{PREFIX}_HUB_ENDPOINT", loaded.hub_endpoint)
        _one_leader(f"{PREFIX}_LEASE", loaded.lease)
        return dataclasses.replace(
            loaded,
            namespace=loaded.namespace or _own_namespace(),
            identity=loaded.identity or socket.gethostname(),
        )

    @property
    def progress_url(self) -> str:
        """Base URL that trainers post to."""
        return (self.progress.url or f"https://{self.progress_hosts[0]}:{self.progress.port}").rstrip("/")

    @property
    def progress_hosts(self) -> tuple[str, ...]:
        """Names that the receiver's certificate is for."""
        name = f"{self.progress.service}.{self.namespace}.svc"
        return (name, f"{name}.cluster.local", f"{self.progress.service}.{self.namespace}", "localhost")


def _address(variable: str, text: str) -> None:
    """Raises BadSetting, which does not show the text: it may have a password in it."""
    try:
        TypeAdapter(BaseUrl).validate_python(text)
    except ValidationError as error:
        raise BadSetting(f"{variable}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def _one_leader(prefix: str, lease: Lease) -> None:
    """Raises BadSetting where another could lead before a leader has ended, or none could lead for long."""
    if lease.renew + END_WITHIN > int(lease.duration):  # a Lease has whole seconds
        raise BadSetting(
            f"{prefix}_RENEW={lease.renew:g} must be at least {END_WITHIN:g} below {prefix}_DURATION="
            f"{int(lease.duration)}: a leader takes so long to end"
        )
    if lease.retry >= lease.renew:
        raise BadSetting(f"{prefix}_RETRY={lease.retry:g} must be below {prefix}_RENEW={lease.renew:g}")


def _own_namespace() -> str:
    return OWN_NAMESPACE.read_text().strip() if OWN_NAMESPACE.exists() else "pilotboat-system"


def _read(group: type[Any], prefix: str, environ: Mapping[str, str]) -> Any:
    hints = get_type_hints(group)
    values: dict[str, Any] = {}
    for each in dataclasses.fields(group):
        variable, wanted = f"{prefix}_{each.name.upper()}", hints[each.name]
        if dataclasses.is_dataclass(wanted):
            values[each.name] = _read(wanted, variable, environ)  # type: ignore[arg-type]
        elif environ.get(variable):
            values[each.name] = _parse(variable, environ[variable], wanted)
    return group(**values)


def _parse(variable: str, text: str, wanted: Any) -> Any:
    if wanted == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if wanted not in (int, float):
        return text
    try:
        number = wanted(text)
    except ValueError:
        raise BadSetting(f"{variable}={text!r} is not a number") from None
    if not 0 < number < math.inf:  # nor NaN, which is above and below nothing
        raise BadSetting(f"{variable}={text!r} must be above 0, and end")
    return number
