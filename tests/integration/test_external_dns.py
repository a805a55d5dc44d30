"""`zones.dns.externalDNS` with the real external-dns, its own CRD, and a name server that is asked.

A region is an operator and an external-dns of its own, in a namespace that both take for their cluster.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client

from pilotboat.engine.kinds import DNS_ENDPOINT, MODEL_DEPLOYMENT
from pilotboat.plan import external_dns
from tests.integration import externaldns
from tests.integration.cluster import Cluster, namespace_of
from tests.integration.externaldns import INTERVAL, ExternalDns
from tests.integration.nameserver import ZONE, Primary, primary
from tests.integration.running import operator
from tests.integration.test_gateway import says
from tests.integration.test_reconcile import model_deployment
from tests.integration.test_region_operator import EAST, HOST, WEST, installed, serves

pytestmark = pytest.mark.long
Raw = dict[str, Any]
SIXTH = "2001:db8::1"
LATE = 10.0
"""Seconds that a busy machine may add."""
BOTH = pytest.mark.parametrize("source", ["DNSEndpoint", "Service"])


@pytest.fixture(scope="module")
def binary() -> Path:
    return externaldns.program()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Primary]:
    """external-dns learns what there is by a transfer of the zone."""
    async with primary(tmp_path, "update, query, transfer") as running:
        yield running


@pytest.fixture
def kind(plane: Path) -> Iterator[None]:
    with installed(plane, externaldns.crd().read_text()):
        yield


@dataclass
class World:
    """Where regions are made."""

    binary: Path
    plane: Path
    server: Primary
    configuration: client.Configuration

    @asynccontextmanager
    async def region(self, name: str, source: str = "DNSEndpoint") -> AsyncIterator[tuple[Cluster, ExternalDns]]:
        reads = {"DNSEndpoint": "crd", "Service": "service"}[source]
        async with (
            namespace_of(self.configuration, f"by-{source.lower()}-{name}-{time.time_ns():x}") as cluster,
            operator(self.configuration, cluster.namespace),
            externaldns.external_dns(self.binary, self.plane, cluster.namespace, reads, self.server, name) as running,
        ):
            yield cluster, running


@pytest.fixture
def world(binary: Path, plane: Path, kind: None, server: Primary, configuration: Any) -> World:
    return World(binary, plane, server, configuration)


def asked(region: str, *targets: str, **external: Any) -> Raw:
    dns = {"hostname": HOST, "region": region, "targets": list(targets), "ttl": 7, "failback": {"after": "1s"}}
    return model_deployment(replicas=1, zones={"dns": {**dns, "externalDNS": external}})


async def still(server: Primary, *running: ExternalDns) -> None:
    """Nobody finds anything to do, and nothing is written, while each looks at it several times."""
    for each in running:
        await each.settled(1)
    before = await server.answer(ZONE, "SOA")
    for each in running:
        await each.settled(3)
    assert await server.answer(ZONE, "SOA") == before, "every change has a serial number of its own"


@BOTH
async def test_a_record_comes_stays_goes_and_comes_back(world: World, source: str) -> None:
    server = world.server
    async with world.region("east", source) as (cluster, external):
        await cluster.apply(asked("east", EAST, SIXTH, source=source))
        await external.settled(1)
        assert await server.answer(HOST) == []

        await serves(cluster)
        print(f"{source}: answered after {await server.until(HOST, EAST):.1f} s")
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "True", "DnsAnswered"))
        await still(server, external)
        assert (await server.answer(HOST), await server.answer(HOST, "AAAA")) == ([EAST], [SIXTH])
        assert await server.ttl(HOST) == 7

        await serves(cluster, False)
        seconds = await server.until(HOST)
        print(f"{source}: withdrawn after {seconds:.1f} s")
        assert -1 <= seconds - external_dns.WITHDRAW <= INTERVAL + LATE, "conditions are dated in whole seconds"
        await still(server, external)
        assert await server.answer(HOST, "AAAA") == []
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "False", "DnsWithdrawn"))

        await serves(cluster)
        print(f"{source}: back after {await server.until(HOST, EAST):.1f} s")
        await still(server, external)

        await cluster.delete(await cluster.get(MODEL_DEPLOYMENT, "chat"))
        await server.until(HOST)
        await still(server, external)
        assert await server.answer(f"a-{HOST}", "TXT") == [], "what says whose it was goes too"
        assert external.errors() == []


@BOTH
async def test_of_two_regions_the_one_that_has_the_name_keeps_it(
    world: World, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider without routing policies: a name has one owner, and the other waits until it is free."""
    monkeypatch.setattr(external_dns, "WITHDRAW", 1.0)
    server = world.server
    async with AsyncExitStack() as stack:
        east, by_east = await stack.enter_async_context(world.region("east", source))
        west, by_west = await stack.enter_async_context(world.region("west", source))
        await east.apply(asked("east", EAST, source=source))
        await serves(east)
        await server.until(HOST, EAST)
        await west.apply(asked("west", WEST, source=source))
        await serves(west)
        await west.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "True", "DnsAnswered"))
        await still(server, by_east, by_west)
        assert await server.answer(HOST) == [EAST]

        await serves(east, False)
        print(f"{source}: the other answered after {await server.until(HOST, WEST):.1f} s")
        await serves(east)
        await east.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "True", "DnsAnswered"))
        await still(server, by_east, by_west)
        assert await server.answer(HOST) == [WEST]
        assert by_east.errors() == by_west.errors() == []


async def test_its_kind_keeps_all_that_is_written_into_it(world: World) -> None:
    """The fields of a provider too; one that they are not for passes over them."""
    fields = {"aws/health-check-id": "1", "webhook/note": "any"}
    async with world.region("east") as (cluster, external):
        await cluster.apply(asked("east", EAST, providerSpecific=fields))
        await serves(cluster)
        await world.server.until(HOST, EAST)
        (found,) = await cluster.list(DNS_ENDPOINT)
        told = [{"name": name, "value": value} for name, value in sorted(fields.items())]
        one = {"dnsName": HOST, "recordTTL": 7, "recordType": "A", "targets": [EAST], "providerSpecific": told}
        assert found["spec"] == {"endpoints": [one]}
        await cluster.until(
            DNS_ENDPOINT,
            lambda found: found[0].get("status", {}).get("observedGeneration") == found[0]["metadata"]["generation"],
        )
        await still(world.server, external)
        assert await world.server.answer(HOST) == [EAST]
        assert external.errors() == []
