"""What was refused of late, from counts of a HAProxy that may begin anew."""

from __future__ import annotations

from pilotboat_gateway.floods import LATELY, Floods


def test_what_was_refused_before_the_first_look_is_no_news() -> None:
    floods = Floods()
    floods.see({"chat": 900, "other": 0}, 0)
    assert floods.lately(0) == {}
    floods.see({"chat": 907, "other": 0}, 1)
    assert floods.lately(1) == {"chat": 7}


def test_it_is_of_the_last_minute() -> None:
    floods = Floods()
    for second in range(101):
        floods.see({"chat": 3 * second}, second)
    assert floods.lately(100) == {"chat": 3 * int(LATELY)}
    assert floods.lately(100 + LATELY) == {}


def test_a_worker_that_counts_anew_adds_what_it_has_refused() -> None:
    floods = Floods()
    for now, count in enumerate((100, 150, 20, 25)):
        floods.see({"chat": count}, now)
    assert floods.lately(3) == {"chat": 50 + 20 + 5}


def test_a_deployment_that_came_later_counts_from_nothing() -> None:
    floods = Floods()
    floods.see({}, 0)
    floods.see({"chat": 4}, 1)
    assert floods.lately(1) == {"chat": 4}
