"""Seats in slots: nobody moves who sits, and slots run out only where there are too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.routing import MAX_LANES, WHOLE, Lane, Route
from pilotboat_gateway import table
from pilotboat_gateway.table import Board
from pilotboat_gateway.world import Endpoint

Places = dict[str, dict[str, Endpoint]]


def route(*revisions: str) -> Route:
    """The first has all the traffic."""
    lanes = [Lane(revision=each, service=each, share=0 if at else WHOLE) for at, each in enumerate(revisions)]
    return Route(deployment="chat", port=20000, lanes=lanes)


def places(**pods: list[int]) -> Places:
    """By revision the last numbers of addresses."""
    return {
        name: {f"192.0.2.{n}:80": Endpoint(f"192.0.2.{n}", 80, f"pod-{n}", True) for n in numbers}
        for name, numbers in pods.items()
    }


def seated(board: Board) -> dict[str, set[str]]:
    """Who takes requests, by revision."""
    return {
        slot.revision: {seat.pod for seat in slot.seats if seat and not seat.draining}
        for slot in board.slots
        if slot.revision
    }


STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abcdef"), min_size=1, max_size=MAX_LANES, unique=True),
        st.dictionaries(st.sampled_from("abcdef"), st.lists(st.integers(1, 12), unique=True, max_size=12)),
        st.booleans(),
    ),
    max_size=8,
)


@given(STEPS)
def test_whatever_comes_every_pod_of_a_lane_sits_and_keeps_its_seat(
    steps: list[tuple[list[str], dict[str, list[int]], bool]],
) -> None:
    boards: dict[str, Board] = {}
    for revisions, pods, leave in steps:
        before = boards.get("chat")
        boards = table.arrange({"chat": route(*revisions)}, places(**pods), boards)
        board = boards["chat"]
        now = seated(board)
        assert {name: now[name] for name in revisions} == {
            name: {f"pod-{n}" for n in pods.get(name, [])} for name in revisions
        }
        assert len(board.slots) == MAX_LANES
        if before and before.epoch == board.epoch:
            for old, new in zip(before.slots, board.slots, strict=True):
                for was, sits in zip(old.seats, new.seats, strict=True):
                    assert was is None or (sits is not None and sits.key == was.key)
        if leave:
            boards = table.release(boards, table.draining(boards))
            assert not table.draining(boards)
        assert table.load(table.dump(boards)) == boards


def test_slots_are_laid_out_anew_only_where_there_are_too_few() -> None:
    first = table.arrange({"chat": route("a")}, places(a=[*range(1, 9)]), {})
    assert (first["chat"].size, first["chat"].epoch) == (8, 0)
    more = table.arrange({"chat": route("a")}, places(a=[*range(1, 10)]), first)
    assert (more["chat"].size, more["chat"].epoch) == (16, 1)


def test_a_pod_once_ready_stays_until_it_ends_whatever_its_node_says() -> None:
    boards = table.arrange({"chat": route("a")}, places(a=[1]), {})
    unready = {"a": {f"192.0.2.{n}:80": Endpoint(f"192.0.2.{n}", 80, f"pod-{n}", False) for n in (1, 2)}}
    assert seated(table.arrange({"chat": route("a")}, unready, boards)["chat"]) == {"a": {"pod-1"}}


def test_an_address_that_another_pod_has_now_is_another_place() -> None:
    """That the one before was ready once, and what HAProxy knows of it, is none of the newcomer's."""
    before = table.arrange({"chat": route("a")}, places(a=[1]), {})
    for ready, wanted in ((False, set()), (True, {"pod-new"})):
        newcomer = {"a": {"192.0.2.1:80": Endpoint("192.0.2.1", 80, "pod-new", ready)}}
        board = table.arrange({"chat": route("a")}, newcomer, before)["chat"]
        assert seated(board) == {"a": wanted}
        assert [seat.pod for seat in board.slots[0].seats if seat and seat.draining] == ["pod-1"]


def test_when_a_pod_lost_its_seat_is_remembered_until_it_has_one_again() -> None:
    a, b = ("chat", "a"), ("chat", "b")
    known = table.left({}, {a, b}, {b}, 100.0)
    assert known == {a: 100.0}
    assert table.left(known, {b}, {b}, 200.0) == {a: 100.0}
    assert table.left(known, {b}, {a}, 300.0) == {b: 300.0}


def test_of_those_who_left_the_latest_are_remembered() -> None:
    old = {("chat", f"pod-{n}"): float(n) for n in range(table.LEFT)}
    known = table.left(old, {("chat", "new")}, set(), 1000.0)
    assert len(known) == table.LEFT
    assert known[("chat", "new")] == 1000.0
    assert ("chat", "pod-0") not in known


def test_who_sits_is_told_with_his_deployment_and_who_drains_is_not() -> None:
    boards = table.arrange({"chat": route("a")}, places(a=[1, 2]), {})
    boards = table.arrange({"chat": route("a")}, places(a=[2]), boards)
    assert table.seated(boards) == {("chat", "pod-2")}
