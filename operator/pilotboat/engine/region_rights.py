"""What a region needs of the API server before it may act: the key, and the finalizer.

Owns: reading the one, setting the other, and what a refusal of either is called. Must not know: when they are needed.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import dns.tsig

from pilotboat.api import labels
from pilotboat.api.dns import Rfc2136
from pilotboat.plan.types import Manifest

from . import finalizer
from .errors import ApiError, DnsNotPermitted, DnsRefused, Forbidden, NotFound
from .kinds import SECRET, Kind
from .nameserver import tsig

Raw = dict[str, Any]
KEY_AGE = 30.0
"""Seconds that a key is taken from memory."""


class Cluster(Protocol):
    """What of the Api is needed here."""

    async def find(self, kind: Kind, namespace: str, name: str) -> Raw: ...
    async def apply(self, manifest: Manifest, manager: str, *, subresource: str | None = None) -> Raw: ...


@dataclass(frozen=True)
class KnownKey:
    """A key, and since when it is known."""

    read: float
    where: Rfc2136
    key: dns.tsig.Key = field(repr=False)


class Rights:
    """Asks the API server. Raises DnsFailure for what a user can mend, ApiError for the rest."""

    def __init__(self, api: Cluster) -> None:
        self._api = api

    async def finalizer(self, parent: Mapping[str, Any], where: Rfc2136 | None) -> None:
        """Ours alone: set for records there, or taken away. Without the key none come to be: nothing is held."""
        if where and labels.DNS_FINALIZER not in (parent["metadata"].get("finalizers") or ()):
            await self.key(parent, where, None, fresh=True)
        try:
            await finalizer.keep(self._api, parent, labels.DNS_FINALIZER, labels.DNS_MANAGER, where is not None)
        except Forbidden as failure:
            raise DnsNotPermitted(f"finalizer {labels.DNS_FINALIZER} cannot be set: {failure.message}") from None

    async def key(self, parent: Mapping[str, Any], where: Rfc2136, known: KnownKey | None, *, fresh: bool) -> KnownKey:
        """The key in the Secret named; where it cannot be had, the one of before: the Secret may be going too."""
        ref, now = where.tsig.secret_ref, time.monotonic()
        known = known if known and known.where == where else None
        if known and not fresh and now - known.read < KEY_AGE:
            return known
        try:
            secret = await self._api.find(SECRET, parent["metadata"]["namespace"], ref.name)
        except ApiError as failure:
            if known:
                return known
            raise _no_secret(ref.name, failure) from None
        held = (secret.get("data") or {}).get(ref.key)
        if held is None:
            raise DnsRefused(f"Secret {ref.name} has no key {ref.key}, where the TSIG key is to be")
        return KnownKey(now, where, tsig(where, base64.b64decode(held)))


def _no_secret(name: str, failure: ApiError) -> Exception:
    if isinstance(failure, NotFound):
        return DnsRefused(f"Secret {name}, which is to hold the TSIG key, does not exist")
    if isinstance(failure, Forbidden):
        return DnsNotPermitted(f"Secret {name} with the TSIG key cannot be read: {failure.message}")
    return failure
