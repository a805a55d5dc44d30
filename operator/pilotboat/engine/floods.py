"""Outcomes that applications posted and the gateways refused, because too many came at once.

Owns: how many each parent's were in the last minute, and waking it when that begins. Must not know: how gateways are
asked (gateway_watch.py), what is made of it (plan/flood.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping

from .kinds import MODEL_DEPLOYMENT, Key


class Floods:
    """Of all parents."""

    def __init__(self, wake: Callable[[Iterable[Key]], None]) -> None:
        self._wake = wake
        self._refused: dict[str, Counter[str]] = {}
        """By namespace and parent's name."""

    def of(self, key: Key) -> int:
        """Posts refused in the last minute, over all gateways."""
        return self._refused[key.namespace][key.name] if key.namespace in self._refused else 0

    def told(self, namespace: str, answers: Iterable[Mapping[str, int]]) -> None:
        """What each gateway that answered says. While it lasts nobody is woken again: the plan looks for itself."""
        before, found = self._refused.pop(namespace, Counter()), Counter[str]()
        for answer in answers:
            found.update(answer)
        if found:
            self._refused[namespace] = found
        self._wake({Key(MODEL_DEPLOYMENT.plural, namespace, name) for name in found.keys() - before.keys()})

    def only(self, namespaces: Container[str]) -> None:
        """These have a gateway; what was told of others is forgotten."""
        for name in [name for name in self._refused if name not in namespaces]:
            del self._refused[name]
