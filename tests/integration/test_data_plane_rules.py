"""The data plane's rules: who goes where, what is refused, what is counted, and life without the API server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from yarl import URL

from lab.plane import free_ports
from pilotboat.api.outcomes import Outcomes
from pilotboat.api.routing import BOUNDS, Evidence, Minute
from pilotboat.plan.build import timestamp
from pilotboat.plan.feedback import absorb
from pilotboat_gateway import runtime
from tests.integration.cluster import Cluster
from tests.integration.gatewayproc import Gateway, addresses, gateway, replica, replicas, serving, until

STABLE, CANARY = "aaaa1111", "bbbb2222"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with addresses() as found, replicas(tmp_path_factory.mktemp("replicas"), [f"{found}.{n}" for n in (1, 2)]):
        yield found


@pytest.fixture
async def pod(cluster: Cluster, plane: Path, net: str) -> AsyncIterator[Gateway]:
    async with gateway(cluster, plane) as made:
        await lanes_on(made, net)
        yield made


async def lanes_on(made: Gateway, net: str, **more: object) -> None:
    """One replica in each lane, half of the traffic on each."""
    for revision, number in ((STABLE, 1), (CANARY, 2)):
        await serving(f"{net}.{number}")
        await made.endpoints(revision, f"{net}.{number}")
    await made.route(lanes={STABLE: 500, CANARY: 500}, **more)
    await made.serves({STABLE: 500, CANARY: 500})
    await made.ready()


async def changed(pod: Gateway, **route: object) -> None:
    """New rules for both lanes."""
    await pod.reload(lanes={STABLE: 500, CANARY: 500}, **route)


async def test_callers_stay_and_testers_choose(pod: Gateway) -> None:
    await changed(pod, sticky={"header": "x-user"})
    each = [await pod.models(4, x_user=f"user-{number}") for number in range(20)]
    assert all(len(seen) == 1 for seen in each)
    assert len({next(iter(seen)) for seen in each}) == 2
    assert set(await pod.models(20)) == {STABLE, CANARY}, "callers without the header take turns"

    await changed(pod, sticky={"cookie": "who"})
    async with pod.http.get(f"http://127.0.0.1:{pod.port}/v1/models") as response:
        first, cookie = response.headers["x-pilotboat-revision"], response.cookies["who"].value
    assert await pod.models(10, cookie=f"who={cookie}") == {first: 10}

    for value in ("yes", "-i", "--"):
        await changed(pod, testers={"header": "x-canary", "value": value, "revision": CANARY})
        assert await pod.models(10, x_canary=value) == {CANARY: 10}
        assert set(await pod.models(20, x_canary="no")) == {STABLE, CANARY}


async def test_a_share_that_changes_with_what_takes_a_reload_does_not_wait_for_it(pod: Gateway) -> None:
    """HAProxy says in its map that it is about to be replaced: by then it obeys."""

    async def entries() -> dict[str, str]:
        return await runtime.show_map(pod.folder / "runtime.sock", pod.folder / "lanes.map")

    async def leaving() -> bool:
        return "leaving" in await entries()

    await pod.route(lanes={STABLE: 1000, CANARY: 0}, max_queued=7)
    await until(leaving)
    assert (await entries())["split/chat"] == "1000|chat:0"
    assert await pod.models(20) == {STABLE: 20}
    await pod.ready()


async def test_testers_find_a_canary_that_begins_and_ends_without_a_reload(pod: Gateway) -> None:
    marked = {"header": "x-canary", "value": "yes"}
    await changed(pod, testers={**marked, "revision": None})
    assert set(await pod.models(20, x_canary="yes")) == {STABLE, CANARY}, "as everybody's"
    reloads = await pod.metric("reloads_total")
    for revision, seen in ((CANARY, {CANARY}), (None, {STABLE, CANARY}), (STABLE, {STABLE})):
        await pod.route(lanes={STABLE: 500, CANARY: 500}, testers={**marked, "revision": revision})
        await until(lambda wanted=seen: answered(pod, wanted))
    assert await pod.metric("reloads_total") == reloads


async def answered(pod: Gateway, wanted: set[str]) -> bool:
    """Whether testers are answered by these alone."""
    return set(await pod.models(20, x_canary="yes")) == wanted


@pytest.mark.parametrize("path", ["/readyz/inference", "/readyz/%69nference"])
async def test_the_deep_check_is_none_of_callers(pod: Gateway, path: str) -> None:
    """It would count for a revision, and anybody may ask it."""
    async with pod.http.get(URL(f"http://127.0.0.1:{pod.port}{path}", encoded=True)) as response:
        assert (response.status, "x-pilotboat-revision" in response.headers) == (404, False)
    async with pod.http.get(f"http://127.0.0.1:{pod.port}/readyz") as response:
        assert response.status == 200


async def test_the_queue_is_bounded(pod: Gateway) -> None:
    await changed(pod, server_limit=1, max_queued=2)
    asked = [asyncio.create_task(_status(pod, "fake:first=2")) for _ in range(12)]
    answers = await asyncio.gather(*asked)
    refused = [body for status, body, again in answers if status == 429 and again == "1"]
    assert [status for status, _, _ in answers].count(200) >= 4
    assert len(refused) >= 4
    assert {json.loads(body)["error"]["code"] for body in refused} == {"queue_full"}


async def _status(pod: Gateway, text: str) -> tuple[int, str, str | None]:
    async with pod.chat(text) as response:
        return response.status, await response.text(), response.headers.get("retry-after")


async def post(pod: Gateway, body: object) -> int:
    async with pod.http.post(f"http://127.0.0.1:{pod.port}/v1/feedback", json=body) as response:
        return response.status


@pytest.mark.parametrize(
    ("method", "body", "headers", "status", "param"),
    [
        ("POST", b"[]", {}, 400, None),
        ("POST", rb'{"request_id": "a", "outcome": "\u001b[2J"}', {}, 400, "outcome"),
        ("POST", b"xxxx", {"content-encoding": "gzip"}, 415, None),
        ("POST", b"x" * 100_000, {}, 413, None),
        ("GET", b"", {}, 405, None),
    ],
)
async def test_feedback_that_cannot_be_taken_is_refused_as_openai_would(
    pod: Gateway, method: str, body: bytes, headers: dict[str, str], status: int, param: str | None
) -> None:
    url = f"http://127.0.0.1:{pod.port}/v1/feedback"
    async with pod.http.request(method, url, data=body, headers=headers) as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert status != 400 or error["message"].startswith(f"{param or 'The body'}: ")
    assert "Traceback" not in pod.log()


async def test_feedback_counts_once_and_a_flood_of_it_harms_nothing(pod: Gateway) -> None:
    async with pod.http.get(f"http://127.0.0.1:{pod.port}/v1/models") as response:
        revision, request = response.headers["x-pilotboat-revision"], response.headers["x-request-id"]
    for _ in range(2):
        assert await post(pod, {"request_id": request, "outcome": "liked"}) == 204
    assert await post(pod, {"request_id": "nobody-1", "outcome": "liked"}) == 404
    assert await post(pod, {"request_id": request, "outcome": "x" * 65}) == 400
    assert (await pod.evidence()).feedback == {revision: {"liked": 1}}
    flood = await asyncio.gather(*(post(pod, {"request_id": request, "outcome": "a"}) for _ in range(400)))
    assert {204, 429} >= set(flood) > {204}
    assert await pod.metric("feedback_refused_total") == flood.count(429)
    assert await pod.metric("refused_total") == 0, "a flood has no lines: they would push others' out"
    assert set(await pod.models(20)) <= {STABLE, CANARY}, "users are answered as before"
    assert (await pod.evidence()).feedback == {revision: {"liked": 1}}


async def test_posts_are_counted_once_whatever_begins_anew(pod: Gateway) -> None:
    """The agent, which remembers nothing and has another name, and the operator, which has what is in status."""
    now = timestamp(datetime.now(UTC))
    begun = absorb(Outcomes(since=now, time=now), [await pod.evidence()], STABLE, CANARY)
    truth = Counter[str]()

    async def liked(count: int) -> Evidence:
        for _ in range(count):
            async with pod.http.get(f"http://127.0.0.1:{pod.port}/v1/models") as response:
                revision, request = response.headers["x-pilotboat-revision"], response.headers["x-request-id"]
            assert await post(pod, {"request_id": request, "outcome": "liked"}) == 204
            truth[revision] += 1
        return await pod.evidence()

    first = await liked(4)
    pod.kill("agent")
    pod.start("agent")
    await pod.ready()
    second = await liked(3)
    assert second.gateway != first.gateway
    assert second.began > first.now
    known = absorb(begun, [first], STABLE, CANARY)
    for heard in ([second], [first, second], [second, first]):
        known = absorb(Outcomes.model_validate(known.wire()), heard, STABLE, CANARY)
    assert {STABLE: known.stable.posts["liked"], CANARY: known.canary.posts["liked"]} == truth
    assert absorb(begun, [second, first], STABLE, CANARY).result == known.result


async def test_evidence_tells_requests_errors_and_first_tokens_by_revision(pod: Gateway, net: str) -> None:
    async def counted() -> bool:
        minutes = (await pod.evidence()).minutes
        return sum(minute.requests for found in minutes.values() for minute in found) >= 40

    await pod.models(40)
    await asyncio.gather(*(_late(pod) for _ in range(40)))
    await until(counted)
    found = await pod.evidence()
    for revision in (STABLE, CANARY):
        assert sum(minute.errors for minute in found.minutes[revision]) == 0
        histogram = sum(sum(minute.first_token.values()) for minute in found.minutes[revision])
        assert histogram == sum(minute.requests for minute in found.minutes[revision]) == 20, "polls are none"
        assert _sooner(found.minutes[revision], LATE) > 0, "how long the caller takes for his request is not counted"


async def test_who_gives_up_before_an_answer_is_told_with_how_long_he_waited(pod: Gateway) -> None:
    async def counted() -> list[Minute]:
        return [minute for found in (await pod.evidence()).minutes.values() for minute in found]

    with suppress(TimeoutError):
        async with asyncio.timeout(0.5), pod.chat("fake:first=60"):
            raise AssertionError("it was answered")
    await until(counted)
    (minute,) = await counted()
    assert (minute.requests, minute.errors, minute.first_token) == (1, 0, {})
    (at,) = minute.given_up
    assert BOUNDS[int(at)] >= 400


LATE = 2.0


async def _late(pod: Gateway) -> None:
    """A request whose body comes a while after its header."""
    body = b'{"model": "chat", "prompt": "fake:tokens=1"}'
    reader, writer = await asyncio.open_connection("127.0.0.1", pod.port)
    head = f"POST /v1/completions HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode())
    await asyncio.sleep(LATE)
    writer.write(body)
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()


def _sooner(minutes: list[Minute], seconds: float) -> int:
    """Answers that took less."""
    return sum(count for each in minutes for at, count in each.first_token.items() if BOUNDS[int(at)] < 1000 * seconds)


async def test_a_route_that_cannot_be_read_leaves_the_last_good_one(pod: Gateway) -> None:
    for text in ("{", '{"deployment": "chat", "port": 1, "lanes": [{"revision": "a\\nb"}]}'):
        await pod.write_route("chat", text)
        await until(lambda: _bad(pod, 1))
        assert set(await pod.models(10)) == {STABLE, CANARY}
    await pod.route("thief", port=pod.port, lanes={"cccc3333": 1000})
    await until(lambda: _bad(pod, 2))
    pod.kill("agent")
    pod.start("agent")
    await until(lambda: _bad(pod, 2))
    assert set(await pod.models(10)) == {STABLE, CANARY}


async def test_a_route_that_haproxy_refuses_holds_up_no_other(pod: Gateway, net: str) -> None:
    """Its words say why, and what stood before of the route stands."""
    refused = {"max_queued": 10**30}
    (port,) = free_ports(1)
    await pod.endpoints("any", f"{net}.1", name="other")
    await pod.route(lanes={STABLE: 1000}, **refused)
    await pod.route("new", port=port + 1, lanes={"any": 1000}, **refused)
    await pod.route("other", port=port, lanes={"any": 1000})
    await until(lambda: _bad(pod, 2))

    async def others() -> bool:
        try:
            async with pod.http.get(f"http://127.0.0.1:{port}/v1/models") as response:
                return response.status == 200
        except OSError:
            return False

    await until(others)
    assert set(await pod.models(10)) == {STABLE, CANARY}
    assert "is neither a number nor a supported operator" in pod.log()
    await pod.endpoints(CANARY, f"{net}.1")
    await until(lambda: _left(pod, f"{net}.2"))
    await pod.route(lanes={STABLE: 1000})
    await pod.serves({STABLE: 1000})
    await until(lambda: _bad(pod, 1))


async def _left(pod: Gateway, address: str) -> bool:
    return address not in await pod.active()


async def _bad(pod: Gateway, count: int) -> bool:
    return await pod.is_ready() and await pod.metric("bad_routes") == count


@asynccontextmanager
async def cable(upstream: str) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A port that leads to an address, and what cuts it: open connections break, new ones are refused."""
    writers: set[asyncio.StreamWriter] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(*upstream.rpartition("/")[2].split(":"))
        writers.update((writer, there[1]))
        await asyncio.gather(carry(reader, there[1]), carry(there[0], writer))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)

    def cut() -> None:
        server.close()
        for writer in writers:
            writer.close()

    yield server.sockets[0].getsockname()[1], cut
    cut()


