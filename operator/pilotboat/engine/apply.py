"""Making live what a plan wants: server-side apply, deletion, the status; and nothing where nothing is to do.

Owns: when a write is needed, what protects it (uids, create-only), and what a refusal means. Must not know: why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pilotboat.api import labels
from pilotboat.plan import build
from pilotboat.plan.types import Manifest, Observed, Plan, Ref, Refusal, Rejection

from . import others, owners
from .compare import matches, same_status, stamped
from .errors import Conflict, Forbidden, Invalid, NameTaken, NotFound, ParentGone, Refused
from .gateways import KIND, owns
from .kinds import BY_PLURAL, POD, WATCHED, Key, Kind, kind_of
from .owners import controller
from .store import Store

log = logging.getLogger(__name__)
Raw = dict[str, Any]
Take = Callable[[Kind, Raw], None]
FRESH = 60.0
"""Seconds within which a parent must have been seen alive before its first child is made without asking."""

CREATE_ONLY = "1"
"""A resourceVersion no object has: with it, an apply creates, or answers 409 where the name exists."""

_OTHER_UID = "metadata.uid: Invalid value"
"""Part of the 422 that says the object under that name is another one by now."""

PROGRESS_FIELDS = ("trainerStatus", "progress")
"""Parts of a status that PROGRESS_MANAGER owns."""


class Writes(Protocol):
    """What of the Api is needed here."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Raw | None: ...
    async def apply(self, manifest: Manifest, manager: str, *, subresource: str | None = None) -> Raw: ...
    async def merge(self, kind: Kind, namespace: str, name: str, body: Raw) -> Raw: ...
    async def delete(self, ref: Ref, uid: str) -> None: ...


