"""Two labs side by side as the regions of one host name, and outside of both a name server that they write to.

Owns: bringing all that up, joined, with an operator and a hub in each lab, and the same deployment in both, reached at
node ports. Must not know: what befalls them, nor what is expected then.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from lab import cluster as labs
from lab import faults, procs
from lab.kube import Client
from lab.layout import Lab, beside, current
from lab.outside import ADDRESS, Outside
from pilotboat.plan.dns_records import Reading
from tests.e2e.conftest import MDEP, Space, fake
from tests.e2e.outsider import PATIENCE, Addresses, Outsider
from tests.integration.nameserver import ZONE, Primary
from tests.standins import tiny
from tools import demo, hubpod, place
from tools.host import need
from tools.kube import Cluster
from tools.steps import step

NAME, PORT, TTL = "chat", 30080, 5
Raw = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Region:
    """A lab, and how it is reached."""

    name: str
    lab: Lab
    cluster: Cluster

    @property
    def targets(self) -> Addresses:
        """Its nodes, each of which takes callers in at the node port."""
        return tuple(node.address for node in self.lab.nodes)


@dataclass(frozen=True)
class TwoLabs:
    """East is preferred."""

    east: Region
    west: Region
    outside: Outside
    server: Primary
    pool: ThreadPoolExecutor
    """A thread outside of the labs, where the name server is."""

    @property
    def regions(self) -> tuple[Region, Region]:
        return self.east, self.west

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Something of the name server's, done outside."""
        return self.pool.submit(asyncio.run, work).result()


@contextmanager
def side_by_side(folder: Path) -> Iterator[TwoLabs]:
    """Ends what it began: the second lab, the name server, the world between them, and the first's right to secrets."""
    need("knotd", "knot")
    first = current()
    second, outside = beside(first, f"{first.name}-west"), Outside(first.name)
    with ExitStack() as stack:
        if labs.is_outdated(second):  # left by a run that was killed: its name is ours, and nobody else's
            labs.down(second)
        east = stack.enter_context(_region("east", first, folder, stays=first.kubeconfig.exists()))
        west = stack.enter_context(_region("west", second, folder, stays=False))
        outside.create()
        stack.callback(outside.remove)
        for lab in (first, second):
            outside.join(lab)
        pool = stack.enter_context(ThreadPoolExecutor(1, initializer=outside.enter))
        server = pool.submit(Primary, folder, ADDRESS).result()
        stack.callback(server.stop)
        found = TwoLabs(east, west, outside, server, pool)
        found.run(server.start())
        yield found


@contextmanager
def _region(name: str, lab: Lab, folder: Path, *, stays: bool) -> Iterator[Region]:
    """One that stays does so without what was given to it."""
    cluster, refs = place.the_lab(demo.DEMO, lab)
    try:
        demo.install(cluster, refs, "--set=dns.enabled=true")
        files = folder / f"hub-{name}"
        files.mkdir()
        with step(f"A hub in the lab {lab.name}") as shown:
            hubpod.start(cluster, refs["fetch"], {"demo/tiny": [tiny.make(files)]}, shown)
        yield Region(name, lab, cluster)
    finally:
        if stays or os.environ.get("KEEP_LAB"):
            whole(lab)
            demo.install(cluster, refs)
        else:
            labs.down(lab)


def whole(lab: Lab) -> None:
    """Whatever befell it is undone; ends when every node is Ready."""
    faults.undo(lab)
    client = Client.load(lab.kubeconfig)
    procs.wait_until(lambda: labs.settled(client, lab, labs.GPUS), what=f"{lab.name}, whole again", timeout=PATIENCE)


