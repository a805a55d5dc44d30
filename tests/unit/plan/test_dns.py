"""Regions that share a host name, in a world of their own: beats, faults, and who is answered when.

Owns: the rules of plan/dns.py by tables and by random worlds. Must not know: name servers; `Zone` here does what RFC
2136 promises, and tests/integration/test_regions.py does the same against a real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotboat.plan import dns
from pilotboat.plan.dns import EVERY, GRACE, SETTLE, SICK, STALE, UNSETTLED, Act, Me, Memory
from pilotboat.plan.dns_records import Reading, State, beats_of, reading, state_of

PROMISED = 25.0


@dataclass
class Zone:
    """What the name server has; changes are made whole or not at all."""

    beats: dict[str, str] = field(default_factory=dict)
    state: str | None = None
    addresses: tuple[str, ...] = ()
    ttl: int = 5
    alias: str | None = None

    def read(self) -> Reading:
        ttl = self.ttl if self.addresses else None
        return reading(self.beats.values(), self.state, self.addresses, ttl, self.alias)

    @property
    def answer(self) -> str | None:
        told = state_of(self.state) if self.state else None
        return told.region if told else None


@dataclass
class Site:
    """One region's operator and what befalls it."""

    me: Me
    healthy: bool = True
    running: bool = True
    connected: bool = True
    wall: float = 1e9
    memory: Memory | None = None
    looked: float = 0.0

    def turn(self, zone: Zone, now: float) -> None:
        """As engine/region.py does it."""
        if not self.running or not self.connected:
            return
        seen = zone.read()
        self.memory = (
            dns.begin(self.me, seen, self.wall + now)
            if self.memory is None
            else dns.look(self.me, self.memory, seen, self.healthy, now - self.looked)
        )
        self.looked = now
        if dns.may_beat(self.me, self.memory, seen):
            count = max((beat.count for beat in beats_of(seen.beats, self.me.region)), default=0) + 1
            beat = dns.beat(self.me, self.memory, self.healthy, count, self.wall + now)
            zone.beats[self.me.region] = beat.text()
        decision = dns.decide(self.me, self.memory, seen, self.healthy)
        if decision.act is Act.WRITE and decision.state:
            assert zone.read() == seen or zone.beats, "nobody else acts in between"
            zone.state, zone.addresses, zone.ttl = decision.state.text(), tuple(sorted(self.me.targets)), self.me.ttl

    def restart(self) -> None:
        self.memory = None


class World:
    """Sites that take turns."""

    def __init__(self, *sites: Site) -> None:
        self.sites = {site.me.region: site for site in sites}
        self.zone = Zone()
        self.now = 0.0
        self.moves: list[tuple[float, str]] = []

    def run(self, seconds: float, each: Callable[[float], None] = lambda now: None) -> None:
        end = self.now + seconds
        while self.now < end:
            each(self.now)
            for site in self.sites.values():
                before = self.zone.answer
                site.turn(self.zone, self.now)
                if self.zone.answer != before and self.zone.answer:
                    self.moves.append((self.now, self.zone.answer))
            self.now += EVERY

    def until(self, answer: str, limit: float = 4000) -> float:
        """Seconds until that region is answered."""
        began = self.now
        while self.zone.answer != answer:
            assert self.now - began < limit, f"{answer} was never answered: {self.zone}"
            self.run(EVERY)
        return self.now - began


def site(region: str, priority: int = 0, **more: object) -> Site:
    number = {"east": 1, "west": 2, "north": 3}[region]
    return Site(Me(region, f"uid-{region}", (f"192.0.2.{number}",), priority, **more))  # type: ignore[arg-type]


def two(**more: object) -> World:
    """East is preferred, and answered."""
    world = World(site("east", 0, **more), site("west", 1, **more))
    world.run(60)
    assert world.moves == [(world.moves[0][0], "east")]
    return world


def test_the_preferred_region_is_answered_first_whoever_begins() -> None:
    world = World(site("west", 1), site("east", 0))
    world.run(60)
    assert [answer for _, answer in world.moves] == ["east"]
    assert world.zone.addresses == ("192.0.2.1",)


def test_a_region_alone_is_answered_though_it_is_not_preferred() -> None:
    world = World(site("west", 1))
    assert world.until("west") <= 2 * SETTLE + 2 * EVERY


