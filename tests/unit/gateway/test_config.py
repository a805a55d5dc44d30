"""HAProxy's configuration and map: only what needs a reload changes the signature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilotboat.api.routing import Lane, Route
from pilotboat_gateway import config, table
from pilotboat_gateway.settings import THREADS, Settings
from pilotboat_gateway.table import Board
from pilotboat_gateway.world import Endpoint
from tests.unit.gateway.test_table import places

LANES = [Lane(revision="a", service="a", share=950), Lane(revision="b", service="b", share=50)]


def made(**more: Any) -> dict[str, Route]:
    return {"chat": Route.model_validate({"deployment": "chat", "port": 20000, "lanes": LANES} | more)}


def seats(routes: dict[str, Route], **pods: list[int]) -> dict[str, Board]:
    return table.arrange(routes, places(**pods), {})


SETTINGS = Settings("ns", Path("/run/gateway"))
NEEDS_RELOAD: list[tuple[dict[str, Any], bool]] = [
    ({"lanes": [LANES[0].model_copy(update={"share": 1000})]}, False),
    ({"lanes": LANES[::-1]}, False),
    ({"max_queued": 3}, True),
    ({"server_limit": 3}, True),
    ({"port": 20001}, True),
    ({"request_timeout": "1m"}, True),
    ({"copies": {"percent": 30}}, True),
]


@pytest.mark.parametrize(("more", "reload"), NEEDS_RELOAD)
def test_shares_and_pods_need_no_reload_and_limits_do(more: dict[str, Any], reload: bool) -> None:
    before = config.signature(made(), seats(made(), a=[1]), SETTINGS)
    assert (config.signature(made(**more), seats(made(**more), a=[2, 3], b=[4]), SETTINGS) != before) is reload


def test_the_map_tells_the_split_in_the_order_of_the_route() -> None:
    tried = made(testers={"header": "x-try", "value": "yes", "revision": "b"})
    assert config.lanes_map(tried, seats(tried)) == {
        "split/chat": "950|chat:0|1000|chat:1",
        "lane/chat:0": "a",
        "lane/chat:1": "b",
        "testers/chat": "chat:1",
    }
    gone = made(testers={"header": "x-try", "value": "yes", "revision": "c"})
    assert "testers/chat" not in config.lanes_map(gone, seats(gone))


def test_a_worker_obeys_splits_over_lanes_that_it_has() -> None:
    running = {"lane/chat:0": "a", "lane/chat:1": "b", "split/chat": "500|chat:0|1000|chat:1"}
    given_up = {**running, "split/chat": "1000|chat:0"}
    other = {"lane/other:0": "c", "split/other": "1000|other:0"}
    assert config.shifted(running, given_up | other) == given_up, "of what it does not know it is told nothing"
    assert config.shifted(running, given_up | {"lane/chat:0": "b", "lane/chat:1": "a"}) == running
    assert config.shifted(running, {"lane/chat:2": "c", "split/chat": "1000|chat:2"}) == running
    assert config.shifted({}, given_up) == {}


def test_who_has_copies_is_in_the_map_and_takes_no_reload() -> None:
    told: list[str | None] = []
    signatures = set()
    for copies in (
        {"percent": 30},
        {"percent": 30, "revision": "b", "room": 4},
        {"percent": 7, "revision": "b", "room": 2},
        {"percent": 30, "revision": "b", "room": 0},
        {"percent": 30, "revision": "c", "room": 4},
    ):
        routes = made(copies=copies)
        told.append(config.lanes_map(routes, seats(routes)).get("copies/chat"))
        signatures.add(config.signature(routes, seats(routes), SETTINGS))
    assert told == [None, "30|chat:1|4", "7|chat:1|2", None, None]
    assert len(signatures) == 1


@pytest.mark.parametrize("more", [{}, {"copies": {"percent": 30}}])
def test_copies_alone_need_their_lua(more: dict[str, Any]) -> None:
    text = config.render(made(**more), seats(made(**more)), SETTINGS)
    assert ("copy.lua" in text, "hold.lua" in text) == (bool(more), True)


@pytest.mark.parametrize(("timeout", "longest"), [("10m", 1260), ("1000h", 86400)])
def test_what_is_handed_on_by_a_worker_that_ends_has_its_whole_time(timeout: str, longest: int) -> None:
    routes = made(request_timeout=timeout)
    assert f"hard-stop-after {longest}s\n" in config.render(routes, seats(routes), SETTINGS)


def test_who_gets_nothing_is_out_until_the_agent_steers() -> None:
    """Under his own address, and without a reload when he gets something again."""
    texts, signatures = {}, set()
    for weight in (0, 50, 100):
        routes = made(zones={"x": weight} if weight < 100 else {})
        boards = table.arrange(routes, {"a": {"192.0.2.1:80": Endpoint("192.0.2.1", 80, "pod-1", True, "x")}}, {})
        text = config.render(routes, boards, SETTINGS)
        texts[weight] = next(line for line in text.splitlines() if "192.0.2.1:80" in line)
        signatures.add(config.signature(routes, boards, SETTINGS))
    assert {weight: line.endswith(" disabled") for weight, line in texts.items()} == {0: True, 50: False, 100: False}
    assert len(signatures) == 1


def test_every_table_has_room_for_threads_that_make_the_same_entry_at_once() -> None:
    routes = made(copies={"percent": 30})
    text = config.render(routes, seats(routes), SETTINGS)
    sizes = [line.split("size ")[1].split()[0] for line in text.splitlines() if "stick-table" in line]
    assert sizes
    assert all(size.endswith("k") or int(size) > THREADS for size in sizes)


@pytest.mark.parametrize(("pods", "chosen"), [(3, True), (16, True), (17, False)])
def test_wide_lanes_are_left_to_haproxy_alone(pods: int, chosen: bool) -> None:
    text = config.render(made(), seats(made(), a=list(range(1, pods + 1))), SETTINGS)
    assert ("use-server" in text) is chosen
