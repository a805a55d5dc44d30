"""The state machine of a zone: when it acts, when it refuses, how slowly it goes back."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilotboat.api.recovery import Zones, ZoneState, ZoneStatus
from pilotboat.plan import census, zones
from pilotboat.plan.build import timestamp
from pilotboat.plan.census import World, Zone
from pilotboat.plan.load import ALIKE, Load
from pilotboat.plan.types import Node
from tests.unit.plan.world import NOW, Pod

H, S, L, R, T = (ZoneState(name) for name in ("Healthy", "Suspect", "Lost", "Recovering", "Returning"))
States = tuple[ZoneStatus, ...]


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def zone(name: str, nodes: int, suspect: int, replicas: int, failing: int, ready: int = 0) -> Zone:
    """With all replicas alike."""
    return Zone(name, nodes, suspect, replicas, failing, {ALIKE: ready} if ready else {})


def world(bad: str = "", all_of: str = "abc", replicas: int = 2) -> World:
    return World(
        {
            name: zone(name, 2, 2, replicas, replicas) if name in bad else zone(name, 2, 0, replicas, 0, replicas)
            for name in all_of
        }
    )


def spec(**more: Any) -> Zones:
    return Zones.model_validate(more)


def walk(*steps: tuple[float, World], known: States = (), **more: Any) -> States:
    for second, seen in steps:
        known = zones.look(known, spec(**more), seen, at(second))
    return known


def state(found: States, name: str = "a") -> ZoneState:
    return next(each.state for each in found if each.name == name)


def tried(canned: str | None) -> World:
    """All is well again, and that is what came of a canned inference in zone a."""
    return World({**world().zones, "a": dataclasses.replace(world().zones["a"], canned=canned)})


@pytest.mark.parametrize(("canned", "after"), [(None, T), ("", T), ("HTTP 500: the engine is broken", R)])
def test_a_zone_whose_replicas_cannot_infer_does_not_return(canned: str | None, after: ZoneState) -> None:
    """An older gateway makes none, and a zone must not wait for it for ever."""
    lost = walk((0, world()), (1, world("a")), (16, world("a")), (20, tried("no answer within 30 s")))
    assert state(lost) is R
    found = walk((321, tried(canned)), known=lost)
    assert state(found) is after
    assert ("the engine is broken" in found[0].message) is (after is R)
    assert state(walk((330, tried("")), known=found)) is T


def test_a_zone_that_fails_long_enough_is_lost_and_gets_nothing() -> None:
    suspect = walk((0, world()), (1, world("a")))
    assert state(suspect) is S
    assert zones.weights(suspect) == {}
    assert state(walk((15, world("a")), known=suspect)) is S
    lost = walk((16, world("a")), known=suspect)
    assert state(lost) is L
    assert zones.weights(lost) == {"a": 0}


@pytest.mark.parametrize(
    ("seen", "more", "words"),
    [
        (world("ab"), {}, "more likely the observer's fault"),
        (world("abc"), {}, "more likely the observer's fault"),
        (world("a", all_of="a"), {}, "no other zone"),
        (world("a"), {"failover": {"mode": "Off"}}, "is Off"),
        (
            World({"a": zone("a", 2, 2, 3, 2, 1), "b": zone("b", 2, 0, 0, 0, 0)}),
            {},
            "no replica serves elsewhere",
        ),
    ],
)
def test_it_refuses_to_act(seen: World, more: dict[str, Any], words: str) -> None:
    found = walk((0, world()), (1, seen), (3600, seen), **more)
    assert state(found) is S
    assert words in found[0].message
    assert zones.weights(found) == {}


def test_of_zones_that_fell_silent_together_the_last_that_is_back_has_its_time_anew() -> None:
    """They were refused for minutes, which says nothing of the one that is a moment later."""
    both = walk((0, world()), (1, world("ab")), (180, world("ab")))
    late = walk((181, world("b")), known=both)
    assert (state(late), state(late, "b"), zones.weights(late)) == (H, S, {})
    assert zones.look_again(late, spec(), at(181)) == timedelta(seconds=15.5)
    assert zones.weights(walk((195, world("b")), known=late)) == {}
    assert state(walk((195, world()), known=late), "b") is H
    assert zones.weights(walk((196, world("b")), known=late)) == {"b": 0}


def test_what_is_refused_because_nobody_else_serves_goes_on_as_soon_as_somebody_does() -> None:
    alone = World({"a": zone("a", 2, 2, 3, 2, 1), "b": zone("b", 2, 0, 0, 0, 0)})
    found = walk((0, alone), (60, alone), (61, World({**alone.zones, "b": zone("b", 2, 0, 3, 0, 3)})))
    assert zones.weights(found) == {"a": 0}


@given(st.integers(0, 3600), st.integers(0, 14), st.sampled_from(["bc", "abc"]))
def test_no_refusal_however_long_costs_a_zone_that_is_back_in_time_its_requests(
    refused: int, later: int, bad: str
) -> None:
    found = walk((0, world(bad)), (refused, world(bad)), (refused + 1, world("b")), (refused + 1 + later, world("b")))
    assert zones.weights(found) == {}
    assert {each.state for each in walk((refused + 2 + later, world()), known=found)} == {H}


def partly(ready: int, elsewhere: int, wanted: int = 9) -> World:
    """Zone a fails, and so many of its three replicas serve still; so many do in b and c together."""
    others = {"b": zone("b", 2, 0, elsewhere, 0, elsewhere), "c": zone("c", 2, 0, 0, 0, 0)}
    return World({"a": zone("a", 2, 2, 3, 3 - ready, ready), **others}, Load(wanted))


@pytest.mark.parametrize(
    ("ready", "elsewhere", "weight", "missing"),
    [
        (0, 6, 0, 0),  # nobody there serves, so there is nothing to keep
        (1, 8, 100, 1),
        (1, 9, 0, 0),
        (2, 7, 100, 2),
        (2, 8, 50, 1),
    ],
)
def test_no_more_of_a_zones_traffic_is_moved_than_those_who_serve_elsewhere_can_bear(
    ready: int, elsewhere: int, weight: int, missing: int
) -> None:
    seen = partly(ready, elsewhere)
    found = walk((0, seen), (15, seen), failover={"threshold": 30})
    assert (found[0].weight, found[0].missing) == (weight, missing)
    assert state(found) is (S if weight == 100 else L)
    assert ("missing elsewhere" in found[0].message) is bool(missing)


@pytest.mark.parametrize(
    ("elsewhere", "weight", "missing"),
    [
        ({"s": 9, "c": 1}, 0, 0),
        ({"s": 8, "c": 2}, 50, 1),  # ten, but of stable, which nine tenths go to, one is missing
        ({"s": 8, "c": 5}, 50, 1),
        ({"s": 10}, 0, 0),  # the canary's tenth goes to stable, which bears it
        ({"s": 9}, 100, 1),
        ({"c": 10}, 0, 0),
        ({"s": 7, "c": 1}, 100, 2),
    ],
)
def test_beside_a_canary_the_revision_that_misses_most_says_what_a_zone_keeps(
    elsewhere: dict[str, int], weight: int, missing: int
) -> None:
    """Of stable two serve in the zone, of the canary one."""
    zones_there = {"a": Zone("a", 2, 2, 6, 3, {"s": 2, "c": 1}), "b": Zone("b", 2, 0, 9, 0, elsewhere)}
    seen = World(zones_there, Load(10, {"s": 90, "c": 10}))
    found = walk((0, seen), (15, seen), failover={"threshold": 30})
    assert (found[0].weight, found[0].missing) == (weight, missing)


@pytest.mark.parametrize(("has", "weight"), [(0, 100), (10, 100), (50, 67), (100, 0)])
def test_of_a_zone_that_is_on_its_way_back_only_the_part_counts_that_it_has(has: int, weight: int) -> None:
    """Nine that are enough serve elsewhere, four of them in a zone that was lost before; of those here three do."""
    there = {"b": zone("b", 2, 0, 4, 0, 4), "c": zone("c", 2, 0, 5, 0, 5)}
    seen = World({"a": zone("a", 2, 2, 5, 2, 3), **there}, Load(9))
    back = T if has else R
    known = ZoneStatus(name="b", state=back if has < 100 else H, since=timestamp(at(15)), weight=has, losses=1)
    found = walk((0, seen), (15, seen), known=(known,), failover={"threshold": 30})
    assert found[0].weight == weight


def silent(ready: int) -> World:
    """All nodes of zone a are; so many replicas there answer again, and nobody does elsewhere."""
    return World({"a": zone("a", 2, 2, 3, 3 - ready, ready), "b": zone("b", 2, 0, 3, 0), "c": zone("c", 2, 0, 0, 0)})


def test_where_nobody_else_answers_a_lost_zones_replicas_do_whatever_speaks_against_it() -> None:
    lost = walk((0, world("a")), (20, world("a")))
    assert zones.weights(walk((21, silent(0)), known=lost)) == {"a": 0}
    back = walk((21, silent(1)), known=lost)
    assert zones.weights(back) == {}
    stays = walk((22, silent(1)), (100, silent(1)), known=back)
    assert (state(stays), zones.weights(stays)) == (S, {})
    assert "no replica serves elsewhere" in stays[0].message
    assert zones.weights(walk((101, world("a")), known=stays)) == {"a": 0}, "others answer again"


@pytest.mark.parametrize(("canary", "weight"), [(0, 100), (1, 0)])
def test_who_has_no_share_of_the_requests_serves_in_nobodys_place(canary: int, weight: int) -> None:
    """A canary before its first users, or one that was given up, while stable's last replica is in a lost zone."""
    lost = walk((0, world("a")), (20, world("a")))
    left = {"a": Zone("a", 2, 0, 1, 0, {"s": 1}), "b": Zone("b", 2, 0, 3, 0, {"c": 3}), "c": zone("c", 2, 0, 0, 0)}
    found = walk((21, World(left, Load(1, {"s": 100 - canary, "c": canary}))), known=lost)
    assert found[0].weight == weight


