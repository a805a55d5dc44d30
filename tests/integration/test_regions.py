"""Regions at a real name server: who is answered, how fast that changes, and what a resolver sees meanwhile.

Two writers as two operators have them, each by a way of its own that can be cut; times are those of production.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pilotboat.engine.errors import DnsOutpaced, DnsRefused, DnsUnreachable
from pilotboat.engine.nameserver import Answer, NameServer, tsig
from pilotboat.plan.dns import EVERY, Act
from pilotboat.plan.dns_records import Beat, Names, state_of
from tests.integration.nameserver import PATIENCE, Primary, primary, relay
from tests.integration.writers import EAST, WEST, Writer, east, lost, west


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Primary]:
    async with primary(tmp_path) as running:
        yield running


async def test_the_answer_moves_in_time_whatever_befalls_a_region(server: Primary) -> None:
    kinds = ("killed", "cut", "sick")
    found = await asyncio.gather(*(lost(server, kind) for kind in kinds))
    for kind, (source, seen) in zip(kinds, found, strict=True):
        print(f"{kind}: another answer after {source:.1f} s, seen through a memory of 5 s after {seen:.1f} s")


async def test_who_returns_from_a_cut_reads_before_it_writes(server: Primary) -> None:
    host = "chat.example.org"
    async with relay(server.port) as way:
        first = Writer.of(server, host, east(), way.port).start()
        second = Writer.of(server, host, west()).start()
        await server.until(host, EAST)
        await asyncio.sleep(2 * EVERY)
        await way.cut()
        await server.until(host, WEST)
        made = len(first.decisions)
        await way.join()
        async with asyncio.timeout(PATIENCE):
            while len(first.decisions) < made + 6:  # noqa: ASYNC110 -- it takes turns of its own
                await asyncio.sleep(0.05)
        assert await server.answer(host) == [WEST]
        assert all(decision.act is Act.NOTHING for decision in first.decisions[made:])
        first.kill()
        second.kill()


@pytest.mark.long
async def test_when_both_were_dead_the_first_that_is_back_is_answered_and_the_second_changes_nothing(
    server: Primary,
) -> None:
    """Nobody writes while both are dead, so callers are sent where they were sent before."""
    host = "chat.example.org"
    dead = [Writer.of(server, host, me).start() for me in (east(), west())]
    await server.until(host, EAST)
    await asyncio.sleep(2 * EVERY)
    for writer in dead:
        writer.kill()
    first = Writer.of(server, host, west()).start()
    await server.until(host, WEST)
    second = Writer.of(server, host, east()).start()
    async with asyncio.timeout(PATIENCE):
        while len(second.decisions) < 6:  # noqa: ASYNC110 -- it takes turns of its own
            await asyncio.sleep(0.05)
    assert await server.answer(host) == [WEST]
    assert all(decision.act is Act.NOTHING for decision in second.decisions)
    first.kill()
    second.kill()


async def test_of_two_who_write_at_once_one_wins_and_the_other_is_told(server: Primary) -> None:
    one, other = server.client("chat.example.org"), server.client("chat.example.org")
    seen = await one.look()
    answers = [Answer(f"v=1 region={name} moves=0 hold=0", (address,), 5) for name, address in TWO]
    done = await asyncio.gather(one.answer(seen, answers[0]), other.answer(seen, answers[1]), return_exceptions=True)
    assert {type(each) for each in done} == {type(None), DnsOutpaced}
    winner = done.index(None)
    now = await one.look()
    assert (now.addresses, now.ttl) == ((TWO[winner][1],), 5)
    assert state_of(now.state or "") is not None
    assert now.state == answers[winner].state


TWO = (("east", EAST), ("west", WEST))


async def test_a_region_that_leaves_hands_over_and_the_last_takes_all_away(server: Primary) -> None:
    host = "chat.example.org"
    first, second = (Writer.of(server, host, me) for me in (east(), west()))
    first.start()
    second.start()
    await server.until(host, EAST)
    await asyncio.sleep(2 * EVERY)
    await first.end()
    assert await first.region.leave()
    assert await server.answer(host) == [WEST]
    await second.end()
    async with asyncio.timeout(PATIENCE):
        while not await second.region.leave():  # noqa: ASYNC110 -- a turn at a time
            await asyncio.sleep(EVERY)
    look = await server.client(host).look()
    assert (look.beats, look.state, look.addresses) == ((), None, ())


async def test_beats_as_another_version_wrote_them_are_replaced_and_taken_away(server: Primary) -> None:
    """Else they stay for ever, of a region that is no more."""
    host = "chat.example.org"
    client, region = server.client(host), Writer.of(server, host, east()).region
    beat = Beat("east", region.me.owner, 1, True, 0, 1, 1, (EAST,)).text()
    await client.beat([], f"{beat} more=1")
    await region.turn(healthy=False)
    assert len((await client.look()).beats) == 1
    await client.beat([], f"{beat} more=2")
    assert await region.leave()
    assert (await client.look()).beats == ()


async def test_records_of_both_families_are_answered(server: Primary) -> None:
    host = "both.example.org"
    me = replace(east(), targets=(EAST, "2001:db8::1"))
    writer = Writer.of(server, host, me).start()
    await server.until(host, EAST)
    assert await server.answer(host, "AAAA") == ["2001:db8::1"]
    writer.kill()


async def test_a_name_that_is_another_name_is_seen_as_such(server: Primary) -> None:
    seen = await server.client("alias.example.org").look()
    assert (seen.alias, seen.addresses) == ("lb.elsewhere.net.", ())
    assert (await server.client("ns.example.org").look()).alias is None


def client(server: Primary, secret: str | None = None, **more: object) -> NameServer:
    where = server.where(**more)
    return NameServer(where, Names(f"chat.{where.zone}"), tsig(where, (secret or server.secret).encode()))


OTHER_KEY = {"name": "another", "secretRef": {"name": "dns-key"}}
READER = {"name": "reader", "secretRef": {"name": "dns-key"}}


async def test_a_wrong_secret_is_told_and_not_shown(server: Primary) -> None:
    wrong = "d3Jvbmcgd3Jvbmcgd3Jvbmc="
    with pytest.raises(DnsRefused, match="has another secret for key regions") as told:
        await client(server, wrong).look()
    assert wrong not in repr(told.value)
    assert wrong not in repr(client(server, wrong))


async def test_a_key_it_does_not_know_is_told(server: Primary) -> None:
    with pytest.raises(DnsRefused, match="does not let key another"):
        await client(server, tsig=OTHER_KEY).look()


async def test_a_zone_it_does_not_have_is_told(server: Primary) -> None:
    with pytest.raises(DnsRefused, match=r"about zone example\.net"):
        await client(server, zone="example.net").look()


async def test_a_key_that_may_only_read_is_told(server: Primary) -> None:
    reader = client(server, tsig=READER)
    await reader.look()
    with pytest.raises(DnsRefused, match="does not let key reader"):
        await reader.beat([], "v=1 region=east")


async def test_a_name_server_that_is_down_or_silent_is_told_and_comes_back(server: Primary) -> None:
    one = client(server)
    await one.beat([], "v=1 region=east")
    server.freeze()
    with pytest.raises(DnsUnreachable, match="no answer within 4 s"):
        await one.look()
    server.stop()
    with pytest.raises(DnsUnreachable, match=str(server.port)):
        await one.look()
    await server.start()
    assert (await one.look()).beats == ("v=1 region=east",)


@pytest.mark.parametrize("name", ["ns1..example.org", f"{'a' * 70}.example.org"])
async def test_a_server_of_a_name_that_is_none_is_told(server: Primary, name: str) -> None:
    """As an older CRD let it through."""
    one = client(server)
    nowhere = replace(one, where=one.where.model_copy(update={"server": name}))
    with pytest.raises(DnsUnreachable, match="name server"):
        await nowhere.look()


def test_a_secret_that_is_no_key_is_told_and_not_shown() -> None:
    where = Primary.where(_Nowhere(), port=53)  # type: ignore[arg-type]
    with pytest.raises(DnsRefused, match="key tsig of Secret dns-key is not a TSIG key in base64") as told:
        tsig(where, b"not base64!")
    assert "not base64" not in str(told.value)


class _Nowhere:
    host, port = "127.0.0.1", 53
