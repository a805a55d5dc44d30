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
    """Docker writes some names with a scheme and a path of its API."""
    plain = name.removeprefix("https://").removeprefix("http://").removesuffix("/v1/").removesuffix("/v2/").rstrip("/")
    return registry.rstrip("/") == plain or registry.startswith(f"{plain}/")