def test_the_move_goes_on_as_others_become_ready_and_nothing_is_given_back_before_the_way_back() -> None:
    found, weights = walk((0, world())), []
    for second, elsewhere in enumerate((7, 8, 7, 8, 9, 7), 15):
        found = walk((0, partly(2, 7)), (second, partly(2, elsewhere)), known=found, failover={"threshold": 30})
        weights.append(found[0].weight)
    assert weights == [100, 50, 50, 50, 0, 0]
    assert found[0].losses == 1


def test_a_zone_that_kept_a_part_is_not_trusted_either_and_goes_back_from_there() -> None:
    lost = walk((0, partly(2, 8)), (15, partly(2, 8)), failover={"threshold": 30})
    well = walk((20, world()), known=lost)
    assert (state(well), well[0].weight, well[0].missing) == (R, 50, 0)
    weights, found = [], well
    for second in (320, 380, 440, 500):
        found = walk((second, world()), known=found)
        weights.append(found[0].weight)
    assert weights == [50, 50, 50, 100]
    again = walk((25, partly(1, 9)), known=well)
    assert (state(again), again[0].weight, again[0].losses) == (L, 0, 2)
    gone = walk((25, world(all_of="bc")), known=lost)
    assert (state(gone), gone[0].weight) == (L, 0), "who comes with a new node has to show himself first"


