"""Queries of a user's own, from a server over HTTP to the end of a canary.

A stand-in speaks /api/v1/query; the planner is the real one, against the cluster in miniature. Its clock is the test's.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import gzip
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pilotboat.api.analysis import Why
from pilotboat.api.crd import MODEL_DEPLOYMENT
from pilotboat.api.sources import SecretKey
from pilotboat.engine.errors import Forbidden, Unavailable
from pilotboat.engine.kinds import Key
from pilotboat.engine.metrics import Metrics
from pilotboat.engine.prometheus import AT_ONCE, MOST_BYTES, Prometheus
from pilotboat.plan import PLANNERS
from pilotboat.plan.types import Answer, Observed, Questions, Ref
from standins import prometheus as standin
from standins.prometheus import Reply, failure, scalar, vector
from unit.engine.server import Server
from unit.plan.test_course import Canary
from unit.plan.world import NOW, check_schema, condition

PATIENCE = 180.0
CHAT = Key("modeldeployments", "ml", "chat")
TOKEN = "s3cret-t0ken"
REF = SecretKey(name="prom")
NEVER = 3600.0
"""Seconds between two looks, where a test wants one."""


@dataclass
class World:
    """The engine's part, with an API server in memory that has the Secret."""

    timeout: float = PATIENCE
    server: Server = field(default_factory=Server)
    metrics: Metrics = field(default_factory=Metrics)
    woken: asyncio.Queue[Key] = field(default_factory=asyncio.Queue)
    clock: Callable[[], Any] = lambda: NOW

    def wake(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.woken.put_nowait(key)

    def hold(self, data: str | None) -> None:
        """The Secret with that value."""
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": REF.name, "namespace": CHAT.namespace}}
        self.server.put(body | {"data": {} if data is None else {REF.key: data}})

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Prometheus]:
        timeout = aiohttp.ClientTimeout(total=self.timeout)
        asker = Prometheus(
            self.server, self.wake, self.metrics.prometheus_queries, lambda: self.clock(), timeout=timeout
        )
        task = asyncio.create_task(asker.run())
        try:
            yield asker
            assert not task.done()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def look(self, asker: Prometheus, asked: Questions | None, key: Key = CHAT) -> tuple[Answer, ...]:
        """One look, as of an operator that has just begun."""
        asker.want(key, None)
        asker.want(key, asked)
        assert await asyncio.wait_for(self.woken.get(), PATIENCE) == key
        return asker.of(key)


@asynccontextmanager
async def serving(reply: Reply | None, clock: Callable[[], float] = NOW.timestamp) -> AsyncIterator[standin.Prometheus]:
    async with standin.Prometheus(clock, reply).serving() as server:
        yield server


def one(server: standin.Prometheus, token: SecretKey | None = None, period: float = NEVER) -> Questions:
    return Questions(server.url, ("up",), period, token)


async def answer(reply: Reply | None, token: SecretKey | None = None, world: World | None = None) -> Answer:
    """What one look finds."""
    world = world or World()
    async with serving(reply) as server, world.asking() as asker:
        (found,) = await world.look(asker, one(server, token))
    return found


# what a server answers


@pytest.mark.parametrize(
    ("reply", "values"),
    [
        (vector(0.5), (0.5,)),
        (vector(1, "2e-3", 3), (1.0, 0.002, 3.0)),
        (vector(), ()),
        (vector("+Inf", "-Inf"), (float("inf"), float("-inf"))),
        (scalar("7"), (7.0,)),
    ],
    ids=["one series", "several", "none", "infinite", "a scalar"],
)
async def test_values(reply: Reply, values: tuple[float, ...]) -> None:
    found = await answer(reply)
    assert (found.values, found.trouble, found.at) == (values, None, NOW)
    assert found.stamp == (NOW.timestamp() if values else None)


def raw(body: bytes | str, status: int = 200, **headers: str) -> Reply:
    return lambda _: web.Response(body=body, status=status, headers=headers)


