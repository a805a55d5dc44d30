"""Whether a live object already is what we would apply.

Owns: the comparison, with what the API server does to an object: defaults, quantities, merge keys. Must not know: I/O.

Two halves: the hash of the manifest last applied tells that we stopped sending a field, the comparison of every field
we send tells that somebody changed one. Either alone would miss what the other sees.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pilotboat.api import labels
from pilotboat.plan.types import Manifest

MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "ports": ("port", "containerPort", "protocol"),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "conditions": ("type",),
}
"""Lists that server-side apply merges by key, so that others may add items. All other lists are ours whole."""

ATOMIC_MAPS = frozenset({"selector", "matchLabels", "nodeSelector"})
"""Maps that have one owner as a whole: a key that somebody adds changes what a Service or a budget selects."""

DEFAULTS = {"protocol": "TCP"}
QUANTITY_MAPS = frozenset({"requests", "limits", "hard"})
QUANTITIES = frozenset({"sizeLimit", "divisor"})
_QUANTITY = re.compile(r"(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)(?P<suffix>[a-zA-Z]*)", re.ASCII)
_SUFFIXES = {
    **dict(zip(("n", "u", "m", "", "k"), map(Decimal, ("1e-9", "1e-6", "1e-3", "1", "1e3")), strict=True)),
    **{letter: Decimal(1000**power) for power, letter in enumerate("MGTPE", 2)},
    **{f"{letter}i": Decimal(1024**power) for power, letter in enumerate("KMGTPE", 1)},
}


def digest(manifest: Manifest) -> str:
    """Hash of a manifest as it would be sent."""
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def stamped(manifest: Manifest) -> Manifest:
    """The manifest with its own hash as an annotation: `matches` then sees that a field is no longer sent."""
    meta = manifest["metadata"]
    annotations = {**(meta.get("annotations") or {}), labels.APPLIED: digest(manifest)}
    return {**manifest, "metadata": {**meta, "annotations": annotations}}


def matches(desired: Any, live: Any, field: str = "", parent: str = "") -> bool:
    """Every value in desired is so in live; what desired does not mention is not ours."""
    if isinstance(desired, Mapping):
        if not isinstance(live, Mapping):
            return live is None and not desired
        if field in ATOMIC_MAPS and set(live) - set(desired):
            return False
        return all(matches(value, live.get(key), key, field) for key, value in desired.items())
    if isinstance(desired, list | tuple):
        return _lists_match(desired, live, field)
    if not desired and live is None:  # false, 0, "" and null are left out of what the API server returns
        return True
    if field in QUANTITIES or parent in QUANTITY_MAPS:
        return _same_quantity(desired, live)
    return bool(desired == live and isinstance(desired, bool) == isinstance(live, bool))


def same_status(desired: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """The live status is the desired one and nothing more."""
    return bool(_canonical(desired) == _canonical(live))


def only_status(before: Mapping[str, Any] | None, after: Mapping[str, Any], but: Collection[str]) -> bool:
    """Whether a custom resource has nothing new but its status; and there not in these fields."""
    return before is not None and _without_status(before, but) == _without_status(after, but)


def _without_status(raw: Mapping[str, Any], but: Collection[str]) -> Any:
    meta = {key: value for key, value in raw["metadata"].items() if key not in ("resourceVersion", "managedFields")}
    status = {key: value for key, value in (raw.get("status") or {}).items() if key in but}
    return _canonical({**raw, "metadata": meta, "status": status})


def _lists_match(desired: Sequence[Any], live: Any, field: str) -> bool:
    if not isinstance(live, list | tuple):
        return live is None and not desired
    keys = MERGE_KEYS.get(field)
    if keys and all(isinstance(item, Mapping) for item in (*desired, *live)):
        by_key = {_merge_key(item, keys): item for item in live}
        return all(matches(item, by_key.get(_merge_key(item, keys))) for item in desired)
    return len(desired) == len(live) and all(matches(ours, theirs) for ours, theirs in zip(desired, live, strict=True))


def _merge_key(item: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(item.get(key) or DEFAULTS.get(key) for key in keys)


def _same_quantity(desired: Any, live: Any) -> bool:
    try:
        return quantity(desired) == quantity(live)
    except ValueError:
        return bool(desired == live)


def quantity(value: Any) -> Decimal:
    """A Kubernetes quantity as a number. Raises ValueError for what is none."""
    match = _QUANTITY.fullmatch(str(value))
    if not match or match["suffix"] not in _SUFFIXES:
        raise ValueError(f"{value!r} is no quantity")
    return Decimal(match["number"]) * _SUFFIXES[match["suffix"]]


def _canonical(value: Any) -> Any:
    """Without nulls and order of conditions, which the API server need not keep."""
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        items = [_canonical(item) for item in value]
        if items and all(isinstance(item, dict) and "type" in item and "status" in item for item in items):
            return {item["type"]: item for item in items}
        return items
    return value
