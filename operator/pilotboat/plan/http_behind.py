"""The Services behind an HTTPRoute: one with an address for each revision, and one for those who test a canary.

Owns: their names, which backendRef names one, how they look. Must not know: rules, routes, who gets what share.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ..api import labels
from ..api.routing import SERVER_PORT, Lane
from . import build
from .build import Raw
from .types import Manifest

SUFFIX = "-backend"
"""Of the names of these Services."""


def backend(lane: Lane) -> str:
    """Name of the Service behind a route for one revision."""
    return f"{lane.service}{SUFFIX}"


def for_testers(name: str) -> str:
    """Name of the Service that a rule for testers sends to, in an HTTPRoute of others: by it that rule is known."""
    return f"{name}-testers{SUFFIX}"


def names(name: str, revisions: Collection[str]) -> set[str]:
    """Names of the Services of these revisions."""
    return {f"{name}-{each}{SUFFIX}" for each in revisions}


def is_of(ref: Mapping[str, Any], name: str) -> bool:
    """Whether a backendRef names the Service of a revision of that ModelDeployment, by its name alone."""
    return re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{8}}{SUFFIX}", str(ref.get("name"))) is not None


def is_service(ref: Mapping[str, Any], namespace: str) -> bool:
    """Whether a backendRef of a route in that namespace names a Service there."""
    service = (ref.get("group") or "", ref.get("kind") or "Service") == ("", "Service")
    return service and ref.get("namespace") in (None, namespace)


def service(parent: Raw, name: str, revision: str) -> Manifest:
    """With an address of its own: some Gateways cannot send to a headless Service (ADR 8)."""
    port = {"name": "http", "port": SERVER_PORT, "targetPort": "http", "protocol": "TCP"}
    selector = {labels.INSTANCE: parent["metadata"]["name"], labels.COMPONENT: "server", labels.REVISION: revision}
    body = {"spec": {"selector": selector, "ports": [port]}}
    return build.child(parent, "server", "v1", "Service", name, body, **{labels.REVISION: revision})