BOMB = gzip.compress(b'{"status": "success", "data": {"resultType": "vector", "result": []}}' + b" " * 2**24)
BAD: dict[str, tuple[Reply, str]] = {
    "a query that cannot be read": (
        failure(400, "bad_data", 'parse error:\n at "up("'),
        'HTTP 400: parse error: at "up(',
    ),
    "an error in a good answer": (failure(200, "internal", "broken"), "HTTP 200: broken"),
    "a gateway's error": (raw("<html>Bad gateway</html>", 502), "HTTP 502"),
    "a page": (raw("<html>Welcome</html>"), "not that of a Prometheus"),
    "a list": (raw("[1, 2]"), "not that of a Prometheus"),
    "nothing": (raw(""), "not that of a Prometheus"),
    "half of it": (raw('{"status": "success", "da'), "not that of a Prometheus"),
    "nested without end": (raw("[" * 100000), "not that of a Prometheus"),
    "no data": (raw('{"status": "success"}'), "not one that gives numbers"),
    "a range": (lambda _: standin.success("matrix", []), "not one that gives numbers"),
    "a word": (vector("soon"), "not one that gives numbers"),
    "a histogram": (lambda _: standin.success("vector", [{"histogram": [1, {}]}]), "not one that gives numbers"),
    "too much": (raw(b" " * (MOST_BYTES + 1)), f"more than {MOST_BYTES} bytes"),
    "packed": (raw(BOMB, **{"Content-Encoding": "gzip"}), "not that of a Prometheus"),
    "no HTTP length that holds": (raw("", 200, **{"Content-Encoding": "odd"}), "not that of a Prometheus"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
async def test_what_is_no_answer(case: tuple[Reply, str]) -> None:
    reply, words = case
    found = await answer(reply)
    assert found.values == ()
    assert found.trouble
    assert found.trouble[0] is Why.NO_ANSWER
    assert words in found.trouble[1]


async def test_a_server_that_does_not_answer_in_time() -> None:
    found = await answer(None, world=World(timeout=0.05))
    assert found.trouble == (Why.NO_ANSWER, "no answer within 0.05 s")


async def test_a_server_that_is_not_there() -> None:
    world = World()
    async with serving(vector(1)) as server, world.asking() as asker:
        await server.stop()
        (found,) = await world.look(asker, one(server))
    assert found.trouble == (Why.NO_ANSWER, "it cannot be reached")


# the token


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_the_token_goes_to_the_address_named_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world = World()
    world.hold(encoded(f"{TOKEN}\n"))
    async with serving(vector(1)) as elsewhere, serving(None) as server, world.asking() as asker:
        there = {"Location": f"{elsewhere.url}/api/v1/query?query=up", "Set-Cookie": "a=b"}
        server.reply = raw("", 302, **there)
        (found,) = await world.look(asker, one(server, REF))
        assert found.trouble == (Why.NO_ANSWER, "HTTP 302: it sends elsewhere, which is not followed")
        assert [request.authorization for request in server.requests] == [f"Bearer {TOKEN}"]
        assert elsewhere.requests == []
        server.reply = failure(403, "forbidden", f"no such token: {TOKEN}")
        (found,) = await world.look(asker, one(server, REF))
        assert found.trouble == (Why.NO_ANSWER, "HTTP 403")
    assert TOKEN not in caplog.text


async def test_a_new_token_is_taken_with_the_next_look() -> None:
    world = World()
    async with serving(vector(1)) as server, world.asking() as asker:
        for token in ("first", "second"):
            world.hold(encoded(token))
            await world.look(asker, one(server, REF))
    assert [request.authorization for request in server.requests] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("data", [None, "", "not base64", encoded("two words"), encoded("a\nb"), encoded("\u0441")])
async def test_a_secret_without_a_token(data: str | None) -> None:
    world = World()
    world.hold(data)
    found = await answer(vector(1), REF, world)
    assert found.trouble == (Why.NO_ANSWER, "Secret prom has no token in its key token")


@pytest.mark.parametrize(
    ("refusal", "why", "words"),
    [
        (None, Why.NO_ANSWER, "does not exist"),
        (Forbidden(403, "Forbidden", TOKEN), Why.NOT_PERMITTED, "may not read Secret prom"),
        (Unavailable(0, "TimeoutError", TOKEN), Why.NO_ANSWER, "cannot be read now: TimeoutError"),
    ],
)
async def test_a_secret_that_cannot_be_had(refusal: Exception | None, why: Why, words: str) -> None:
    world = World()

    async def refuses(verb: str, ref: Ref) -> None:
        if refusal:
            raise refusal

    world.server.trouble = refuses
    async with serving(vector(1)) as server, world.asking() as asker:
        (found,) = await world.look(asker, one(server, REF))
        assert server.requests == [], "without its token nothing is asked"
    assert found.trouble
    assert found.trouble[0] is why
    assert words in found.trouble[1]
    assert TOKEN not in found.trouble[1]


# when it is asked


async def test_nothing_is_asked_before_and_after_somebody_wants_to_know() -> None:
    world, other = World(), Key("modeldeployments", "ml", "other")
    async with serving(vector(1)) as server, world.asking() as asker:
        asker.want(CHAT, None)
        asker.want(CHAT, one(server, period=0.001))
        for _ in range(5):
            assert await asyncio.wait_for(world.woken.get(), PATIENCE) == CHAT
        asker.want(CHAT, None)
        assert asker.of(CHAT) == ()
        before = len(server.requests)
        while not world.woken.empty():
            world.woken.get_nowait()
        for _ in range(5):
            assert len(await world.look(asker, Questions(server.url, ("other",), NEVER), other)) == 1
        assert sum(request.query == "up" for request in server.requests[before:]) <= 1, "what was under way"


async def test_within_a_period_nothing_is_asked_twice() -> None:
    world, other = World(), Key("modeldeployments", "ml", "other")
    async with serving(vector(1)) as server, world.asking() as asker:
        await world.look(asker, one(server))
        for query in ("up", "down", "up"):
            asker.want(CHAT, Questions(server.url, (query,), NEVER))
            await world.look(asker, Questions(server.url, ("other",), NEVER), other)
        assert [request.query for request in server.requests if request.query != "other"] == ["up"]
        assert asker.of(CHAT) == (), "what was asked before says nothing of other questions"


async def test_a_server_that_hangs_holds_up_nobody_else() -> None:
    world = World()
    async with serving(None) as hangs, serving(vector(1)) as well, world.asking() as asker:
        stuck = [Key("modeldeployments", "ml", f"stuck-{n}") for n in range(8 * AT_ONCE)]
        for key in stuck:
            asker.want(key, one(hangs))
        for n in range(4):
            found = await world.look(asker, one(well), Key("modeldeployments", "ml", f"well-{n}"))
            assert found[0].values == (1.0,)
        assert not any(asker.of(key) for key in stuck)
        assert len(hangs.requests) <= AT_ONCE


async def test_a_bug_ends_one_look_and_the_next_comes() -> None:
    world = World(clock=lambda: 1 / 0)
    async with serving(vector(1)) as server, world.asking() as asker:
        asker.want(CHAT, one(server, period=0.001))
        async with asyncio.timeout(PATIENCE):
            while len(server.requests) < 3:  # noqa: ASYNC110 -- there is no event for it
                await asyncio.sleep(0.01)


# what becomes of a canary

QUERY = "sum(rate(errors{pod=~'$name-$canary-.*'}[1m]))"


class Judged(Canary):
    """A canary that is judged by a query besides its traffic."""

    answers: tuple[Answer, ...] = ()

    def __init__(self, url: str, **analysis: Any) -> None:
        prometheus = {"url": url, "queries": [{"name": "wrong", "query": QUERY, "max": 0.05}]}
        off = {"firstToken": {"enabled": False}, "perToken": {"enabled": False}}
        super().__init__(analysis={**off, "prometheus": prometheus, **analysis})

    @property
    def observed(self) -> Observed:
        return dataclasses.replace(super().observed, answers=self.answers)

    @property
    def record(self) -> dict[str, Any]:
        (found,) = self.status["rollout"]["decision"]["queries"]
        return dict(found)


@dataclass
class Story:
    """A canary, the server that is asked of it, and an operator that begins anew with each look."""

    server: standin.Prometheus
    asker: Prometheus
    world: World
    cluster: Judged
    new: str

    @property
    def queries(self) -> set[str]:
        return {request.query for request in self.server.requests}

    async def look(self, reply: Reply | None) -> None:
        """A minute of traffic, then a look."""
        self.cluster.minute()
        await self.hear(reply)

    async def hear(self, reply: Reply | None) -> None:
        """A look, and what comes of it."""
        self.server.reply = reply
        asked = PLANNERS["modeldeployments"].asks(self.cluster.parent)
        self.cluster.answers = await self.world.look(self.asker, asked) if asked else ()
        self.cluster.settle()
        check_schema(MODEL_DEPLOYMENT, self.cluster.status)


@asynccontextmanager
async def story(limit: float = PATIENCE, **analysis: Any) -> AsyncIterator[Story]:
    """At the first step, in which the canary has a tenth of the traffic for a minute: of stable there are series."""
    async with untried(limit, **analysis) as told:
        await told.hear(vector(0.01))
        assert told.cluster.status["rollout"]["weight"] == 10
        yield told
        pods = {query.removeprefix("sum(rate(errors{pod=~'chat-")[:8] for query in told.queries}
        assert pods == {told.cluster.first, told.new}


@asynccontextmanager
async def untried(limit: float = PATIENCE, **analysis: Any) -> AsyncIterator[Story]:
    """A canary that is ready, before anything was asked."""
    world = World(limit)
    async with serving(vector(0.01)) as server, world.asking() as asker:
        cluster = Judged(server.url, **analysis)
        world.clock, server.clock = (lambda: cluster.now), (lambda: cluster.now.timestamp())
        assert PLANNERS["modeldeployments"].asks(cluster.parent) is None, "no canary, no question"
        new = cluster.push(7)
        cluster.settle()
        assert (cluster.shares, cluster.replicas[new]) == ({cluster.first: 1000}, 1)
        yield Story(server, asker, world, cluster, new)


async def promoted(told: Story) -> None:
    """With values that keep their bound it goes on to the end."""
    for _ in range(20):
        if "rollout" in told.cluster.status:
            await told.look(vector(0.01, 0.02))
    assert told.cluster.status["rollouts"][0]["outcome"] == "Promoted"


async def test_a_value_that_keeps_its_bound_stands_in_nobodys_way() -> None:
    async with story() as told:
        await promoted(told)
        asked = len(told.server.requests)
        await told.look(vector(0.5))
        assert len(told.server.requests) == asked, "at rest nothing is asked"


async def test_a_metric_that_does_not_exist_keeps_the_canary_from_users_until_it_does() -> None:
    async with untried() as told:
        for _ in range(3):
            await told.hear(vector())
            ready = condition(told.cluster.status, "Ready")
            assert (ready["reason"], told.cluster.shares) == ("QueryUnanswered", {told.cluster.first: 1000})
            assert "rollout.analysis.prometheus.queries[0] (wrong): no series" in ready["message"]
        assert told.queries == {QUERY.replace("$name-$canary", f"chat-{told.cluster.first}")}
        await told.hear(vector(0.01))
        assert told.cluster.shares == {told.new: 100, told.cluster.first: 900}
        await promoted(told)


async def test_who_knows_better_skips_the_query_and_the_canary_is_held_at_its_share() -> None:
    async with untried() as told:
        await told.hear(vector())
        rollout = told.cluster.parent["spec"]["rollout"]
        told.cluster.edit(rollout=rollout | {"action": {"verb": "Skip", "id": "1"}})
        told.cluster.settle()
        for _ in range(3):
            await told.look(vector())
        held(told.cluster, "the answer is empty")


OUTAGES: dict[str, tuple[Reply | None, str]] = {
    "empty": (vector(), "the answer is empty"),
    "NaN": (vector("NaN"), "NaN or infinite"),
    "stale": (vector(0.01, age=600), "the answer is of 600 s ago"),
    "slow": (None, "no answer within 2 s"),
    "an error": (failure(503, "unavailable", "starting up"), "HTTP 503: starting up"),
}


@pytest.mark.parametrize("case", OUTAGES.values(), ids=OUTAGES)
async def test_what_is_no_answer_holds_until_there_is_one(case: tuple[Reply | None, str]) -> None:
    reply, words = case
    async with story(limit=2 if reply is None else PATIENCE) as told:
        for _ in range(3):
            await told.look(reply)
        held(told.cluster, words)
        await told.look(vector(0.01))
        assert told.cluster.status["rollout"]["step"] == 1
        await promoted(told)


async def test_a_server_that_is_down_holds_until_it_is_back() -> None:
    async with story() as told:
        await told.server.stop()
        for _ in range(3):
            await told.look(vector(0.01))
        held(told.cluster, "it cannot be reached")
        await told.server.start()
        await told.look(vector(0.01))
        assert told.cluster.status["rollout"]["step"] == 1


def held(cluster: Judged, words: str) -> None:
    state = cluster.status["rollout"]
    assert (state["phase"], state["step"], state["weight"]) == ("Holding", 0, 10)
    assert words in state["message"]
    assert "query wrong" in state["message"]
    assert (cluster.record["verdict"], cluster.record["why"], cluster.record["failures"]) == ("Hold", "NoAnswer", 0)
    assert condition(cluster.status, "CanaryHealthy")["reason"] == "CanaryHolding"
    assert condition(cluster.status, "CanaryHealthy")["status"] == "Unknown"


async def test_three_looks_beyond_the_bound_give_the_canary_up() -> None:
    async with story() as told:
        await told.look(vector(0.01))
        await told.look(vector(0.2))
        assert told.cluster.record["failures"] == 1
        await told.look(vector(0.01))
        assert told.cluster.record["failures"] == 0
        for failures in (1, 2):
            await told.look(vector(0.01, 0.3))
            record = told.cluster.record
            shown = (record["failures"], record["value"], record["max"], record["verdict"], record["why"])
            assert shown == (failures, 0.3, 0.05, "Hold", "BeyondBound")
        await told.look(vector())
        assert told.cluster.record["failures"] == 2
        await told.look(vector(0.2))
        assert told.cluster.status["rollout"]["phase"] == "Aborted"
        assert told.cluster.shares == {told.cluster.first: 1000}
        why = "query wrong: 0.2 is above 0.05, in 3 of 3 looks in a row that give the canary up"
        reason, message = told.cluster.story[-1]
        assert (reason, message.startswith(f"{why}; verdict Abort (BeyondBound) at ")) == ("CanaryRolledBack", True)
        assert "query wrong Abort: value 0.2, max 0.05, looks 3 of 3" in message
        assert told.cluster.status["rollouts"][0]["message"] == why
        asked = len(told.server.requests)
        await told.look(vector(0.5))
        assert len(told.server.requests) == asked, "of what was given up nothing is asked"


async def test_queries_alone_hold_and_give_up_and_the_steps_clock_promotes() -> None:
    async with story(errors={"enabled": False}) as told:
        for _ in range(3):
            await told.look(vector())
        held(told.cluster, "the answer is empty")
        await promoted(told)


async def test_statistics_that_do_not_promote_are_not_outvoted() -> None:
    async with story(minSamples=1000000) as told:
        for _ in range(15):
            await told.look(vector(0.01))
        state = told.cluster.status["rollout"]
        assert (state["phase"], state["step"], state["decision"]["why"]) == ("Holding", 1, "TooFewRequests")


async def test_what_is_asked_is_counted() -> None:
    async with story() as told:
        await told.look(vector(0.2))
        assert told.world.metrics.registry.get_sample_value(
            "pilotboat_prometheus_queries_total", {"result": "answered"}
        ) == len(told.server.requests)