@pytest.mark.parametrize("fault", ["running", "connected"])
def test_a_region_that_falls_silent_is_left_in_time(fault: str) -> None:
    world = two()
    setattr(world.sites["east"], fault, False)
    assert STALE <= world.until("west") <= PROMISED
    told = state_of(world.zone.state or "")
    assert told == State("west", moves=1, hold=300)


def test_a_region_that_says_it_does_not_serve_is_left_sooner() -> None:
    world = two()
    world.sites["east"].healthy = False
    assert SICK <= world.until("west") <= SICK + 3 * EVERY


def test_a_short_weakness_moves_nothing() -> None:
    world = two()
    world.sites["east"].healthy = False
    world.run(SICK - EVERY)
    world.sites["east"].healthy = True
    world.run(600)
    assert len(world.moves) == 1


def test_a_restarted_operator_moves_nothing() -> None:
    """A new leader beats again 16 s after the old one died."""
    world = two()
    for name in ("east", "west"):
        world.sites[name].running = False
        world.run(16)
        world.sites[name].restart()
        world.sites[name].running = True
        world.run(120)
    assert len(world.moves) == 1


def test_the_preferred_region_returns_when_it_has_been_well_long_enough() -> None:
    world = two()
    world.sites["east"].running = False
    world.until("west")
    world.run(600)
    world.sites["east"].running = True
    waited = world.until("east")
    assert 300 <= waited <= 300 + 3 * EVERY


def test_a_restart_resets_no_timer() -> None:
    world = two()
    world.sites["east"].running = False
    world.until("west")
    world.sites["east"].running = True
    world.run(200)
    world.sites["east"].restart()
    assert world.until("east") <= 100 + 5 * EVERY


def test_a_restart_after_a_long_time_begins_anew() -> None:
    """What stands in DNS of a cluster that was dead for a day says that it had been well for long."""
    world = two()
    world.run(400)
    world.sites["east"].running = False
    world.until("west")
    world.run(600)
    world.sites["east"].restart()
    world.sites["east"].running = True
    assert world.until("east") >= 300


@pytest.mark.parametrize("gone", [STALE + EVERY, 30, 55])
def test_a_region_that_was_lost_does_not_count_from_where_it_stopped(gone: float) -> None:
    """All of it died for half a minute: what it says of itself in DNS is from before it was lost."""
    world = two()
    world.run(400)
    world.sites["east"].running = False
    world.run(gone)
    world.sites["east"].restart()
    world.sites["east"].running = True
    world.until("west")
    assert world.until("east") >= 300


def test_manual_failback_waits_for_the_next_fault() -> None:
    world = two(automatic=False)
    world.sites["east"].running = False
    world.until("west")
    world.sites["east"].running = True
    world.run(1000)
    assert world.zone.answer == "west"
    world.sites["west"].running = False
    assert world.until("east") <= PROMISED


def test_nobody_takes_over_who_does_not_serve() -> None:
    world = two()
    world.sites["west"].healthy = False
    world.sites["east"].running = False
    world.run(600)
    assert world.zone.answer == "east"
    assert world.zone.addresses == ("192.0.2.1",), "the last answer stays"
    world.sites["west"].healthy = True
    assert world.until("west") <= 2 * EVERY


def test_a_name_server_that_was_away_makes_nobody_old() -> None:
    world = two()
    for each in world.sites.values():
        each.connected = False
    world.run(600)
    for each in world.sites.values():
        each.connected = True
    world.run(600)
    assert len(world.moves) == 1


def test_an_observer_that_was_cut_off_moves_nothing() -> None:
    world = two()
    world.sites["west"].connected = False
    world.run(1000)
    world.sites["west"].connected = True
    world.run(1000)
    assert len(world.moves) == 1


def test_both_believe_they_are_answered_and_one_is() -> None:
    """East is cut off, west takes over; east, which serves all the while, reads before it writes."""
    world = two()
    world.sites["east"].connected = False
    world.until("west")
    world.sites["east"].connected = True
    world.run(100)
    assert world.zone.answer == "west"
    assert world.zone.addresses == ("192.0.2.2",)


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 1e8])
def test_a_clock_that_jumps_does_nothing(jump: float) -> None:
    world = two()
    world.run(400)
    for each in world.sites.values():
        each.wall += jump
        world.run(100)
        each.restart()
        world.run(100)
    assert len(world.moves) == 1


