"""Which port of the namespace's gateway a ModelDeployment has.

Owns: the choice, the same for every operator that sees the same Services. Must not know: how it is found who has what.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ..api.routing import PORTS


def choose(namespace: str, name: str, settled: int | None, held: Mapping[int, str]) -> int | None:
    """The port that is settled already, else the first one free from the name's hash on; None where all are taken.

    `held` says who has a port; of two that claim one, the older has it, and the younger moves on.
    """
    if settled is not None and settled in PORTS and held.get(settled, name) == name:
        return settled
    first = preferred(namespace, name) - PORTS.start
    turns = (PORTS[(first + step) % len(PORTS)] for step in range(len(PORTS)))
    return next((port for port in turns if held.get(port, name) == name), None)


def preferred(namespace: str, name: str) -> int:
    """The port that the name's hash comes to."""
    digest = hashlib.sha256(f"{namespace}/{name}".encode()).digest()
    return PORTS[int.from_bytes(digest[:8], "big") % len(PORTS)]
