"""Notices that a node is silent long before the cluster says so, where gateways give a reason to ask.

Owns: looking at the Leases that kubelets renew, and when a node counts as silent. Must not know: pods, gateways, what
is done about a silent node.

Kubernetes waits for four or five renewals before it calls a node unheard of (50 s). One that does not come is enough
here: there is a replica on that node which no gateway reaches either, and all that follows is one replica more. The
silence is counted by our own clock between looks that were answered: so neither the clocks of nodes matter, nor a
control plane that is itself away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from pilotboat.plan.build import dig, parsed

from .errors import EngineError, Forbidden
from .kinds import LEASE, Key, Kind
from .leader import Predecessor
from .store import Store

log = logging.getLogger(__name__)
Raw = dict[str, Any]

NAMESPACE = "kube-node-lease"
EVERY = 2.0
SHARE = 0.3
"""Of the duration in the Lease (40 s) a node may be silent: kubelets renew after a quarter of it, and 4 % at most."""
DURATION = 40
MOST = 64
"""Nodes looked at: where more are in doubt it is rather the network, and Kubernetes' own word is waited for. Those that
are silent already are looked at all the same, until they are heard of."""


class Leases(Protocol):
    """What of the Api is needed here."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Raw | None: ...


@dataclass(frozen=True)
class Sign:
    """A node's last sign of life."""

    renewed: str
    seen: float
    """When we first saw it, by our own clock."""


class NodeWatch:
    """Looks at the Leases of nodes in doubt, and of silent ones until they are heard of."""

    def __init__(
        self,
        api: Leases,
        store: Store,
        wake: Callable[[Iterable[Key]], None],
        clock: Callable[[], float],
        *,
        every: float = EVERY,
    ) -> None:
        self._api = api
        self._store = store
        self._wake = wake
        self._clock = clock
        self._every = every
        self._doubted: set[str] = set()
        self._signs: dict[str, Sign] = {}
        self._failed = False

    def doubt(self, nodes: set[str]) -> None:
        """From now on look at these, and no more at others."""
        self._doubted = nodes

    def take_over(self, nodes: Iterable[str]) -> None:
        """Whom a leader before us called lost is silent until we hear of it.

        Kubernetes may still trust such a node: it would be well for half a minute, and then lost a second time."""
        names = sorted(set(nodes))
        for name in names if len(names) <= MOST else ():
            self._tell(name, "called lost by the operator that led before, and not heard of since")

    async def ask_after(self, before: Predecessor | None) -> None:
        """Whether who led before us fell silent with the whole of his node: there may be replicas on it.

        He and his kubelet wrote by one clock. A kubelet that has written nothing since his last word has been silent
        for as long as he; to count that from now on would find the node a third of a minute later."""
        if before is None or not before.node:
            return
        try:
            lease = await self._api.get(LEASE, NAMESPACE, before.node)
        except EngineError as failure:
            self._blind(failure)
            return
        renewed, last = parsed(dig(lease, "spec", "renewTime")), parsed(before.renewed)
        if renewed and last and renewed <= last and before.silence >= _patience(lease):
            self._tell(before.node, "no sign of its kubelet since the operator that led from there fell silent")

    async def run(self) -> None:
        """Round after round, for ever."""
        while True:
            await asyncio.sleep(self._every)
            silent = self._store.silent.keys()
            names = silent | self._doubted if len(silent | self._doubted) <= MOST else set(silent)
            self._signs = {name: sign for name, sign in self._signs.items() if name in names}
            await asyncio.gather(*map(self._look, sorted(names)))

    async def _look(self, name: str) -> None:
        try:
            lease = await self._api.get(LEASE, NAMESPACE, name)
        except EngineError as failure:
            self._blind(failure)
            self._signs.pop(name, None)
            if isinstance(failure, Forbidden):  # it will never be heard of
                self._tell(name, None)
            return
        renewed, now, last = dig(lease, "spec", "renewTime"), self._clock(), self._signs.get(name)
        if not renewed:
            self._tell(name, None)
        elif last is None or last.renewed != renewed:
            self._signs[name] = Sign(renewed, now)
            if last is not None:
                self._tell(name, None)
        elif now - last.seen >= _patience(lease):
            self._tell(name, f"no sign of its kubelet for {now - last.seen:.0f} s, and a replica there is not reached")

    def _tell(self, name: str, silence: str | None) -> None:
        """Only what is new."""
        if (silence is not None) == (name in self._store.silent):
            return
        log.warning("node %s: %s", name, silence or "heard of again")
        self._wake(self._store.silence(name, silence))

    def _blind(self, failure: EngineError) -> None:
        """Told once: without this right, and while the API server is away, nodes are lost when Kubernetes says so."""
        log.log(logging.DEBUG if self._failed else logging.WARNING, "nodes' Leases cannot be read: %s", failure)
        self._failed = True


def _patience(lease: Raw | None) -> float:
    """Seconds that a node may be silent."""
    return float(SHARE * (dig(lease, "spec", "leaseDurationSeconds") or DURATION))
