"""Whose an object is: its controller's; where it has none, and we made it, whose its labels name.

Owns: that judgement. Must not know: what is done about it; it does no I/O.

An ownerReference that somebody took off by hand would be missed only when the parent goes: the child would outlive it,
and a pod of it keep its GPU. So such a child is known again, but by more than a label, which anybody may write: by our
field manager, whose applies the API server notes on the object itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pilotboat.api import labels

from .kinds import FINE_TUNE_JOB, MODEL_DEPLOYMENT, PARENTS, POD, Key, Kind

Raw = Mapping[str, Any]
_PARENT_OF_GVK = {(kind.api_version, kind.kind): kind for kind in PARENTS}
_PARENT_OF_COMPONENT = {
    "server": MODEL_DEPLOYMENT.plural,
    "probe": MODEL_DEPLOYMENT.plural,
    "seed": MODEL_DEPLOYMENT.plural,
    "dns": MODEL_DEPLOYMENT.plural,
    "trainer": FINE_TUNE_JOB.plural,
}


def controller(raw: Raw) -> Raw | None:
    """The controller ownerReference, or None."""
    owners: Iterable[Raw] = raw["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def owner_of(raw: Raw) -> str | Key | None:
    """The uid of its controller; without one, of what we made, whom its labels name."""
    owner = controller(raw)
    if owner:
        return str(owner["uid"])
    return _named(raw) if _made(raw) else None


def parent_of(kind: Kind, raw: Raw) -> Key | None:
    """Whom a change of the object wakes: a parent wakes itself.

    A pod's is told by labels: a Deployment's pod is owned by a ReplicaSet, which we do not watch.
    """
    if kind in PARENTS:
        return Key(kind.plural, raw["metadata"]["namespace"], raw["metadata"]["name"])
    if kind == POD:
        return _named(raw)
    owner = controller(raw)
    if owner is None:
        return _named(raw) if _made(raw) else None
    parent = _PARENT_OF_GVK.get((owner["apiVersion"], owner["kind"]))
    return Key(parent.plural, raw["metadata"]["namespace"], owner["name"]) if parent else None


def may_return(parent: Raw, raw: Raw) -> bool:
    """Whether a child without a controller may have it back: not when it goes, nor when it is older than the parent.

    Then an earlier parent of the name left it (`kubectl delete --cascade=orphan`), and what it says is not of this one:
    a Job that is complete, for one.
    """
    if "deletionTimestamp" in raw["metadata"] or "deletionTimestamp" in parent["metadata"]:
        return False
    return _age(raw) >= _age(parent)


def _age(raw: Raw) -> str:
    return str(raw["metadata"].get("creationTimestamp") or "")


def _named(raw: Raw) -> Key | None:
    marks = raw["metadata"].get("labels") or {}
    component, instance = marks.get(labels.COMPONENT, ""), marks.get(labels.INSTANCE)
    plural = _PARENT_OF_COMPONENT.get(component)
    if component == "gateway":  # of a namespace's gateway, or of the route of one of its users
        plural = labels.GATEWAYS if instance == labels.GATEWAY else MODEL_DEPLOYMENT.plural
    return Key(plural, raw["metadata"]["namespace"], instance) if plural and instance else None


def _made(raw: Raw) -> bool:
    fields: Iterable[Raw] = raw["metadata"].get("managedFields") or ()
    return any((each.get("manager"), each.get("operation")) == (labels.FIELD_MANAGER, "Apply") for each in fields)
