"""The login to the registry that a cluster of the user's own pulls our images from, as a Secret: where there is one.

Owns: which login of the file is meant, and what the Secret holds: that one and no other. Must not know: who pushes,
which pods pull.

The file is the one that buildah and podman take their logins from, by the same variable.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from tools.steps import StepFailed

FILE = "REGISTRY_AUTH_FILE"
NAME = "pilotboat-registry"

Logins = dict[str, Any]
"""Registry, or registry and path, to what docker's config.json says of it."""


def logins(registry: str) -> Logins:
    """Those that are for this registry and stand in the file itself. None is no fault: a registry may ask for no login
    to pull, or the cluster's nodes may have one. Raises StepFailed where the file cannot be read."""
    path = os.environ.get(FILE)
    if not path:
        return {}
    try:
        known = dict(json.loads(Path(path).read_text("utf-8"))["auths"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StepFailed(f"{FILE}: {path} cannot be read as a file of logins ({type(error).__name__})") from error
    held = {name: entry for name, entry in known.items() if isinstance(entry, dict) and entry.get("auth")}
    return {name: entry for name, entry in held.items() if _is_for(name, registry)}


def without(registry: str) -> str:
    """What is said where there is none: the push may have a login that the file lacks, and pods then have none."""
    lacking = f"{FILE} has no login to {registry}" if os.environ.get(FILE) else f"{FILE} is not set"
    return f"{lacking}: pods pull the images without one."


def secret(found: Logins, namespace: str) -> dict[str, Any]:
    """The Secret that pods name."""
    text = json.dumps({"auths": found})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME, "namespace": namespace},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(text.encode()).decode()},
    }


def _is_for(name: str, registry: str) -> bool:
    """Whether a login of this name is one to this registry, or registry and path."""
    return any(f"{registry.rstrip('/')}/".startswith(f"{host}/") for host in _meant(name, registry))


def _meant(name: str, registry: str) -> list[str]:
    """What a stored name stands for. Docker writes some with a scheme and a path of its API, and its own registry as
    the index that came before it: index.HOST, with the first API's path, for HOST and for what names no host at all."""
    host = name.removeprefix("https://").removeprefix("http://").removesuffix("/v1/").removesuffix("/v2/").rstrip("/")
    if not (name.endswith("/v1/") and host.startswith("index.")):
        return [host]
    return [host, host.removeprefix("index."), *([] if names_host(registry) else [registry.rstrip("/")])]


def names_host(registry: str) -> bool:
    """Whether a reference's first part is a host, by the rule of all who read references."""
    first = registry.partition("/")[0]
    return "." in first or ":" in first or first == "localhost"