def flapping(world: World, names: tuple[str, ...], period: float, phase: float, what: str) -> int:
    """Moves in 20 minutes in which these regions go down and up by turns."""
    began, before = world.now, len(world.moves)

    def flap(now: float) -> None:
        for number, name in enumerate(names):
            setattr(world.sites[name], what, (now - began + number * phase) // period % 2 == 1)

    world.run(1200, flap)
    return len(world.moves) - before


@pytest.mark.parametrize("what", ["healthy", "running", "connected"])
@pytest.mark.parametrize("names", [("east",), ("west",), ("east", "west")])
@pytest.mark.parametrize("phase", [0.0, 15.0, 30.0])
def test_twenty_minutes_of_flapping_move_it_twice_at_most(what: str, names: tuple[str, ...], phase: float) -> None:
    assert flapping(two(), names, 30, phase, what) <= 2


@settings(deadline=None, max_examples=20)
@given(period=st.floats(2, 50), phase=st.floats(0, 100), what=st.sampled_from(["healthy", "running", "connected"]))
def test_any_short_flapping_of_both_moves_it_twice_at_most(period: float, phase: float, what: str) -> None:
    assert flapping(two(), ("east", "west"), period, phase, what) <= 2


def test_the_hold_down_doubles_with_each_failure_up_to_an_hour_and_is_forgotten_after_six() -> None:
    world = two()
    holds = []
    for _ in range(6):
        world.sites["east"].healthy = False
        world.until("west")
        holds.append((state_of(world.zone.state or "") or State("")).hold)
        world.sites["east"].healthy = True
        assert world.until("east", 4000) >= holds[-1]
    assert holds == [300, 600, 1200, 2400, 3600, 3600]
    world.run(6 * 3600 + 60)
    world.sites["east"].healthy = False
    world.until("west")
    assert (state_of(world.zone.state or "") or State("")).hold == 300


def test_a_second_failure_within_the_hold_down_is_still_answered() -> None:
    world = two()
    world.sites["east"].running = False
    world.until("west")
    world.sites["east"].running = True
    world.run(100)
    world.sites["west"].running = False
    assert STALE + UNSETTLED <= world.until("east") <= STALE + UNSETTLED + 3 * EVERY


def test_of_three_the_next_best_takes_over_and_nobody_else() -> None:
    world = World(site("east", 0), site("north", 1), site("west", 2))
    world.run(60)
    world.sites["east"].running = False
    assert world.until("north") <= PROMISED
    world.run(300)
    assert [answer for _, answer in world.moves] == ["east", "north"]


def test_of_three_the_last_takes_over_where_two_are_gone() -> None:
    world = World(site("east", 0), site("north", 1), site("west", 2))
    world.run(60)
    world.sites["east"].running = world.sites["north"].running = False
    assert world.until("west") <= PROMISED


def test_the_next_best_that_cannot_take_it_is_waited_for_only_a_little() -> None:
    """North beats and never acts: as one whose key may write beats and nothing else."""
    world = World(site("east", 0), site("north", 1), site("west", 2))
    world.run(60)
    north = world.sites["north"]
    world.sites["east"].running = False

    def stuck(now: float) -> None:
        if north.memory:
            north.memory = Memory(0.0, north.memory.regions, north.memory.up)

    began = world.now
    while world.zone.answer == "east":
        world.run(EVERY, stuck)
        assert world.now - began < 100
    assert world.zone.answer == "west"
    assert world.now - began <= PROMISED + GRACE


def test_addresses_that_nobody_wrote_are_left_alone() -> None:
    world = World(site("east"))
    world.zone.addresses = ("198.51.100.7",)
    world.run(100)
    assert world.zone.addresses == ("198.51.100.7",)
    memory, seen = world.sites["east"].memory, world.zone.read()
    assert memory
    assert dns.decide(world.sites["east"].me, memory, seen, True).act is Act.REFUSED


def test_a_name_that_is_anothers_is_left_alone_whatever_the_state_says() -> None:
    world = World(site("east"))
    world.zone.alias = "lb.elsewhere.net."
    world.run(100)
    assert world.zone.state is None
    memory, me = world.sites["east"].memory, world.sites["east"].me
    assert memory
    for world.zone.state in (None, State("east").text(), State("west").text()):
        decision = dns.decide(me, memory, world.zone.read(), True)
        assert (decision.act, "another name of lb.elsewhere.net." in decision.why) == (Act.REFUSED, True)


def test_a_target_that_is_named_twice_is_written_once() -> None:
    twice = Site(Me("east", "uid-east", ("192.0.2.1", "192.0.2.1")))
    world = World(twice)
    world.until("east")
    world.zone.addresses = ("192.0.2.1",)  # a name server has each record once
    assert twice.memory
    assert dns.decide(twice.me, twice.memory, world.zone.read(), True).act is Act.NOTHING


def test_a_record_made_by_hand_for_a_region_is_taken_over() -> None:
    world = World(site("east"))
    world.zone.addresses = ("192.0.2.1",)
    assert world.until("east") <= 2 * SETTLE + 2 * EVERY


def test_a_changed_answer_is_set_right() -> None:
    world = two()
    world.zone.addresses = ("198.51.100.7",)
    world.run(EVERY)
    assert world.zone.addresses == ("192.0.2.1",)


def test_two_clusters_of_one_name_the_second_stands_back() -> None:
    world = World(site("east"))
    world.run(60)
    second = Site(Me("east", "uid-another", ("192.0.2.9",)))
    world.sites["second"] = second
    world.run(60)
    assert world.zone.addresses == ("192.0.2.1",)
    assert second.memory
    assert dns.decide(second.me, second.memory, world.zone.read(), True).act is Act.TWICE
    world.sites["east"].running = False
    world.run(STALE + 2 * SETTLE)
    assert world.zone.addresses == ("192.0.2.9",), "the name is free when nobody uses it"


@pytest.mark.parametrize("healthy", [True, False])
def test_a_second_cluster_of_one_name_never_has_the_answer_meanwhile(healthy: bool) -> None:
    """What it cannot know at its first look, whether the first lives, it waits for."""
    world = World(site("east"))
    world.run(60)
    world.sites["second"] = Site(Me("east", "uid-another", ("192.0.2.9",)), healthy=healthy)
    seen: list[tuple[str, ...]] = []
    for _ in range(20):
        for each in world.sites.values():
            each.turn(world.zone, world.now)
            seen.append(world.zone.addresses)
        world.now += EVERY
    assert set(seen) == {("192.0.2.1",)}


def test_who_leaves_hands_the_answer_to_whom_is_heard_of() -> None:
    world = two()
    east = world.sites["east"]
    assert east.memory
    found = dns.heir(east.me, east.memory, world.zone.read())
    assert found is not None
    assert found[0] == State("west", moves=1, hold=0)
    assert found[1].targets == ("192.0.2.2",)
    world.sites["west"].running = False
    world.run(STALE + 2 * EVERY)
    assert dns.heir(east.me, east.memory, world.zone.read()) is None


@pytest.mark.parametrize("stands_back", [True, False])
def test_who_has_another_clusters_name_has_nothing_to_give_away(stands_back: bool) -> None:
    """Its own answer it gives away also where its beat was lost, and nobody else has its name."""
    world = two()
    east = world.sites["east"]
    assert east.memory
    leaving = Me("east", "uid-another", ("192.0.2.9",)) if stands_back else east.me
    world.zone.beats = world.zone.beats if stands_back else {"west": world.zone.beats["west"]}
    seen = world.zone.read()
    assert dns.answers(leaving, seen) is not stands_back
    assert (dns.heir(leaving, east.memory, seen) is None) is stands_back


EVENTS = st.lists(
    st.tuples(
        st.floats(0, 200),
        st.sampled_from(["east", "west", "north"]),
        st.sampled_from(["healthy", "running", "connected", "restart", "jump"]),
        st.booleans(),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=20)
@given(events=EVENTS)
def test_whatever_happens_a_healthy_region_is_answered_in_the_end(events: list[tuple[float, str, str, bool]]) -> None:
    """And it stays answered: two regions never take it from each other."""
    world = World(site("east", 0), site("west", 1), site("north", 1))
    for wait, name, what, value in events:
        world.run(wait)
        if what == "restart":
            world.sites[name].restart()
        elif what == "jump":
            world.sites[name].wall += 3600 if value else -3600
        else:
            setattr(world.sites[name], what, value)
    world.run(UNSETTLED + STALE + 60)
    well = {name for name, each in world.sites.items() if each.healthy and each.running and each.connected}
    if well:
        assert world.zone.answer in well
        before = len(world.moves)
        world.run(1000)
        assert len(world.moves) <= before + 1, "no more than the return to the preferred region"
