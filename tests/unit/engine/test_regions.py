"""A region that goes away while something is wrong that nobody thought of."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.api.reasons import Reason
from pilotboat.engine import regions
from pilotboat.engine.errors import Unavailable
from pilotboat.engine.kinds import MODEL_DEPLOYMENT, Key, Kind
from pilotboat.engine.metrics import Metrics
from pilotboat.engine.regions import Regions
from pilotboat.engine.store import Store
from pilotboat.plan.types import Event, Manifest
from tests.unit.engine.objects import parent

Raw = dict[str, Any]
PATIENCE = 20.0
RECORDS = {"server": "ns.example.org", "zone": "example.org", "tsig": {"name": "k", "secretRef": {"name": "dns-key"}}}


class Cluster:
    """An API server whose answer nobody can make sense of."""

    def __init__(self, busy: int = 0) -> None:
        self.busy = busy
        self.let_go = asyncio.Event()

    async def find(self, kind: Kind, namespace: str, name: str) -> Raw:
        raise ZeroDivisionError("a bug")

    async def apply(self, manifest: Manifest, manager: str, *, subresource: str | None = None) -> Raw:
        assert manifest["metadata"]["finalizers"] == []
        self.busy -= 1
        if self.busy >= 0:
            raise Unavailable(503, "ServiceUnavailable", "busy")
        self.let_go.set()
        return dict(manifest)


def watching(store: Store, cluster: Cluster, told: list[Event], metrics: Metrics | None = None) -> Regions:
    """Looks without pause, and tells there."""
    return Regions(
        *(store, cluster, lambda keys: None, lambda parent, events: told.extend(events)),
        *((metrics or Metrics()).regions, lambda: datetime.now(UTC)),
        every=0.001,
    )


@pytest.mark.parametrize("busy", [0, 3])
async def test_a_bug_holds_up_no_deletion_for_longer_than_a_name_server(
    monkeypatch: pytest.MonkeyPatch, busy: int
) -> None:
    """Nor does an API server that is busy just then: what was given up is not begun anew, and told once."""
    monkeypatch.setattr(regions, "LEAVES_WITHIN", 0.0)
    dns = {"hostname": "chat.example.org", "region": "east", "records": RECORDS}
    going = parent("chat", status={"dns": dns})
    going["metadata"] |= {"deletionTimestamp": "2026-05-01T12:00:00Z", "finalizers": [labels.DNS_FINALIZER]}
    store, cluster, told = Store(asyncio.get_running_loop().time), Cluster(busy), list[Event]()
    store.put(MODEL_DEPLOYMENT, going)
    watch = watching(store, cluster, told)
    keeping = asyncio.create_task(watch.run())
    watch.see(Key(MODEL_DEPLOYMENT.plural, "ns", "chat"), going)
    async with asyncio.timeout(PATIENCE):
        await cluster.let_go.wait()
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    assert [event.reason for event in told] == [Reason.DNS_RECORDS_LEFT]
    assert "chat.example.org" in told[0].message
    assert cluster.busy < 0


class Counted(Store):
    """Tells when it was asked for a ModelDeployment often enough that one turn is over."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop().time)
        self.left, self.turned = 3, asyncio.Event()

    def parent(self, key: Key) -> Raw | None:
        self.left -= 1
        if not self.left:
            self.turned.set()
        return super().parent(key)


async def test_a_spec_that_a_new_operator_cannot_read_withdraws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one of before an upgrade. When it is deleted the records go all the same."""
    monkeypatch.setattr(regions, "LEAVES_WITHIN", 0.0)
    known = {"hostname": "chat.example.org", "region": "east"}
    kept = parent("chat", spec={"zones": {"dns": {**known, "ttl": 10**6, "rfc2136": RECORDS}}})
    kept |= {"status": {"dns": {**known, "records": RECORDS}}}
    kept["metadata"]["finalizers"] = [labels.DNS_FINALIZER]
    store, cluster, told = Counted(), Cluster(), list[Event]()
    store.put(MODEL_DEPLOYMENT, kept)
    watch = watching(store, cluster, told)
    keeping = asyncio.create_task(watch.run())
    watch.see(Key(MODEL_DEPLOYMENT.plural, "ns", "chat"), kept)
    async with asyncio.timeout(PATIENCE):
        await store.turned.wait()
        assert not told
        assert not cluster.let_go.is_set()
        newer = {"resourceVersion": parent("chat")["metadata"]["resourceVersion"]}
        going = kept["metadata"] | newer | {"deletionTimestamp": "2026-05-01T12:00:00Z"}
        store.put(MODEL_DEPLOYMENT, {**kept, "metadata": going})
        await cluster.let_go.wait()
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    assert [event.reason for event in told] == [Reason.DNS_RECORDS_LEFT]


async def test_with_a_modeldeployment_goes_how_often_its_answer_moved() -> None:
    """Else every one that ever was would stand in the page for good."""
    store, cluster, metrics = Store(asyncio.get_running_loop().time), Cluster(), Metrics()
    store.put(MODEL_DEPLOYMENT, going := parent("chat") | {"status": {"dns": {"records": RECORDS}}})
    watch = watching(store, cluster, [], metrics)
    metrics.regions.moves.labels("ns", "chat").inc()
    keeping = asyncio.create_task(watch.run())
    watch.see(Key(MODEL_DEPLOYMENT.plural, "ns", "chat"), going)
    store.delete(MODEL_DEPLOYMENT, going)
    async with asyncio.timeout(PATIENCE):
        while b"pilotboat_dns_moves_total{" in metrics.render():  # noqa: ASYNC110 -- there is no event for it
            await asyncio.sleep(0)
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
