"""Workers, back-off and what a failed pass means, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from pilotboat.engine.engine import LONGEST_PASS, Engine
from pilotboat.engine.errors import Forbidden, Throttled, Unavailable
from pilotboat.engine.gateways import key_of
from pilotboat.engine.health import STUCK
from pilotboat.engine.kinds import MODEL_DEPLOYMENT, POD, SERVICE, Key
from pilotboat.engine.metrics import Metrics
from pilotboat.engine.newcomers import AT_FIRST
from pilotboat.engine.queue import JITTER, LONGEST_DELAY
from pilotboat.plan.types import Event, Observed, Plan, PlanSettings, Questions, Ref, Refusal
from tests.unit.engine.clock import run, wait
from tests.unit.engine.objects import child, newer, owner, parent, pod
from tests.unit.engine.server import Server

SETTINGS = PlanSettings("s", "t", "f", "g", "Always", (), None, "https://p", "")


@dataclass
class OneService:
    """Wants one Service a parent, and tells whether there is one."""

    passes: list[tuple[str, float]] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    requeue: timedelta | None = None
    gone: tuple[Ref, ...] = ()
    costs: dict[str, str | None] = field(default_factory=dict)
    seen: list[Observed] = field(default_factory=list)

    def references(self, parent: Mapping[str, Any]) -> tuple[Ref, ...]:
        return ()

    def wants_evidence(self, parent: Mapping[str, Any]) -> bool:
        return False

    def asks(self, parent: Mapping[str, Any]) -> Questions | None:
        return None

    def plan(self, observed: Observed, settings: PlanSettings, now: datetime) -> Plan:
        meta = observed.parent["metadata"]
        self.passes.append((meta["name"], asyncio.get_running_loop().time()))
        self.seen.append(observed)
        if meta["name"] in self.broken:
            raise ZeroDivisionError("a bug")
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "namespace": meta["namespace"],
                "name": meta["name"],
                "ownerReferences": [owner(dict(observed.parent))],
            },
            "spec": {"ports": [{"port": 80}]},
        }
        reason = next((rejection.message for rejection in observed.rejected.values()), "fine")
        status: dict[str, Any] = {"children": len(observed.children), "reason": reason}
        if observed.newcomers:
            status["newcomers"] = sorted(observed.newcomers)
        event = Event("Normal", "Looked", reason)
        resting = {**service, "metadata": {**service["metadata"], "name": f"{meta['name']}-after"}}
        return Plan(
            apply=(service,),
            after=(resting,) if meta["name"] == "two" else (),
            delete=self.gone,
            costs=self.costs,
            status=status,
            events=(event,),
            requeue_after=self.requeue,
        )

    def times(self, name: str) -> list[float]:
        return [time for each, time in self.passes if each == name]


class World:
    """A server, a planner and an engine at work."""

    def __init__(self) -> None:
        self.server = Server()
        self.planner = OneService()
        planners = {"modeldeployments": self.planner}
        self.metrics = Metrics()
        self.engine = Engine(self.server, planners, SETTINGS, self.metrics, workers=2, resync=10_000_000)  # type: ignore[arg-type]

    def status(self, name: str = "chat") -> Any:
        return self.server.objects[Ref.of(parent(name))].get("status")

    def written(self, verb: str) -> int:
        return sum(1 for each, _ in self.server.writes if each == verb)


Scenario = Callable[[World], Awaitable[None]]


def play(scenario: Scenario, *names: str) -> None:
    """The scenario, once the engine has come to rest with these parents."""

    async def scene() -> None:
        world = World()
        for name in names or ("chat",):
            world.server.put(parent(name))
        working = asyncio.ensure_future(world.engine.run())
        await wait(0.1)
        await scenario(world)
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working

    run(scene())


@contextmanager
def trouble(world: World, failing: Callable[[str, Ref], Awaitable[None]]) -> Iterator[None]:
    quiet, world.server.trouble = world.server.trouble, failing
    yield
    world.server.trouble = quiet


def test_what_is_planned_is_made_and_told_and_then_it_rests() -> None:
    async def scenario(world: World) -> None:
        assert world.status() == {"children": 1, "reason": "fine"}
        written = list(world.server.writes)
        await wait(10_000)
        assert world.server.writes == written
        told = {"kind": "ModelDeployment", "reason": "Looked"}
        counted = world.metrics.registry.get_sample_value("pilotboat_events_total", told)
        assert counted == world.written("apply_status"), "one event with each status that is written"

    play(scenario)


def test_a_bug_in_one_plan_is_retried_and_harms_no_other() -> None:
    async def scenario(world: World) -> None:
        world.planner.broken.add("bad")
        bad = world.server.put(newer(parent("bad")))
        world.engine.observe(MODEL_DEPLOYMENT, bad)
        world.engine.observe(MODEL_DEPLOYMENT, world.server.put(newer(parent("good"))))
        await wait(60)
        assert world.status("good")["children"] == 1
        first, *_, last = times = world.planner.times("bad")
        assert 5 <= len(times) <= 10
        assert last - first < 60
        world.planner.broken.clear()
        await wait(LONGEST_DELAY * (1 + JITTER))  # whatever the back-off has grown to by now
        assert world.status("bad")["children"] == 1

    play(scenario)


def test_429_is_waited_out_as_asked() -> None:
    async def scenario(world: World) -> None:
        async def throttled(verb: str, ref: Ref) -> None:
            raise Throttled(429, "TooManyRequests", "slow down", 40)

        began = asyncio.get_running_loop().time()
        with trouble(world, throttled):
            world.engine.observe(MODEL_DEPLOYMENT, world.server.put(newer(parent("late"))))
            await wait(39)
        await wait(30)
        times = world.planner.times("late")
        assert times[0] - began < 1
        assert times[1] - began >= 40
        assert world.status("late")["children"] == 1

    play(scenario)


def test_a_refusal_is_told_in_the_same_pass_and_tried_again() -> None:
    async def scenario(world: World) -> None:
        async def forbidden(verb: str, ref: Ref) -> None:
            if verb == "apply":
                raise Forbidden(403, "Forbidden", "exceeded quota")

        with trouble(world, forbidden):
            world.engine.observe(MODEL_DEPLOYMENT, world.server.put(newer(parent("poor"))))
            await wait(0.1)
            assert world.status("poor") == {"children": 0, "reason": "exceeded quota"}
            (rejection,) = world.planner.seen[-1].rejected.values()
            assert rejection.refusal is Refusal.FORBIDDEN
            statuses = world.written("apply_status")
            await wait(100)
            assert world.written("apply_status") == statuses
        await wait(400)
        assert world.status("poor") == {"children": 1, "reason": "fine"}

    play(scenario)


def test_who_is_to_go_first_is_told_before_there_are_fewer_and_a_refusal_holds_up_nothing() -> None:
    async def scenario(world: World) -> None:
        async def forbidden(verb: str, ref: Ref) -> None:
            if ref.name == "a":
                raise Forbidden(403, "Forbidden", "pods are not to be changed")

        world.planner.costs = {"a": "-1", "b": "-1"}
        with trouble(world, forbidden):
            world.engine.observe(MODEL_DEPLOYMENT, world.server.put(newer(parent("few"))))
            await wait(0.1)
        written = [(verb, ref.name) for verb, ref in world.server.writes if ref.name in ("a", "b", "few")]
        assert written[:3] == [("patch", "b"), ("apply", "few"), ("apply_status", "few")]

    play(scenario)


def refusing() -> Callable[[str, Ref], Awaitable[None]]:
    """As a webhook that is down does: the words have the source port, another each time."""
    ports = itertools.count(40000)

    async def refused(verb: str, ref: Ref) -> None:
        await asyncio.sleep(0.01)
        if verb == "apply":
            raise Forbidden(403, "InternalError", f"failed calling webhook: read tcp 10.0.0.5:{next(ports)}: reset")

    return refused


@pytest.mark.parametrize("first", ["answer", "watch"])
def test_a_refusal_in_other_words_each_time_knows_back_off(first: str) -> None:
    """The status that tells of it comes back by the watch as well as by the answer, and either may be first."""

    async def scenario(world: World) -> None:
        server = world.server

        async def seen_first(verb: str, ref: Ref) -> None:
            await refused(verb, ref)
            if verb == "apply_status" and first == "watch":
                asyncio.get_running_loop().call_soon(
                    lambda: world.engine.observe(MODEL_DEPLOYMENT, server.objects[ref])
                )

        refused = refusing()
        with trouble(world, seen_first):
            world.engine.observe(MODEL_DEPLOYMENT, server.put(newer(parent("poor"))))
            await wait(60)
        assert 10 <= len(world.planner.times("poor")) <= 20, "two for each pass, without and with the refusal"
        assert "webhook" in world.status("poor")["reason"], "each is told all the same"
        await wait(LONGEST_DELAY)
        assert world.status("poor") == {"children": 1, "reason": "fine"}
        passes = len(world.planner.passes)
        await wait(10_000)
        assert len(world.planner.passes) == passes

    play(scenario)


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("metadata", {"generation": 2}),
    ("metadata", {"annotations": {"a": "b"}}),
    ("status", {"progress": {"percent": 5}}),
]


@pytest.mark.parametrize(("part", "fields"), [*CHANGES, ("pod", {})])
def test_what_somebody_else_changes_is_not_held_up_by_back_off(part: str, fields: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        with trouble(world, refusing()):
            world.engine.observe(MODEL_DEPLOYMENT, world.server.put(newer(parent("poor"))))
            await wait(100)
            plans = len(world.planner.times("poor"))
            if part == "pod":
                world.engine.observe(POD, newer(pod(parent("poor"), "poor-1")))
            else:
                world.engine.observe(MODEL_DEPLOYMENT, world.server.edit(Ref.of(parent("poor")), part, **fields))
            await wait(0.005)
            assert len(world.planner.times("poor")) == plans + 1, "a pass has begun"

    play(scenario)


def test_a_change_that_the_answer_to_a_status_brings_is_not_taken_for_its_echo() -> None:
    """It comes by the watch later, in a version that is known by then, and wakes nobody."""

    async def scenario(world: World) -> None:
        ref, refused, edited = Ref.of(parent("poor")), refusing(), False

        async def edit(verb: str, at: Ref) -> None:
            nonlocal edited
            await refused(verb, at)
            if verb == "apply_status" and at == ref and len(world.planner.times("poor")) > 3 and not edited:
                edited = True
                world.server.edit(ref, "metadata", generation=2)

        with trouble(world, edit):
            world.engine.observe(MODEL_DEPLOYMENT, world.server.put(newer(parent("poor"))))
            while not edited:
                await wait(0.001)
            await wait(0.02)
            assert world.planner.seen[-1].parent["metadata"]["generation"] == 2

    play(scenario)


def test_what_rests_on_something_refused_is_not_done_before_that_is() -> None:
    async def scenario(world: World) -> None:
        async def forbidden(verb: str, ref: Ref) -> None:
            if verb == "apply" and ref.name == "two":
                raise Forbidden(403, "Forbidden", "exceeded quota")

        owner_of_both = newer(parent("two"))
        old = world.server.put(child(owner_of_both, "two-old"))
        world.planner.gone = (Ref.of(old),)
        with trouble(world, forbidden):
            world.engine.observe(MODEL_DEPLOYMENT, world.server.put(owner_of_both))
            world.engine.observe(SERVICE, old)
            await wait(100)
            assert names(world) == {"two-old"}
            assert world.status("two")["reason"] == "exceeded quota"
        await wait(400)
        assert names(world) == {"two", "two-after"}

    def names(world: World) -> set[str]:
        return {ref.name for ref in world.server.objects if ref.kind == "Service" and ref.name.startswith("two")}

    play(scenario)


def test_a_foreign_object_is_named_and_left() -> None:
    async def scenario(world: World) -> None:
        theirs = child(parent("somebody"), "mine")
        world.server.put(theirs)
        world.engine.observe(MODEL_DEPLOYMENT, world.server.put(newer(parent("mine"))))
        await wait(1)
        assert "belongs to ModelDeployment somebody" in world.status("mine")["reason"]
        assert world.server.objects[Ref.of(theirs)] == theirs

    play(scenario)


def test_a_plan_is_looked_at_again_when_it_asks() -> None:
    async def scenario(world: World) -> None:
        world.planner.requeue = timedelta(seconds=30)
        world.engine.queue.add(Key("modeldeployments", "ns", "chat"))
        await wait(100)
        times = world.planner.times("chat")[-4:]
        assert [round(later - earlier) for earlier, later in pairwise(times)] == [30, 30, 30]

    play(scenario)


def test_a_request_that_never_ends_costs_a_worker_two_minutes_and_no_more() -> None:
    async def scenario(world: World) -> None:
        async def hangs(verb: str, ref: Ref) -> None:
            if ref.name == "stuck":
                await asyncio.Event().wait()

        with trouble(world, hangs):
            world.engine.observe(MODEL_DEPLOYMENT, world.server.put(newer(parent("stuck"))))
            await wait(1)
            assert world.engine.queue.oldest_work() > 0
        await wait(LONGEST_PASS + 10)
        assert world.status("stuck")["children"] == 1
        assert world.engine.health.complaints() == []

    play(scenario)


def test_no_answer_is_retried_and_events_are_told_once_the_status_is_written() -> None:
    async def scenario(world: World) -> None:
        async def no_status(verb: str, ref: Ref) -> None:
            if verb == "apply_status":
                raise Unavailable(0, "Cut", "no connection")

        posted = world.written("create")
        with trouble(world, no_status):
            world.engine.observe(MODEL_DEPLOYMENT, world.server.put(newer(parent("mute"))))
            await wait(5)
            assert world.written("create") == posted
        await wait(30)
        assert world.written("create") > posted

    play(scenario)


def test_of_a_replica_nothing_is_told_before_gateways_were_asked_about_it() -> None:
    """Here none answers, so it is waited for no longer: a status of the moment between would be one too many."""

    async def scenario(world: World) -> None:
        served = world.server.put(parent("routed", spec={"traffic": "Gateway"}))
        world.engine.observe(MODEL_DEPLOYMENT, served)
        await wait(0.1)
        before = world.written("apply_status")
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        world.engine.observe(POD, newer(pod(served, "a"), status=ready))
        await wait(0.1)
        assert world.planner.seen[-1].newcomers == {"a"}
        await wait(AT_FIRST)
        assert world.planner.seen[-1].newcomers == set()
        assert world.written("apply_status") == before

    play(scenario)


def test_a_parent_that_is_gone_is_forgotten() -> None:
    async def scenario(world: World) -> None:
        raw = world.server.objects.pop(Ref.of(parent()))
        world.engine.observe(SERVICE, world.server.objects[Ref("v1", "Service", "ns", "chat")], deleted=True)
        world.engine.observe(MODEL_DEPLOYMENT, newer(raw, status={}))
        await wait(5)
        assert list(world.engine.store.parents()) == []
        assert len(world.engine.queue) == world.engine.queue.delayed == 0

    play(scenario)


def test_deletion_stops_everything() -> None:
    async def scenario(world: World) -> None:
        world.planner.requeue = timedelta(seconds=5)
        raw = world.server.objects.pop(Ref.of(parent()))
        world.engine.observe(MODEL_DEPLOYMENT, newer(raw), deleted=True)
        await wait(1)
        passes = len(world.planner.passes)
        await wait(1000)
        assert len(world.planner.passes) == passes

    play(scenario)


@pytest.mark.parametrize("waiting", [0, 1])
def test_health_tells_that_no_work_gets_done(waiting: int) -> None:
    async def scenario() -> None:
        world = World()
        world.engine.health.working = True
        world.engine.queue.add(Key("modeldeployments", "ns", "a"))
        if not waiting:
            await world.engine.queue.get()
        await wait(STUCK + 1)
        assert any("pass" in complaint for complaint in world.engine.health.complaints())

    run(scenario())


def test_what_was_wrong_with_a_gateway_goes_with_it() -> None:
    async def scenario(world: World) -> None:
        gateways = world.engine.store.gateways
        gateways.tell("gone", {"reason": "PodRejected", "message": "no"})
        world.engine.queue.add(key_of("gone"))
        await wait(1)
        assert gateways.state("gone").trouble is None

    play(scenario)