@pytest.mark.parametrize("until", [299, 330], ids=["Recovering", "Returning"])
def test_a_zone_that_fails_on_its_way_back_begins_it_anew_also_where_nothing_more_is_taken_from_it(until: int) -> None:
    lost = walk((0, partly(2, 8)), (15, partly(2, 8)), (20, world()), failover={"threshold": 30})
    on_its_way = walk((until, world()), known=lost)
    assert (state(on_its_way), on_its_way[0].weight) == (R if until < 320 else T, 50)
    refused = walk((until + 1, world("ab")), (until + 40, world("ab")), known=on_its_way)
    assert (state(refused), refused[0].weight, refused[0].losses) == (L, 50, 1)
    well = walk((until + 41, world()), (until + 340, world()), known=refused)
    assert state(well) is R
    assert state(walk((until + 342, world()), known=well)) is T


def test_a_zone_that_is_refused_is_not_looked_at_all_the_time() -> None:
    found = walk((0, partly(1, 7)), (16, partly(1, 7)))
    assert state(found) is S
    assert zones.look_again(found, spec(), at(10)) == timedelta(seconds=5.5)
    assert zones.look_again(found, spec(), at(60)) is None


def test_a_zone_of_which_only_a_part_fails_is_left_to_its_nodes() -> None:
    part = World({"a": zone("a", 3, 1, 3, 1, 2), "b": zone("b", 3, 0, 3, 0, 3)})
    assert state(walk((0, part), (60, part))) is H