async def test_without_the_api_server_traffic_goes_on_and_the_dead_leave(
    cluster: Cluster, plane: Path, net: str, tmp_path: Path
) -> None:
    host, config = cluster.configuration.host, tmp_path / "kubeconfig"
    async with cable(host) as (port, cut):
        here = plane.read_text().replace(host, f"https://127.0.0.1:{port}")  # noqa: ASYNC240 -- a page
        config.write_text(here)
        await _outlive(cluster, config, cut, net, tmp_path)


async def _outlive(cluster: Cluster, config: Path, cut: Callable[[], None], net: str, tmp_path: Path) -> None:
    with replica(tmp_path, f"{net}.3") as process:
        async with gateway(cluster, config) as pod:
            await lanes_on(pod, net)
            await serving(f"{net}.3")
            await pod.endpoints(STABLE, f"{net}.1", f"{net}.3")
            await pod.uses(f"{net}.3")
            cut()
            os.killpg(process.pid, signal.SIGKILL)
            assert set(await pod.models(40)) <= {STABLE, CANARY}, "who is dead is asked, and another answers"

            async def two_are_up() -> bool:
                return await pod.metric("servers_up") == 2

            await until(two_are_up)
            assert set(await pod.models(40)) == {STABLE, CANARY}
            for name in ("agent", "haproxy"):
                pod.kill(name)
                pod.start(name)

            async def answers() -> bool:
                try:
                    return set(await pod.models(20)) == {STABLE, CANARY}
                except OSError:
                    return False

            await until(answers)
