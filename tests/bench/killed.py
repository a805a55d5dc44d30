"""An operator killed at each of its writes, before and after it hears what became of it, on a real API server.

Owns: the runs, and what differs between them. Must not know: how an operator is killed (tests/integration).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from pilotboat.engine.api import load_configuration
from tests.integration.cluster import namespace_of
from tests.integration.faults import changes, killed_after
from tests.integration.proxy import Proxy
from tests.integration.running import operator
from tests.integration.test_faults import WRITES, End, shape
from tests.integration.test_reconcile import model_deployment
from tools.steps import step


@dataclass(frozen=True)
class Told:
    """All runs in which the operator was killed, beside one in which it was not."""

    runs: int
    apart: int
    """Runs that ended in another state."""
    changes: int
    """Creations and deletions, of all runs together."""
    undisturbed: int
    """As many as that would be without a kill."""


async def told(kubeconfig: Path) -> Told:
    """Ten creations with a kill, and one without."""
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # the proxy's word on every caller that was killed
    clean = await _created(kubeconfig, "undisturbed")
    found = []
    for last in range(1, WRITES + 1):
        for answered in (True, False):
            name = f"killed-at-{last}-{'answered' if answered else 'unanswered'}"
            with step(f"The operator is {name.replace('-', ' ')}"):
                found.append(await _created(kubeconfig, name, (last, answered)))
    apart = sum(end != clean[0] for end, _ in found)
    return Told(len(found), apart, sum(len(made) for _, made in found), len(found) * len(clean[1]))


async def _created(kubeconfig: Path, name: str, kill: tuple[int, bool] | None = None) -> End:
    configuration = await load_configuration(str(kubeconfig))
    async with namespace_of(configuration, name) as cluster, Proxy(configuration) as proxy:
        await cluster.apply(model_deployment())
        if kill:
            await killed_after(proxy, cluster.namespace, kill[0], answered=kill[1])
        async with operator(proxy.configuration, cluster.namespace) as running:
            return await shape(cluster, running), changes(proxy)