def test_the_way_back_is_slow_and_by_steps() -> None:
    lost = walk((0, world("a")), (20, world("a")))
    well = walk((100, world()), known=lost)
    assert state(well) is R
    assert state(walk((399, world()), known=well)) is R
    weights = []
    found = well
    for second in (400, 459, 460, 520, 580):
        found = walk((second, world()), known=found)
        weights.append(zones.weights(found).get("a", 100))
    assert weights == [10, 10, 25, 50, 100]
    assert state(found) is H


def test_a_failure_on_the_way_back_begins_anew_and_takes_twice_as_long() -> None:
    lost = walk((0, world("a")), (20, world("a")))
    returning = walk((100, world()), (400, world()), known=lost)
    assert state(returning) is T
    again = walk((410, world("a")), known=returning)
    assert state(again) is L
    assert again[0].losses == 2
    well = walk((420, world()), known=again)
    assert state(walk((420 + 599, world()), known=well)) is R
    assert state(walk((420 + 600, world()), known=well)) is T


def test_by_hand_a_zone_waits_for_its_name() -> None:
    lost = walk((0, world("a")), (20, world("a")))
    manual = {"failback": {"mode": "Manual"}}
    waits = walk((100, world()), (5000, world()), known=lost, **manual)
    assert state(waits) is R
    assert "approved must name a" in waits[0].message
    named = {"failback": {"mode": "Manual", "approved": ["a"]}}
    assert state(walk((5001, world()), known=waits, **named)) is T


def test_without_a_ready_replica_there_is_no_way_back() -> None:
    lost = walk((0, world("a")), (20, world("a")))
    unready = World({**world().zones, "a": zone("a", 2, 0, 2, 0, 0)})
    found = walk((100, unready), (500, unready), known=lost)
    assert state(found) is R
    assert "none of its replicas is ready" in found[0].message


def test_a_loss_of_long_ago_is_forgotten() -> None:
    lost = walk((0, world("a")), (20, world("a")), (100, world()))
    healthy = walk(*((400 + 60 * n, world()) for n in range(6)), known=lost)
    assert state(healthy) is H
    later = walk((30000, world("a")), (30020, world("a")), known=healthy)
    assert later[0].losses == 1


@pytest.mark.parametrize(
    ("before", "losses", "after", "then"),
    [(L, 1, L, 1), (H, 1, H, 1), (S, 1, L, 2), (R, 1, L, 2), (T, 1, L, 2)],
)
def test_a_zone_that_has_no_node_any_more_is_remembered(
    before: ZoneState, losses: int, after: ZoneState, then: int
) -> None:
    """A cloud deletes the Node of a machine that is stopped, and makes another when it starts."""
    weight = {L: 0, R: 0, T: 10}.get(before, 100)
    known = ZoneStatus(
        name="a",
        state=before,
        since="2026-05-01T12:00:00Z",
        weight=weight,
        losses=losses,
        lost_at="2026-05-01T12:00:00Z",
    )
    found = walk((100, world(all_of="bc")), (200, world(all_of="bc")), known=(known,))
    assert [zone.name for zone in found] == ["a", "b", "c"]
    assert (state(found), found[0].losses, found[0].weight) == (after, then, 100 if after is H else 0)
    assert state(walk((300, world()), known=found)) is (H if after is H else R), "it is not trusted before its time"


