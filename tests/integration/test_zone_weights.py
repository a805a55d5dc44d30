"""Zones through the real HAProxy: a weight holds against the replicas' own word, and probes tell who is reached."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from pilotboat_gateway.runtime import Placed, Unreachable, servers, stats, tell
from tests.integration.cluster import Cluster
from tests.integration.gatewayproc import Gateway, addresses, gateway, network, replicas, serving, until

REVISION = "aaaa1111"
LONG = "fake:tokens=600 fake:delay=0.1"
ZONES = {1: "a", 2: "b"}
Replicas = tuple[str, list[subprocess.Popen[bytes]]]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    """.1 is in zone a, .2 in zone b."""
    with addresses() as found, replicas(tmp_path_factory.mktemp("replicas"), [f"{found}.{n}" for n in ZONES]) as made:
        yield found, made


@pytest.fixture
async def pod(cluster: Cluster, plane: Path, net: Replicas) -> AsyncIterator[Gateway]:
    for number in ZONES:
        await serving(f"{net[0]}.{number}")
    async with gateway(cluster, plane) as made:
        await made.endpoints(REVISION, *(f"{net[0]}.{n}" for n in ZONES), zones=dict(ZONES))
        await weigh(made)
        await made.serves({REVISION: 1000})
        await made.ready()
        yield made


async def weigh(pod: Gateway, **zones: int) -> None:
    """Zones that get less, until HAProxy does so."""
    await pod.route(lanes={REVISION: 1000}, zones=zones)
    wanted = {f".{number}": zones.get(zone) for number, zone in ZONES.items()}

    async def set_so() -> bool:
        try:
            found = await servers(pod.folder / "runtime.sock")
        except Exception:  # HAProxy starts
            return False
        told = {f".{each.address.rpartition('.')[2]}": each.weight for each in found.values() if here(each)}
        return told == wanted

    await until(set_so)


def here(each: Placed) -> bool:
    """Whether it is a slot of a replica of ours."""
    return not each.maintenance and each.address.startswith(network())


async def streams(pod: Gateway, count: int, stack: AsyncExitStack) -> dict[str, int]:
    """So many long streams at once: by the address's last number."""
    answers = await asyncio.gather(*(stream(pod) for _ in range(count)))
    for answer in answers:
        stack.callback(answer.close)
    found = await servers(socket(pod))
    placed = {name: each.address.rpartition(".")[2] for name, each in found.items() if here(each)}
    rows = await stats(socket(pod))
    return {
        placed[row["pxname"], row["svname"]]: int(row["scur"])
        for row in rows
        if (row["pxname"], row["svname"]) in placed and row["scur"] != "0"
    }


async def stream(pod: Gateway) -> aiohttp.ClientResponse:
    answer = await pod.chat(LONG, stream=True)
    assert answer.status == 200
    return answer


def socket(pod: Gateway) -> Path:
    return pod.folder / "runtime.sock"


async def test_a_zone_gets_nothing_new_then_a_share_then_all_without_a_reload(pod: Gateway) -> None:
    reloads = await pod.metric("reloads_total")
    for weight, expected in ((0, {"1": 22}), (10, {"1": 20, "2": 2}), (50, {"1": 20, "2": 10})):
        await weigh(pod, b=weight)
        async with AsyncExitStack() as stack:
            assert await streams(pod, sum(expected.values()), stack) == pytest.approx(expected, abs=1)
        await until(lambda: idle(pod))
    await weigh(pod)
    async with AsyncExitStack() as stack:
        assert await streams(pod, 20, stack) == pytest.approx({"1": 10, "2": 10}, abs=1)
    assert await pod.metric("reloads_total") == reloads


async def idle(pod: Gateway) -> bool:
    return not any((await pod.evidence()).open_streams.values())


async def test_a_weight_outlives_the_agent_and_haproxy(pod: Gateway) -> None:
    await weigh(pod, b=0)
    for container in ("agent", "haproxy"):
        pod.kill(container)
        pod.start(container)
        await pod.ready()
        await weigh(pod, b=0)
        async with AsyncExitStack() as stack:
            assert await streams(pod, 4, stack) == {"1": 4}
        await until(lambda: idle(pod))


async def test_haproxy_alone_begins_with_nothing_for_a_zone_that_gets_nothing(pod: Gateway, net: Replicas) -> None:
    """As long as there is no agent to steer it, as where the API server is away."""
    await weigh(pod, b=0)
    for container in ("agent", "haproxy"):
        pod.kill(container)
    pod.start("haproxy")
    await until(lambda: runs(pod))
    assert await pod.active() >= {f"{net[0]}.1"}
    assert f"{net[0]}.2" not in await pod.active()