class Applier:
    """Carries plans out. What the API server answers is taken in at once, as if a watch had told: `take` does that."""

    def __init__(self, api: Writes, store: Store, take: Take, clock: Callable[[], float]) -> None:
        self._api = api
        self._others = others.Others(api, take)
        self._store = store
        self._take = take
        self._clock = clock

    async def carry_out(self, key: Key, plan: Plan, observed: Observed) -> dict[Ref, Rejection]:
        """Apply and delete; what was refused, in the API server's words. Other failures are raised."""
        await self._price(key.namespace, plan.costs)
        rejected = await self._ensured(key, plan.apply, observed)
        if rejected and plan.after:
            return rejected
        rejected |= await self._ensured(key, plan.after, observed)
        known = (*observed.children, *(raw for raw in observed.references.values() if raw))
        await self._delete(plan.delete, [raw for raw in known if _controls(observed.parent, raw)])
        if plan.free and not rejected:
            await self._others.let_go(observed.parent)
        return rejected

    async def take_back(self, key: Key, parent: Mapping[str, Any], orphans: Sequence[Mapping[str, Any]]) -> None:
        """Be the owner again of children that somebody took the ownerReference off.

        Raises ParentGone: whoever deletes a parent and leaves its children, for whom the garbage collector does the
        same, would find them owned by one that is gone, and collected. A refusal leaves them: then their names are
        taken, and that is told.
        """
        await self._check_alive(key, parent, within=0)
        ours = build.owner(parent)
        for raw in orphans:
            ref, meta = Ref.of(raw), raw["metadata"]
            kept = [owner for owner in meta.get("ownerReferences") or () if owner["uid"] != ours["uid"]]
            seen = {field: meta[field] for field in ("uid", "resourceVersion")}
            kind, body = kind_of(ref.api_version, ref.kind), {"metadata": seen | {"ownerReferences": [*kept, ours]}}
            try:
                answer = await self._api.merge(kind, ref.namespace, ref.name, body)
            except Refused as refusal:
                log.warning("%s could not be taken back: %s", _title(raw), refusal)
                continue
            if kind in WATCHED:
                self._take(kind, answer)

    async def _price(self, namespace: str, costs: Mapping[str, str | None]) -> None:
        """Give pods their deletion costs. A refusal costs a choice, and holds up nothing."""
        for name, cost in costs.items():
            body = {"metadata": {"annotations": {labels.DELETION_COST: cost}}}
            try:
                await self._api.merge(POD, namespace, name, body)
            except (NotFound, Conflict, Refused) as refusal:
                log.warning("pod %s/%s: its deletion cost could not be written: %s", namespace, name, refusal)

    async def _ensured(self, key: Key, manifests: Sequence[Manifest], observed: Observed) -> dict[Ref, Rejection]:
        rejected = {}
        for manifest in manifests:
            try:
                if others.belongs(manifest):
                    await self._others.write(manifest, observed)
                else:
                    await self._ensure(key, stamped(manifest), observed)
            except (NameTaken, Refused) as refusal:
                rejected[Ref.of(manifest)] = _rejection(refusal)
        return rejected

    async def write_status(self, parent: Mapping[str, Any], status: Raw) -> bool:
        """Write the status where it differs; True where it did. Raises ParentGone."""
        live = {k: v for k, v in (parent.get("status") or {}).items() if k not in PROGRESS_FIELDS}
        if same_status(status, live):
            return False
        try:
            answer = await self._told(parent, _identity(Ref.of(parent)) | {"status": status})
        except NotFound:
            raise ParentGone(f"{_title(parent)} is gone", parent) from None
        self._take(kind_of(parent["apiVersion"], parent["kind"]), answer)
        return True

    async def _told(self, parent: Mapping[str, Any], body: Manifest) -> Raw:
        """Apply a status to this very parent: what is applied to a status takes no uid, but a version.

        One that was made anew under the name would believe it, and a training that is called complete never begins.
        """
        ref = Ref.of(parent)
        kind = kind_of(ref.api_version, ref.kind)
        known = self._store.find(kind, ref.namespace, ref.name) or parent
        try:
            return await self._apply_status(parent, known, body)
        except Conflict:  # it was changed meanwhile, or it is another
            found = await self._api.get(kind, ref.namespace, ref.name)
            if found is None:
                raise ParentGone(f"{_title(parent)} is gone", parent) from None
            self._take(kind, found)
            return await self._apply_status(parent, found, body)

    async def _apply_status(self, parent: Mapping[str, Any], live: Mapping[str, Any], body: Manifest) -> Raw:
        if live["metadata"]["uid"] != parent["metadata"]["uid"]:
            raise ParentGone(f"{_title(parent)} was made anew", parent)
        marked = _with_meta(body, "resourceVersion", live["metadata"]["resourceVersion"])
        return await self._api.apply(marked, labels.STATUS_MANAGER, subresource="status")

    async def _ensure(self, key: Key, manifest: Manifest, observed: Observed) -> None:
        ref, parent = Ref.of(manifest), observed.parent
        kind = kind_of(ref.api_version, ref.kind)
        watched = kind in WATCHED
        live = self._store.find(kind, ref.namespace, ref.name) if watched else observed.references.get(ref)
        if live is None:
            await self._create(key, kind, manifest, parent)
        elif not _controls(parent, live):
            raise NameTaken(_holder(ref, live, parent))
        elif "deletionTimestamp" not in live["metadata"] and not matches(manifest, live):
            marked = _with_meta(manifest, "uid", live["metadata"]["uid"])
            version = live["metadata"]["resourceVersion"]
            await self._repair(kind, marked if watched else _with_meta(marked, "resourceVersion", version))

    async def _create(self, key: Key, kind: Kind, manifest: Manifest, parent: Mapping[str, Any]) -> None:
        await self._check_alive(key, parent)
        try:
            await self._apply(kind, _with_meta(manifest, "resourceVersion", CREATE_ONLY))
        except Conflict:
            ref = Ref.of(manifest)
            found = await self._api.get(kind, ref.namespace, ref.name)
            if found is None:
                raise
            lost = owners.owner_of(found) == key and owners.may_return(parent, found)
            if not (_controls(parent, found) or lost):
                raise NameTaken(_holder(ref, found, parent)) from None
            if kind not in WATCHED:  # not what the manifest was made for: the next pass sees it
                raise
            if matches(manifest, found):
                self._take(kind, found)
            else:
                await self._make_known(kind, ref, manifest, found)
                raise

    async def _make_known(self, kind: Kind, ref: Ref, manifest: Manifest, found: Raw) -> None:
        """Give a child its labels back, without which no watch sees it; the next pass plans for it as it is.

        What was planned without it is for a new one: a Job's limits would be reckoned anew, and what is over of them
        twice.
        """
        marks = {"uid": found["metadata"]["uid"], "labels": manifest["metadata"].get("labels") or {}}
        self._take(kind, await self._api.merge(kind, ref.namespace, ref.name, {"metadata": marks}))

    async def _repair(self, kind: Kind, manifest: Manifest) -> None:
        """Apply to an object of ours.

        An edit of a list item's key, such as a port's number, makes a second item beside ours which apply leaves to its
        owner; where the two cannot live together the API server refuses. Then the lists are set to ours alone, once.
        """
        try:
            await self._apply(kind, manifest)
        except Invalid as refusal:
            ref = Ref.of(manifest)
            try:
                await self._api.merge(kind, ref.namespace, ref.name, manifest)
            except Refused:
                raise refusal from None
            await self._apply(kind, manifest)

    async def _apply(self, kind: Kind, manifest: Manifest) -> None:
        try:
            answer = await self._api.apply(manifest, labels.FIELD_MANAGER)
        except Invalid as error:
            if _OTHER_UID in error.message:  # made anew by somebody while we knew only the old one
                raise Conflict(409, "Conflict", error.message) from None
            raise
        if kind in WATCHED:
            self._take(kind, answer)

    async def _check_alive(self, key: Key, parent: Mapping[str, Any], within: float = FRESH) -> None:
        """A child of a parent that is gone would only be garbage: ask, unless we have just heard of the parent."""
        witness = self._store.witness(key)
        if witness is None:
            raise ParentGone(f"the last owner of {key} is gone", None)
        if self._clock() - self._store.seen(witness) < within:
            return
        known = parent if witness == key else self._store.parent(witness)
        kind = BY_PLURAL[witness.plural]
        found = await self._api.get(kind, witness.namespace, witness.name)
        if known is None or found is None or found["metadata"]["uid"] != known["metadata"]["uid"]:
            raise ParentGone(f"{kind.kind} {witness.namespace}/{witness.name} is gone", known)
        self._take(kind, found)
        if "deletionTimestamp" in found["metadata"]:
            raise ParentGone(f"{kind.kind} {witness.namespace}/{witness.name} is about to go", None)

    async def _delete(self, refs: Sequence[Ref], children: Sequence[Mapping[str, Any]]) -> None:
        live = {Ref.of(child): child for child in children}
        for ref in refs:
            child = live.get(ref)
            if child and "deletionTimestamp" not in child["metadata"]:
                await self._api.delete(ref, child["metadata"]["uid"])


