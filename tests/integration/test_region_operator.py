"""Two operators, two regions, one host name at a real name server: status, events, finalizer, what is told.

Each operator has a namespace of its own on one API server, which it takes for its cluster.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client

from lab import crds
from pilotboat.api import labels
from pilotboat.engine import regions
from pilotboat.engine.errors import DnsUnreachable
from pilotboat.engine.kinds import DNS_ENDPOINT, MODEL_DEPLOYMENT, SECRET, SERVICE
from pilotboat.plan import external_dns
from pilotboat.plan.dns_records import Beat
from tests.integration.cluster import PATIENCE, Cluster, namespace_of
from tests.integration.nameserver import Primary, primary
from tests.integration.running import operator
from tests.integration.test_gateway import kubelet, named, says
from tests.integration.test_reconcile import model_deployment

Raw = dict[str, Any]
HOST = "chat.example.org"
EAST, WEST = "127.1.0.1", "127.2.0.1"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Primary]:
    async with primary(tmp_path) as running:
        yield running


def shared(server: Primary, region: str, address: str, priority: int = 0, **rfc2136: Any) -> Raw:
    where = server.where(**rfc2136).wire()
    dns = {"hostname": HOST, "region": region, "targets": [address], "priority": priority, "rfc2136": where}
    return model_deployment(replicas=1, zones={"dns": dns})


async def key(cluster: Cluster, secret: str) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "dns-key"}}
    data = {"tsig": base64.b64encode(secret.encode()).decode()}
    await cluster.apply({**body, "data": data})


async def serves(cluster: Cluster, ready: bool = True) -> None:
    await kubelet(cluster, "server", ready, count=1)


def told(found: list[Raw]) -> Raw:
    parent = named(found, "chat") or {}
    dns: Raw = (parent.get("status") or {}).get("dns") or {}
    return dns


def message(found: list[Raw]) -> str:
    parent = named(found, "chat") or {}
    conditions = {c["type"]: c for c in parent["status"]["conditions"]}
    return str(conditions["DnsReady"]["message"])


def refused(found: list[Raw]) -> bool:
    return says(found, "DnsReady", "False", "DnsUpdateRefused")


async def gone(cluster: Cluster) -> None:
    await cluster.until(MODEL_DEPLOYMENT, lambda found: not found)


async def beaten(server: Primary, region: str, times: int = 3) -> Beat:
    """The beat of a region once it has beaten so often."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(DnsUnreachable):  # within its few seconds, on a busy machine
                found = (await server.client(HOST).look()).known.get(region)
                if found and found.count >= times:
                    return found
            await asyncio.sleep(0.2)


async def test_a_region_that_stops_serving_is_left_and_status_tells_the_story(
    server: Primary, configuration: client.Configuration
) -> None:
    async with AsyncExitStack() as stack:
        east, west = [
            await stack.enter_async_context(namespace_of(configuration, f"region-{name}")) for name in ("east", "west")
        ]
        for cluster in (east, west):
            await stack.enter_async_context(operator(configuration, cluster.namespace))
            await key(cluster, server.secret)
        await east.apply(shared(server, "east", EAST))
        await serves(east)
        await west.apply(shared(server, "west", WEST, 1))
        await serves(west)
        await server.until(HOST, EAST)
        both = await west.until(
            MODEL_DEPLOYMENT, lambda found: told(found).get("answer") == "east" and len(told(found)["regions"]) == 2
        )
        assert [region["name"] for region in told(both)["regions"]] == ["east", "west"]
        for region in ("east", "west"):
            await beaten(server, region)

        await serves(east, False)
        seconds = await server.until(HOST, WEST)
        print(f"replica not ready: another answer after {seconds:.1f} s")
        for cluster in (east, west):
            found = await cluster.until(MODEL_DEPLOYMENT, lambda found: told(found).get("answer") == "west")
            assert says(found, "DnsReady", "True", "DnsAnswered")
            assert (told(found)["moves"], told(found)["holdDown"], told(found)["targets"]) == (1, "300s", [WEST])
        assert "says that it does not serve" in told(await west.list(MODEL_DEPLOYMENT))["why"]
        for cluster in (east, west):
            await cluster.until(MODEL_DEPLOYMENT, lambda found: bool(found))
            async with asyncio.timeout(PATIENCE):
                while not (events := await cluster.events("DnsMoved")):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            assert f"{HOST} answers with region west ({WEST}), not east" in events[0]["message"]

        await west.delete(await west.get(MODEL_DEPLOYMENT, "chat"))
        await gone(west)
        assert await server.answer(HOST) == [EAST], "who leaves hands over to whom is heard of"
        await east.delete(await east.get(MODEL_DEPLOYMENT, "chat"))
        await gone(east)
        left = await server.client(HOST).look()
        assert (left.beats, left.state, left.addresses) == ((), None, ())


