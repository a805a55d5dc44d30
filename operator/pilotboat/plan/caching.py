"""The volume in which models outlive the pods that fetched them.

Owns: what `model.cache` comes to, in a pod and in fetch.json. Must not know: how files are kept in it (images/fetch),
how they get to nodes before a replica does (seeds.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..api.base import byte_count
from ..api.cache import Cache, CacheType
from ..api.runtime import CACHE_DIR, FetchCache
from . import build
from .types import Ref

VOLUME = "cache"


@dataclass(frozen=True)
class Kept:
    """Where what comes over a network outlives a pod."""

    volume: dict[str, Any]
    place: FetchCache


def kept(cache: Cache) -> Kept | None:
    """The volume and what fetch is told of it; None where nothing is to outlive a pod."""
    if cache.type is CacheType.EPHEMERAL:
        return None
    size = byte_count(cache.size) if cache.size is not None else None
    return Kept(_volume(cache), FetchCache(path=str(CACHE_DIR), size=size, keep_free=cache.kept_free))


def references(namespace: str, cache: Cache) -> tuple[Ref, ...]:
    """The claim that it names."""
    return (build.claim(namespace, cache.claim_name),) if cache.claim_name else ()


def _volume(cache: Cache) -> dict[str, Any]:
    if cache.claim_name:
        return {"name": VOLUME, "persistentVolumeClaim": {"claimName": cache.claim_name}}
    # A folder that is missing is made, by root: fetch says that it cannot write it, where kubelet would only wait.
    return {"name": VOLUME, "hostPath": {"path": cache.path, "type": "DirectoryOrCreate"}}