@dataclass(frozen=True)
class Served:
    """One host name, which both regions serve."""

    of: TwoLabs
    hostname: str
    spaces: dict[str, Space]

    def outsider(self) -> Outsider:
        """Who calls it."""
        return Outsider(self.of.outside, self.of.server.host, self.of.server.port, self.hostname, PORT, NAME)

    def targets(self) -> dict[str, Addresses]:
        """By region."""
        return {region.name: region.targets for region in self.of.regions}

    def apply(self, *regions: str, **failback: str) -> None:
        """The same deployment in these."""
        where = self.of.server.where().wire()
        for number, region in enumerate(self.of.regions):
            if region.name not in regions:
                continue
            dns = {"hostname": self.hostname, "region": region.name, "priority": number, "ttl": TTL}
            dns |= {"targets": list(region.targets), "failback": failback, "rfc2136": where}
            self.spaces[region.name].apply("ModelDeployment", NAME, fake(replicas=2, zones={"dns": dns}))

    def look(self) -> Reading:
        """What is written of it, beats and all."""
        return self.of.run(self.of.server.client(self.hostname).look())

    def until(self, holds: Callable[[Reading], bool], what: str) -> Reading:
        """Until that is written."""
        found = [self.look()]

        def now() -> bool:
            found[0] = self.look()
            return holds(found[0])

        procs.wait_until(now, what=f"{what} (last seen: {found[0]})", timeout=PATIENCE, interval=0.5)
        return found[0]

    def beaten(self, region: str, times: int = 3) -> Reading:
        """Until a region has told so often, from now on, that it serves."""
        began = self.look().known.get(region)
        least = times + (began.count if began else 0)
        return self.until(
            lambda seen: region in seen.known and seen.known[region].count >= least and seen.known[region].healthy,
            what=f"{times} beats of {region}",
        )

    def told(self, region: str) -> Raw:
        """`status.dns` there."""
        found: Raw = self.spaces[region].status(MDEP, NAME).get("dns", {})
        return found

    def agreed(self, answer: str, moves: int, *regions: str) -> Raw:
        """Until the status of these says so, and the same addresses; the last one's."""
        wanted = (answer, moves, list(self.targets()[answer]))

        def same() -> bool:
            found = [self.told(region) for region in regions]
            return all((dns.get("answer"), dns.get("moves"), dns.get("targets")) == wanted for dns in found)

        procs.wait_until(same, what=f"{answer} in the status of {', '.join(regions)}", timeout=PATIENCE, interval=1)
        return self.told(regions[-1])


@contextmanager
def served(of: TwoLabs, **failback: str) -> Iterator[Served]:
    """A host name of its own, so that no earlier test's moves count; east is answered, and both are heard of."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    spaces = {region.name: Space(replace(region.cluster, namespace=name)) for region in of.regions}
    found = Served(of, f"{name}.{ZONE}", spaces)
    try:
        for space in spaces.values():
            space.cluster.run("create", "namespace", name)
            space.cluster.run("label", "namespace", name, demo.RESTRICTED)
            space.cluster.run("create", "secret", "generic", "dns-key", f"--from-literal=tsig={of.server.secret}")
        for region, space in spaces.items():  # east first: whoever comes up first is answered first
            found.apply(region, **failback)
            space.wait(MDEP, NAME, "Ready")
            _open(space)
            found.agreed("east", 0, region)
        for region in spaces:
            found.beaten(region)
        with found.outsider().calling() as seen:  # a node's proxy may know the new Service a moment later
            seen.served(of.east.targets)
        yield found
    finally:
        for region in of.regions:
            of.outside.mend(region.lab)
            whole(region.lab)
            cluster = spaces[region.name].cluster
            for what in ("modeldeployments.pilotboat.dev", "services"):  # the records first, then the node port
                subprocess.run(cluster.command("delete", what, "--all", "--timeout=60s"), env=cluster.env, check=False)
            subprocess.run(cluster.command("delete", "namespace", name, "--wait=false"), env=cluster.env, check=False)


def lost(of: TwoLabs, fault: Callable[[], None]) -> dict[str, float]:
    """Seconds from the beginning of a fault of east's: to another answer, and until every caller has asked there.

    A caller waits for an answer of the dead for no longer than it remembers where they are."""
    with served(of, after="5m") as name, replace(name.outsider(), patience=TTL).calling() as seen:
        seen.served(of.east.targets)
        began = time.monotonic()
        fault()
        answered = seen.answered(of.west.targets)
        _, moved = seen.served(of.west.targets)
        return {"answer-changed": answered - began, "caller-moved": moved - began}


def _open(space: Space) -> None:
    """A Service of the user's own, at a port of every node, before the same gateways."""
    made = space.cluster.get("service", NAME)["spec"]
    port = {**{key: made["ports"][0][key] for key in ("port", "targetPort")}, "nodePort": PORT}
    spec = {"type": "NodePort", "selector": made["selector"], "ports": [port]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "outside"}, "spec": spec}
    space.cluster.apply(json.dumps(body))
