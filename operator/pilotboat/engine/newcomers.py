"""Replicas that have become ready, until the gateways send requests to them: before that nobody is answered by them.

Owns: who is waited for, what gateways said of them, and when waiting ends without their word. Must not know: how
gateways are asked (gateway_watch.py), what is made of it.

Only a replica that becomes ready under our eyes is waited for: who is ready when we begin to look has been so for long.
Where no gateway answers us, none can be waited for; and no longer than LONGEST where one never hears of a replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace

from .kinds import Key

LONGEST = 30.0
"""Seconds. A gateway that is cut off from the API server hears of nobody, and still takes requests."""
AT_ONCE = 64
"""Names in one question."""
AT_FIRST = 2.0
"""Seconds within which the first answer about a newcomer is worth waiting for in silence."""


@dataclass(frozen=True)
class _Wait:
    """For one replica."""

    since: float
    heard: bool = False
    """Whether gateways have been asked about it."""


class Newcomers:
    """Of all parents."""

    def __init__(self, wake: Callable[[Iterable[Key]], None], clock: Callable[[], float]) -> None:
        self._wake = wake
        self._clock = clock
        self._known: dict[Key, frozenset[str]] = {}
        self.noticed = asyncio.Event()
        """Set whenever there is somebody new to ask about; cleared by who asks."""
        self._waits: dict[Key, dict[str, _Wait]] = {}
        """By parent and name."""
        self._warmed: dict[Key, dict[str, float]] = {}
        """By parent: of those who are no newcomers any more, what was told of their start."""
        self._mute: set[str] = set()
        """Namespaces in which the last question had no answer."""

    def of(self, key: Key, ready: Set[str]) -> frozenset[str]:
        """Those of a parent's ready pods that not every caller can reach yet; it is woken when that has changed."""
        if key not in self._known or key.namespace in self._mute:
            self._known[key] = frozenset(ready)
        known = self._known[key] = self._known[key] & ready
        before = self._waits.pop(key, {})
        if waits := {name: before.get(name) or _Wait(self._clock()) for name in ready - known}:
            self._waits[key] = waits
            if waits.keys() - before.keys():
                self.noticed.set()
        if told := {name: seconds for name, seconds in self._warmed.pop(key, {}).items() if name in ready}:
            self._warmed[key] = told
        return frozenset(waits)

    def unheard(self, key: Key) -> bool:
        """Whether there is one so new that no gateway was asked about it yet: the parent is woken when that was done,
        or its time is over after AT_FIRST."""
        now = self._clock()
        return any(not wait.heard and now - wait.since < AT_FIRST for wait in self._waits.get(key, {}).values())

    def warmed(self, key: Key) -> Mapping[str, float]:
        """Seconds that ready pods which were newcomers under our eyes had warmed up, where they say so."""
        return dict(self._warmed.get(key, {}))

    def forget(self, key: Key) -> None:
        """The parent is gone, or its requests go past the gateway."""
        self._known.pop(key, None)
        self._waits.pop(key, None)
        self._warmed.pop(key, None)

    def only(self, namespaces: Iterable[str]) -> None:
        """These have a gateway; how it was in others is forgotten."""
        self._mute.intersection_update(namespaces)

    def asked(self, namespace: str) -> list[str]:
        """Whom the gateways there are to be asked about."""
        names = [name for key, waits in self._waits.items() if key.namespace == namespace for name in waits]
        return sorted(names)[:AT_ONCE]

    def told(self, namespace: str, asked: Iterable[str], missing: Set[str] | None, warmed: Mapping[str, float]) -> None:
        """What came of it: to whom any gateway sends nothing yet, None where no gateway answered; and how long they
        had warmed up, in seconds."""
        (self._mute.add if missing is None else self._mute.discard)(namespace)
        named, now = set(asked), self._clock()
        seated = named - (missing or set())
        woken = set()
        for key, waits in self._waits.items():
            if key.namespace == namespace:
                over = {n for n, it in waits.items() if missing is None or n in seated or now - it.since >= LONGEST}
                self._known[key] |= over
                if said := {name: warmed[name] for name in over & warmed.keys()}:
                    self._warmed.setdefault(key, {}).update(said)
                first = {name for name in waits.keys() & named if not waits[name].heard}
                waits.update({name: replace(waits[name], heard=True) for name in first})
                woken |= {key} if over or first else set()
        self._wake(woken)
