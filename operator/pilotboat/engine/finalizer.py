"""A finalizer of ours on a custom resource: whoever sets one owns it alone.

Owns: how it is set and taken away. Must not know: what it holds the object for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pilotboat.plan.types import Manifest

Raw = dict[str, Any]


class Applies(Protocol):
    """What of the Api is needed here."""

    async def apply(self, manifest: Manifest, manager: str, *, subresource: str | None = None) -> Raw: ...


async def keep(api: Applies, parent: Mapping[str, Any], finalizer: str, manager: str, wanted: bool) -> Raw | None:
    """Set, or taken away; the object as it is then, or None where nothing was to do, so that nothing was asked."""
    meta = parent["metadata"]
    if (finalizer in (meta.get("finalizers") or ())) is wanted:
        return None
    body = {"apiVersion": parent["apiVersion"], "kind": parent["kind"]}
    named = {field: meta[field] for field in ("name", "namespace", "uid")}
    return await api.apply(body | {"metadata": named | {"finalizers": [finalizer] if wanted else []}}, manager)