def test_a_zone_that_is_gone_is_forgotten_like_any_loss_and_one_that_lost_nothing_at_once() -> None:
    lost = walk((0, world("a")), (20, world("a")), (60, world(all_of="bc")))
    assert "no node" in lost[0].message
    assert len(walk((20 + 6 * 3600 - 1, world(all_of="bc")), known=lost)) == 3
    assert len(walk((20 + 6 * 3600, world(all_of="bc")), known=lost)) == 2
    assert len(walk((0, world()), (1, world("a")), (2, world(all_of="bc")))) == 2


def moves(story: list[tuple[float, bool | None]]) -> int:
    """How often the zone's weight became 0, or left it; None: it has no node."""
    found: States = ()
    count, before = 0, 100
    for second, bad in story:
        seen = world("a" if bad else "", all_of="bc" if bad is None else "abc")
        found = zones.look(found, spec(), seen, at(second))
        weight = next((zone.weight for zone in found if zone.name == "a"), 100)
        count += (weight == 0) != (before == 0)
        before = weight
    return count


@pytest.mark.parametrize("period", [20, 30, 60, 120])
def test_twenty_minutes_of_flapping_are_two_moves_at_most(period: int) -> None:
    assert moves([(second, second // period % 2 == 0) for second in range(0, 1200, 2)]) <= 2


RUNS = st.tuples(st.sampled_from([True, None]), st.integers(1, 300), st.integers(1, 149))


@given(st.lists(RUNS, min_size=1, max_size=60))
@example([(True, 10, 149)] * 9)
def test_twenty_minutes_of_any_flapping_are_two_moves_at_most(runs: list[tuple[bool | None, int, int]]) -> None:
    """Looks, every two seconds, in each state; well for less than the 300 s after which a zone is believed."""
    story = [each for bad, down, up in runs for each in (*[bad] * down, *[False] * up)][:600]
    assert moves([(2.0 * n, each) for n, each in enumerate(story)]) <= 2


def test_who_is_well_for_just_long_enough_to_be_believed_moves_each_time_and_twice_as_late() -> None:
    """That is no flapping: five moves in twenty minutes are the most that there can be, and then none for twenty."""
    story = [(second, second < 18 or second in (320, 924)) for second in range(0, 2100, 2)]
    assert (moves(story[:600]), moves(story)) == (5, 5)


@pytest.mark.parametrize("period", [60, 120, 420])
def test_machines_that_are_stopped_and_started_move_no_more(period: int) -> None:
    third = period // 3
    phases = (True, None, False)
    assert moves([(second, phases[second // third % 3]) for second in range(0, 1200, 2)]) <= 2


@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from(["", "a", "b", "c", "ab", "bc", "abc"])), max_size=60))
@example([(0, "b"), (15, "b"), (0, "a"), (300, "a"), (0, "c"), (15, "c")])
def test_some_zone_always_keeps_its_weight(story: list[tuple[int, str]]) -> None:
    found, second = (), 0
    for wait, bad in story:
        second += wait
        found = zones.look(found, spec(), world(bad), at(second))
        assert any(zone.weight == 100 for zone in found)


@given(st.sampled_from([S, R, T]), st.integers(-3600, 3600))
def test_a_clock_that_jumps_back_resets_nothing_and_hurries_nothing(begun: ZoneState, jump: int) -> None:
    before = ZoneStatus(name="a", state=begun, since="2026-05-01T12:00:00Z", weight=0 if begun is R else 100, losses=1)
    seen = world("a" if begun is S else "")
    found = zones.look([before], spec(), seen, at(jump))
    if jump < 15:
        assert found[0].state is begun
        assert found[0].since == before.since


def test_zones_are_counted_by_their_nodes() -> None:
    nodes = {n: Node(n, z, lost=lost) for n, z, lost in (("node-1", "a", "gone"), ("n2", "b", None), ("n3", "", None))}
    pods = [Pod("p").unready(), Pod("q").serving()]
    pods[1].raw["spec"]["nodeName"] = "n2"
    found = census.count([pod.raw for pod in pods], nodes, frozenset({"p"}), {}, Load())
    assert found.zones == {"a": zone("a", 1, 1, 1, 1, 0), "b": zone("b", 1, 0, 1, 0, 1)}