async def test_a_restarted_operator_moves_nothing_and_goes_on_counting(server: Primary, cluster: Cluster) -> None:
    await key(cluster, server.secret)
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(shared(server, "east", EAST))
        await serves(cluster)
        await server.until(HOST, EAST)
        await beaten(server, "east")
    before = await beaten(server, "east")
    async with operator(cluster.configuration, cluster.namespace):
        now = await beaten(server, "east", before.count + 2)
    assert now.up >= before.up
    found = await cluster.list(MODEL_DEPLOYMENT)
    assert (told(found)["answer"], told(found)["moves"]) == ("east", 0)


async def test_what_is_wrong_with_the_key_is_told_and_mended(server: Primary, cluster: Cluster) -> None:
    wrong = base64.b64encode(b"a wrong secret").decode()
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(shared(server, "east", EAST))
        await serves(cluster)
        found = await cluster.until(  # what runs is not disturbed
            MODEL_DEPLOYMENT,
            lambda found: says(found, "DnsReady", "False", "DnsUpdateRefused") and says(found, "Available", "True"),
        )
        assert "Secret dns-key, which is to hold the TSIG key, does not exist" in message(found)
        await key(cluster, wrong)
        found = await cluster.until(
            MODEL_DEPLOYMENT, lambda found: "has another secret" in message(found) and bool(told(found))
        )
        assert wrong not in str(found)
        assert server.secret not in str(found)
        await key(cluster, server.secret)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "True"))
        assert server.secret not in str(await cluster.list(MODEL_DEPLOYMENT))


async def test_a_zone_it_does_not_have_and_a_server_that_is_down_are_told(server: Primary, cluster: Cluster) -> None:
    await key(cluster, server.secret)
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(shared(server, "east", EAST, zone="org"))
        await serves(cluster)
        found = await cluster.until(
            MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "False", "DnsUpdateRefused")
        )
        assert "zone org" in message(found)
        server.stop()
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "False", "DnsServerUnreachable"))


async def test_without_zones_dns_the_records_and_the_finalizer_go(server: Primary, cluster: Cluster) -> None:
    await key(cluster, server.secret)
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(shared(server, "east", EAST))
        await serves(cluster)
        await server.until(HOST, EAST)
        parent = await cluster.get(MODEL_DEPLOYMENT, "chat")
        assert labels.DNS_FINALIZER in parent["metadata"]["finalizers"]
        await cluster.apply(model_deployment(replicas=1))
        await cluster.until(
            MODEL_DEPLOYMENT,
            lambda found: not told(found) and not (named(found, "chat") or {})["metadata"].get("finalizers"),
        )
        left = await server.client(HOST).look()
        assert (left.beats, left.state, left.addresses) == ((), None, ())
        assert not says(await cluster.list(MODEL_DEPLOYMENT), "DnsReady", "True")