def _controls(parent: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    if parent["kind"] == KIND:
        return owns(live)
    owner = controller(live)
    return owner is not None and owner["uid"] == parent["metadata"]["uid"]


def _holder(ref: Ref, live: Mapping[str, Any], parent: Mapping[str, Any]) -> str:
    owner = controller(live)
    if owner and (owner["kind"], owner["name"]) == (parent["kind"], parent["metadata"]["name"]):
        return f"{ref.kind} {ref.name} is left of an earlier {owner['kind']} {owner['name']} and about to be collected"
    if owner:
        return f"{ref.kind} {ref.name} exists and belongs to {owner['kind']} {owner['name']}"
    marked = labels.APPLIED in (live["metadata"].get("annotations") or {})
    by = "is ours by its marks, but has lost its owner: delete it" if marked else "was made by somebody else"
    return f"{ref.kind} {ref.name} exists and {by}"


def _rejection(refusal: NameTaken | Refused) -> Rejection:
    match refusal:
        case NameTaken():
            return Rejection(Refusal.NAME_TAKEN, str(refusal))
        case Forbidden():
            return Rejection(Refusal.FORBIDDEN, refusal.message)
        case Invalid() | Refused():
            return Rejection(Refusal.INVALID, refusal.message)


def _title(parent: Mapping[str, Any]) -> str:
    ref = Ref.of(parent)
    return f"{ref.kind} {ref.namespace}/{ref.name}"


def _identity(ref: Ref) -> Manifest:
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace},
    }


def _with_meta(manifest: Manifest, field: str, value: str) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], field: value}}
