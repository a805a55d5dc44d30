"""The elector against an API server in memory that keeps the one promise it relies on: versions are compared."""

from __future__ import annotations

import asyncio
import copy
import itertools
import threading
from typing import Any

import pytest

from pilotboat.engine.errors import Conflict, NotFound, Unavailable
from pilotboat.engine.kinds import Kind
from pilotboat.engine.leader import LOOK, Elector, Timing, Watchdog
from pilotboat.settings import Lease
from tests.unit.engine.clock import run, wait

Raw = dict[str, Any]


class Leases:
    def __init__(self) -> None:
        self.lease: Raw | None = None
        self.versions = itertools.count(1, 1000)
        self.down: set[str] = set()

    def seen_by(self, who: str) -> View:
        return View(self, who)


class View:
    """What one candidate sees; `down` cuts it off."""

    def __init__(self, leases: Leases, who: str) -> None:
        self._leases = leases
        self._who = who

    def _check(self) -> None:
        if self._who in self._leases.down:
            raise Unavailable(0, "Cut", "no connection")

    async def get(self, kind: Kind, namespace: str, name: str) -> Raw | None:
        self._check()
        return copy.deepcopy(self._leases.lease)

    async def create(self, kind: Kind, namespace: str | None, body: Raw) -> Raw:
        self._check()
        if self._leases.lease:
            raise Conflict(409, "AlreadyExists", "exists")
        return self._store(body, next(self._leases.versions))

    async def replace(self, kind: Kind, body: Raw) -> Raw:
        self._check()
        if self._leases.lease is None:
            raise NotFound(404, "NotFound", "gone")
        live = self._leases.lease["metadata"]["resourceVersion"]
        if body["metadata"]["resourceVersion"] != live:
            raise Conflict(409, "Conflict", "changed")
        return self._store(body, int(live) + 1)

    def _store(self, body: Raw, version: int) -> Raw:
        kept = copy.deepcopy(body)
        kept["metadata"]["resourceVersion"] = str(version)
        self._leases.lease = kept
        return copy.deepcopy(kept)


def elector(leases: Leases, who: str) -> Elector:
    clock = asyncio.get_running_loop().time
    return Elector(leases.seen_by(who), "ns", "pilotboat", who, Timing(), clock, node=f"node-of-{who}")


def holder(leases: Leases) -> str:
    assert leases.lease
    return str(leases.lease["spec"]["holderIdentity"])


def test_one_leads_and_the_other_waits() -> None:
    async def scenario() -> None:
        leases = Leases()
        a, b = elector(leases, "a"), elector(leases, "b")
        await a.acquire()
        keeping, waiting = asyncio.ensure_future(a.keep()), asyncio.ensure_future(b.acquire())
        await wait(300)
        assert not keeping.done()
        assert not waiting.done()
        assert holder(leases) == "a"
        keeping.cancel()
        waiting.cancel()

    run(scenario())


def test_who_takes_the_lease_from_a_silent_leader_knows_where_he_was_and_for_how_long_he_said_nothing() -> None:
    async def scenario() -> None:
        leases = Leases()
        a, b, c = elector(leases, "a"), elector(leases, "b"), elector(leases, "c")
        await a.acquire()
        assert a.predecessor is None
        assert leases.lease
        said = leases.lease["spec"]["renewTime"]
        await b.acquire()
        assert b.predecessor
        assert (b.predecessor.node, b.predecessor.renewed) == ("node-of-a", said)
        assert 15 <= b.predecessor.silence <= 17
        await b.release()
        await c.acquire()
        assert c.predecessor is None, "who gives it up is not lost"

    run(scenario())


def test_a_silent_leader_is_replaced_after_the_lease_and_not_before() -> None:
    async def scenario() -> None:
        leases, loop = Leases(), asyncio.get_running_loop()
        a, b = elector(leases, "a"), elector(leases, "b")
        await a.acquire()
        assert not await b.attempt()
        silent = loop.time()
        await b.acquire()
        assert 15 <= loop.time() - silent <= 17
        assert holder(leases) == "b"
        assert leases.lease
        assert leases.lease["spec"]["leaseTransitions"] == 1

    run(scenario())


def test_a_leader_that_is_cut_off_gives_up_before_another_may_lead() -> None:
    async def scenario() -> None:
        leases, loop = Leases(), asyncio.get_running_loop()
        a, b = elector(leases, "a"), elector(leases, "b")
        await a.acquire()
        keeping = asyncio.ensure_future(a.keep())
        waiting = asyncio.ensure_future(b.acquire())
        await wait(30)
        assert a.sure()
        leases.down.add("a")
        await keeping
        gave_up = loop.time()
        assert not a.sure(), "and writes nothing from then on"
        assert not waiting.done()
        assert gave_up - a.renewed <= 12
        await waiting
        assert loop.time() > gave_up

    run(scenario())