async def test_deletion_waits_for_a_silent_name_server_only_so_long(
    server: Primary, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "LEAVES_WITHIN", 3.0)
    await key(cluster, server.secret)
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(shared(server, "east", EAST))
        await serves(cluster)
        await server.until(HOST, EAST)
        server.stop()
        await cluster.delete(await cluster.get(MODEL_DEPLOYMENT, "chat"))
        await cluster.delete(await cluster.get(SECRET, "dns-key"))
        await gone(cluster)
        async with asyncio.timeout(PATIENCE):
            while not (events := await cluster.events("DnsRecordsLeft")):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        assert f"_pilotboat.{HOST}" in events[0]["message"]


CRD: Raw = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "dnsendpoints.externaldns.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/external-dns/pull/2007"},
    },
    "spec": {
        "group": "externaldns.k8s.io",
        "names": {"kind": "DNSEndpoint", "plural": "dnsendpoints"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def by_external_dns(**changes: Any) -> Raw:
    dns = {"hostname": HOST, "region": "east", "targets": [EAST], "externalDNS": changes}
    return model_deployment(replicas=1, zones={"dns": dns})


def annotations(found: list[Raw]) -> Raw:
    """What an external-dns before 0.22 reads of our Service, without the prefix."""
    prefix = "external-dns.alpha.kubernetes.io/"
    noted: Raw = ((named(found, "chat") or {}).get("metadata") or {}).get("annotations") or {}
    return {name.removeprefix(prefix): value for name, value in noted.items() if name.startswith(prefix)}


async def test_with_external_dns_the_record_is_an_object_that_is_taken_away(cluster: Cluster, plane: Path) -> None:
    async with operator(cluster.configuration, cluster.namespace, resync=5):
        await cluster.apply(by_external_dns())
        await serves(cluster)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "False", "ExternalDnsMissing"))
        with installed(plane):
            await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "True", "DnsAnswered"))
            endpoint = (await cluster.until(DNS_ENDPOINT, bool))[0]
            assert endpoint["spec"]["endpoints"] == [
                {"dnsName": HOST, "recordTTL": 5, "recordType": "A", "targets": [EAST]}
            ]
            assert endpoint["metadata"]["ownerReferences"][0]["name"] == "chat"
            await cluster.apply(model_deployment(replicas=1))
            await cluster.until(DNS_ENDPOINT, lambda found: not found)
            await cluster.until(MODEL_DEPLOYMENT, lambda found: not told(found))


async def test_without_that_kind_the_record_is_annotations_on_the_service(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_dns, "WITHDRAW", 1.0)
    asked = by_external_dns(source="Service", providerSpecific={"aws/failover": "PRIMARY"})
    asked["spec"]["zones"]["dns"]["failback"] = {"after": "1s"}
    record = {"hostname": HOST, "target": EAST, "ttl": "5", "set-identifier": "east", "aws-failover": "PRIMARY"}
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(asked)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "False", "DnsStarting"))
        assert annotations(await cluster.list(SERVICE)) == {}
        await serves(cluster)
        (first,) = await cluster.until(SERVICE, lambda found: annotations(found) == record)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "True", "DnsAnswered"))
        await cluster.merge(SERVICE, "chat", {"metadata": {"annotations": {"example.org/mine": "kept"}}})

        await serves(cluster, False)
        await cluster.until(SERVICE, lambda found: not annotations(found))
        found = await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "False", "DnsWithdrawn"))
        assert told(found)["source"] == "Service"
        await serves(cluster)
        await cluster.until(SERVICE, lambda found: annotations(found) == record)

        await cluster.apply(model_deployment(replicas=1))
        (last,) = await cluster.until(SERVICE, lambda found: not annotations(found))
        await cluster.until(MODEL_DEPLOYMENT, lambda found: not told(found))
        assert last["metadata"]["annotations"]["example.org/mine"] == "kept"
        assert (last["metadata"]["uid"], last["spec"]) == (first["metadata"]["uid"], first["spec"])


@contextmanager
def installed(plane: Path, crd: str = json.dumps(CRD)) -> Iterator[None]:
    """external-dns's kind, here as loose as a schema can be: what is written into it is compared above."""
    try:
        crds.apply(plane, text=crd)
        yield
    finally:
        crds.delete(plane, text=crd)
