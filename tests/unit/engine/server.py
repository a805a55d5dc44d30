"""An API server in memory: enough of its promises for the engine's timing to be tested in virtual time.

What it cannot show (merging, defaults, validation) is tested on a real one, in tests/integration.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from pilotboat.engine.errors import Conflict, NotFound
from pilotboat.engine.kinds import Kind, kind_of
from pilotboat.plan.types import Ref

Raw = dict[str, Any]


async def _no_trouble(verb: str, ref: Ref) -> None:
    return None


class Server:
    """Objects by Ref, and a log of what was written."""

    def __init__(self) -> None:
        self.objects: dict[Ref, Raw] = {}
        self.writes: list[tuple[str, Ref]] = []
        self.trouble: Callable[[str, Ref], Awaitable[None]] = _no_trouble
        self._versions = itertools.count(1000)

    def put(self, raw: Raw) -> Raw:
        """As a user."""
        self.objects[Ref.of(raw)] = raw
        return raw

    def edit(self, ref: Ref, part: str, **fields: Any) -> Raw:
        """As a user, or another of our own processes: these fields of a part are changed, in a newer version."""
        raw = copy.deepcopy(self.objects[ref])
        raw.setdefault(part, {}).update(fields)
        raw["metadata"]["resourceVersion"] = str(next(self._versions))
        return self.put(raw)

    async def get(self, kind: Kind, namespace: str, name: str) -> Raw | None:
        ref = Ref(kind.api_version, kind.kind, namespace, name)
        await self.trouble("get", ref)
        return copy.deepcopy(self.objects.get(ref))

    async def find(self, kind: Kind, namespace: str, name: str) -> Raw:
        found = await self.get(kind, namespace, name)
        if found is None:
            raise NotFound(404, "NotFound", name)
        return found

    async def pages(self, kind: Kind, namespace: str | None, selector: str | None = None) -> AsyncIterator[list[Raw]]:
        await self.trouble("list", Ref(kind.api_version, kind.kind, namespace or "", ""))
        yield [copy.deepcopy(raw) for ref, raw in self.objects.items() if kind_of(ref.api_version, ref.kind) == kind]

    async def apply(self, manifest: Raw, manager: str, *, subresource: str | None = None) -> Raw:
        ref = Ref.of(manifest)
        await self.trouble("apply_status" if subresource else "apply", ref)
        live = self.objects.get(ref)
        if subresource and live is None:
            raise NotFound(404, "NotFound", "gone")
        known = manifest["metadata"].get("resourceVersion")
        if live is not None and known and known != live["metadata"].get("resourceVersion"):
            raise Conflict(409, "Conflict", "exists, in another version")
        kept = {**copy.deepcopy(live or {}), **copy.deepcopy(manifest)}
        kept["metadata"] = (live or {}).get("metadata", {}) | manifest["metadata"]
        kept["metadata"] |= {
            "uid": kept["metadata"].get("uid") or f"uid-{next(self._versions)}",
            "resourceVersion": str(next(self._versions)),
        }
        self.objects[ref] = kept
        self.writes.append(("apply_status" if subresource else "apply", ref))
        return copy.deepcopy(kept)

    async def merge(self, kind: Kind, namespace: str, name: str, body: Raw) -> Raw:
        ref = Ref(kind.api_version, kind.kind, namespace, name)
        await self.trouble("patch", ref)
        self.writes.append(("patch", ref))
        return body

    async def create(self, kind: Kind, namespace: str | None, body: Raw) -> Raw:
        ref = Ref.of(body)
        await self.trouble("create", ref)
        self.writes.append(("create", ref))
        return body

    async def delete(self, ref: Ref, uid: str) -> None:
        await self.trouble("delete", ref)
        self.writes.append(("delete", ref))
        del self.objects[ref]