async def runs(pod: Gateway) -> bool:
    try:
        return bool(await servers(socket(pod)))
    except Unreachable:
        return False


@pytest.mark.parametrize("weight", [0, 50])
async def test_a_new_replica_gets_the_weight_of_its_zone(pod: Gateway, net: Replicas, weight: int) -> None:
    """Also where the server's slot has that weight already, from the one that sat there before."""
    await weigh(pod, b=weight)
    await pod.endpoints(REVISION, f"{net[0]}.1", zones=dict(ZONES))
    await until(lambda: gone(pod, f"{net[0]}.2"))
    await pod.endpoints(REVISION, *(f"{net[0]}.{n}" for n in ZONES), zones=dict(ZONES))
    await pod.uses(f"{net[0]}.2")
    assert await weights(pod) == {f"{net[0]}.1": None, f"{net[0]}.2": weight}


async def gone(pod: Gateway, address: str) -> bool:
    """Its slot is free again, not only drained."""
    return address not in await weights(pod)


async def weights(pod: Gateway) -> dict[str, int | None]:
    return {each.address: each.weight for each in (await servers(socket(pod))).values() if here(each)}


@pytest.mark.parametrize("zones", [{}, {"b": 0}])
async def test_a_weight_that_is_another_than_it_should_be_is_noticed(pod: Gateway, zones: dict[str, int]) -> None:
    """Nothing else changes, so nobody tells the agent to look."""
    await weigh(pod, **zones)
    before = await weights(pod)
    await tell(socket(pod), [f"disable agent {slot}" for slot in await slots(pod)])
    await tell(socket(pod), [f"set server {slot} weight 70%" for slot in await slots(pod)])
    assert await weights(pod) != before

    async def mended() -> bool:
        return await weights(pod) == before

    await until(mended)


async def slots(pod: Gateway) -> list[str]:
    return ["/".join(name) for name, each in (await servers(socket(pod))).items() if here(each)]


async def test_no_weight_anywhere_is_no_service(pod: Gateway) -> None:
    """An error after a moment's wait; the planner never takes the last zone that serves."""
    await weigh(pod, a=0, b=0)
    assert set(await pod.models(4)) == {"503"}
    await weigh(pod, b=0)
    assert set(await pod.models(4)) == {REVISION}


async def test_probes_tell_within_six_seconds_who_is_reached_no_more(pod: Gateway, net: Replicas) -> None:
    name, processes = net
    assert {pod: seen.up for pod, seen in (await pod.evidence()).replicas.items()} == {
        f"pod-{name}.1": True,
        f"pod-{name}.2": True,
    }
    assert await pod.unreached() == []
    os.killpg(processes[1].pid, signal.SIGSTOP)
    try:
        await until(lambda: down(pod, f"pod-{name}.2"))
        assert set(await pod.models(20)) == {REVISION}
        await until(lambda: tells(pod, [f"pod-{name}.2"]))
    finally:
        os.killpg(processes[1].pid, signal.SIGCONT)
    await until(lambda: up(pod, f"pod-{name}.2"))
    await until(lambda: tells(pod, []))


async def test_who_gets_nothing_is_tried_with_a_request_of_our_own(pod: Gateway, net: Replicas) -> None:
    """Those that have their share are left alone. The last test here: it ends a replica."""
    name, processes = net
    await weigh(pod, b=0)
    await until(lambda: canned(pod, {f"pod-{name}.1": None, f"pod-{name}.2": ""}))
    os.killpg(processes[1].pid, signal.SIGKILL)
    await until(lambda: canned(pod, {f"pod-{name}.1": None, f"pod-{name}.2": "ClientConnectorError"}))
    await weigh(pod)
    await until(lambda: canned(pod, {f"pod-{name}.1": None, f"pod-{name}.2": None}))


async def canned(pod: Gateway, wanted: dict[str, str | None]) -> bool:
    found = {name: seen.canned for name, seen in (await pod.evidence()).replicas.items()}
    return {name: told and told.partition(":")[0] for name, told in found.items()} == wanted


async def tells(pod: Gateway, unreached: list[str]) -> bool:
    return await pod.unreached() == unreached


async def down(pod: Gateway, replica: str) -> bool:
    return not (await pod.evidence()).replicas[replica].up


async def up(pod: Gateway, replica: str) -> bool:
    return (await pod.evidence()).replicas[replica].up
