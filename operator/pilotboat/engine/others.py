"""Objects of others in which something of ours is put: a part of them is written, and the parent held until it is out.

Owns: what protects such a write, and the finalizer. Must not know: what is put there, and why.

A merge, not an apply: of what is not sent nothing changes, no field becomes ours that was not, and no mark is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pilotboat.api import labels
from pilotboat.plan.types import Manifest, Observed, Ref

from . import finalizer
from .kinds import Kind, kind_of

Raw = dict[str, Any]


class Writes(finalizer.Applies, Protocol):
    """What of the Api is needed here."""

    async def merge(self, kind: Kind, namespace: str, name: str, body: Raw) -> Raw: ...


class Others:
    """Writes into them. Raises ApiError."""

    def __init__(self, api: Writes, take: Callable[[Kind, Raw], None]) -> None:
        self._api = api
        self._take = take

    async def write(self, manifest: Manifest, observed: Observed) -> None:
        """That part of the spec, over the very version that was observed; nothing where the object is not there."""
        ref = Ref.of(manifest)
        live = observed.references.get(ref)
        if live is None or "deletionTimestamp" in live["metadata"]:
            return
        if {**live["spec"], **manifest["spec"]} == live["spec"]:
            return
        if "deletionTimestamp" not in observed.parent["metadata"]:  # no finalizer can be added any more
            await self._hold(observed.parent, True)
        seen = {field: live["metadata"][field] for field in ("uid", "resourceVersion")}
        kind = kind_of(ref.api_version, ref.kind)
        await self._api.merge(kind, ref.namespace, ref.name, {"metadata": seen, "spec": manifest["spec"]})

    async def let_go(self, parent: Mapping[str, Any]) -> None:
        """Nothing of the parent is in any of them."""
        await self._hold(parent, False)

    async def _hold(self, parent: Mapping[str, Any], wanted: bool) -> None:
        answer = await finalizer.keep(self._api, parent, labels.ROUTE_FINALIZER, labels.ROUTE_MANAGER, wanted)
        if answer and "deletionTimestamp" not in answer["metadata"]:  # else it is gone, and a watch tells
            self._take(kind_of(parent["apiVersion"], parent["kind"]), answer)


def belongs(manifest: Manifest) -> bool:
    """Whether a manifest is a part of an object of others: it names no owner."""
    return "ownerReferences" not in manifest["metadata"]