def test_a_short_outage_costs_nothing() -> None:
    async def scenario() -> None:
        leases = Leases()
        a = elector(leases, "a")
        await a.acquire()
        keeping = asyncio.ensure_future(a.keep())
        leases.down.add("a")
        await wait(7)
        leases.down.clear()
        await wait(60)
        assert not keeping.done()
        keeping.cancel()

    run(scenario())


def test_a_lease_given_up_is_free_at_once() -> None:
    async def scenario() -> None:
        leases, loop = Leases(), asyncio.get_running_loop()
        a, b = elector(leases, "a"), elector(leases, "b")
        await a.acquire()
        assert not await b.attempt()
        await a.release()
        began = loop.time()
        await b.acquire()
        assert loop.time() - began <= 2

    run(scenario())


def test_a_lease_that_somebody_deletes_stays_with_its_holder() -> None:
    async def scenario() -> None:
        leases = Leases()
        a, b = elector(leases, "a"), elector(leases, "b")
        await a.acquire()
        keeping, waiting = asyncio.ensure_future(a.keep()), asyncio.ensure_future(b.acquire())
        for _ in range(5):
            await wait(7)
            leases.lease = None
        await wait(30)
        assert (keeping.done(), waiting.done(), holder(leases)) == (False, False, "a")
        keeping.cancel()
        waiting.cancel()

    run(scenario())


def test_a_lease_deleted_after_its_holder_has_died_is_free_when_it_would_have_been() -> None:
    async def scenario() -> None:
        leases, loop = Leases(), asyncio.get_running_loop()
        a, b = elector(leases, "a"), elector(leases, "b")
        await a.acquire()
        assert not await b.attempt()
        leases.lease, silent = None, loop.time()
        await b.acquire()
        assert 13 <= loop.time() - silent <= 17

    run(scenario())


def test_who_finds_another_holder_in_place_of_a_deleted_lease_leads_no_more() -> None:
    """A candidate that begins just then knows of no holder: the two lead together until the first looks again."""

    async def scenario() -> None:
        leases, loop = Leases(), asyncio.get_running_loop()
        a = elector(leases, "a")
        await a.acquire()
        keeping = asyncio.ensure_future(a.keep())
        await wait(7)
        leases.lease = None
        new = elector(leases, "new")
        assert await new.attempt()
        began = loop.time()
        await keeping
        assert loop.time() - began <= Timing().retry
        assert holder(leases) == "new"

    run(scenario())


def test_who_does_not_lead_gives_nothing_up() -> None:
    async def scenario() -> None:
        leases = Leases()
        a, b = elector(leases, "a"), elector(leases, "b")
        await a.acquire()
        await b.attempt()
        await b.release()
        assert holder(leases) == "a"

    run(scenario())


def test_of_two_at_once_one_wins() -> None:
    async def scenario() -> None:
        leases = Leases()
        won = await asyncio.gather(*(elector(leases, who).attempt() for who in "abcdef"))
        assert sum(won) == 1

    run(scenario())


@pytest.mark.parametrize("renewed", [float("-inf"), 0.0])
def test_the_watchdog_ends_a_process_whose_loop_is_stuck(renewed: float) -> None:
    died = threading.Event()
    stuck = Elector(View(Leases(), "a"), "ns", "pilotboat", "a", Timing())
    stuck.renewed = renewed
    watchdog = Watchdog(stuck, Timing(), die=lambda code: died.set())
    watchdog.start()
    assert died.wait(10)


def test_the_times_add_up_to_an_end_within_two_seconds() -> None:
    """Of a loss that is seen, and of one that nobody can tell of; in both cases before another leads by the rules."""
    timing, settings = Timing(), Lease()
    assert timing == Timing(settings.duration, settings.renew, settings.retry), "what runs"
    assert timing.retry + LOOK <= 2
    assert timing.overdue + LOOK <= timing.renew + 2
    assert timing.overdue + LOOK < timing.lease


def test_who_is_deposed_leads_no_more_and_takes_nothing_back() -> None:
    async def scenario() -> None:
        leases, loop = Leases(), asyncio.get_running_loop()
        a = elector(leases, "a")
        await a.acquire()
        keeping = asyncio.ensure_future(a.keep())
        await wait(7.1)
        assert leases.lease
        leases.lease["spec"]["holderIdentity"] = "b"
        leases.lease["metadata"]["resourceVersion"] = "7"
        deposed = loop.time()
        await keeping
        assert loop.time() - deposed <= 2 - LOOK
        assert (holder(leases), leases.lease["metadata"]["resourceVersion"]) == ("b", "7")

    run(scenario())
