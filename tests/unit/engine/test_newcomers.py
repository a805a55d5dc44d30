"""Whom plans wait for after Kubernetes has called a pod ready, and when they do no more."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pilotboat.engine.kinds import MODEL_DEPLOYMENT, Key
from pilotboat.engine.newcomers import AT_FIRST, AT_ONCE, LONGEST, Newcomers

CHAT = Key(MODEL_DEPLOYMENT.plural, "ns", "chat")
ELSEWHERE = Key(MODEL_DEPLOYMENT.plural, "other", "chat")


class World:
    """With a clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0
        self.woken: list[Key] = []
        self.newcomers = Newcomers(self.wake, lambda: self.now)
        self.newcomers.told("ns", (), frozenset(), {})
        self.newcomers.told("other", (), frozenset(), {})

    def wake(self, keys: Iterable[Key]) -> None:
        self.woken += keys

    def waits(self, *ready: str, key: Key = CHAT) -> set[str]:
        return set(self.newcomers.of(key, set(ready)))

    def round(self, missing: set[str] | None, **warmed: float) -> None:
        """One question, answered so."""
        self.newcomers.told("ns", self.newcomers.asked("ns"), missing, warmed)


def test_who_becomes_ready_is_waited_for_until_every_gateway_sends_it_requests() -> None:
    world = World()
    assert world.waits() == set()
    assert world.waits("a") == {"a"}
    assert world.newcomers.asked("ns") == ["a"]
    world.round({"a"})
    assert (world.waits("a"), world.woken) == ({"a"}, [CHAT]), "what is known of it now may be told"
    world.round({"a"})
    assert (world.waits("a"), world.woken) == ({"a"}, [CHAT])
    world.round(set())
    assert world.woken == [CHAT, CHAT]
    assert world.waits("a") == set()
    assert world.newcomers.asked("ns") == []
    assert world.waits("a", "b") == {"b"}


def test_the_first_answer_about_one_is_worth_a_moment_of_silence_and_no_more() -> None:
    world = World()
    assert not world.newcomers.unheard(CHAT)
    world.waits()
    world.waits("a")
    assert world.newcomers.unheard(CHAT)
    assert world.newcomers.noticed.is_set()
    world.newcomers.noticed.clear()
    world.waits("a")
    assert not world.newcomers.noticed.is_set(), "it is no news"
    world.round({"a"})
    assert not world.newcomers.unheard(CHAT)
    world.waits("a", "b")
    assert world.newcomers.unheard(CHAT)
    world.now += AT_FIRST
    assert not world.newcomers.unheard(CHAT)


def test_who_is_ready_when_we_begin_to_look_is_not_waited_for() -> None:
    """A new leader takes nothing back of what the one before it has told."""
    world = World()
    assert world.waits("a", "b") == set()


def test_who_was_unready_meanwhile_is_waited_for_again() -> None:
    world = World()
    assert world.waits("a") == set()
    assert world.waits() == set()
    assert world.waits("a") == {"a"}


def test_where_no_gateway_answers_nobody_is_waited_for() -> None:
    world = World()
    world.waits()
    assert world.waits("a") == {"a"}
    world.round(None)
    assert world.woken == [CHAT]
    assert world.waits("a", "b") == set()
    world.round(set())  # one answers again
    assert world.waits("a", "b", "c") == {"c"}


def test_a_gateway_that_never_hears_of_it_is_not_waited_for_without_end() -> None:
    world = World()
    world.waits()
    world.waits("a")
    world.now += LONGEST - 1
    world.round({"a"})
    assert world.waits("a") == {"a"}
    world.now += 1
    world.round({"a"})
    assert world.waits("a") == set()


def test_namespaces_are_apart() -> None:
    world = World()
    world.waits(key=ELSEWHERE)
    world.waits("a", key=ELSEWHERE)
    world.round(None)
    assert world.waits("a", key=ELSEWHERE) == {"a"}
    assert world.newcomers.asked("ns") == []


@pytest.mark.parametrize("count", [1, AT_ONCE, 3 * AT_ONCE])
def test_all_of_many_are_asked_about_in_turn(count: int) -> None:
    world, names = World(), [f"p{number:03}" for number in range(count)]
    world.waits()
    world.waits(*names)
    rounds = 0
    while world.waits(*names):
        assert len(world.newcomers.asked("ns")) <= AT_ONCE
        world.round(set())
        rounds += 1
    assert rounds == -(-count // AT_ONCE)


def test_what_is_gone_is_forgotten() -> None:
    world = World()
    world.waits()
    world.waits("a")
    world.newcomers.forget(CHAT)
    assert world.newcomers.asked("ns") == []
    assert world.waits("a") == set(), "as one that we begin to look at"


def test_how_long_they_warmed_up_is_known_as_long_as_they_are_ready() -> None:
    world = World()
    world.waits()
    world.waits("a", "b")
    world.round({"b"}, a=0.5, b=0.1)
    assert world.newcomers.warmed(CHAT) == {"a": 0.5}, "of b when it is no newcomer any more: it may say so then only"
    world.round(set(), b=0.2)
    assert world.newcomers.warmed(CHAT) == {"a": 0.5, "b": 0.2}
    world.waits("b")
    assert world.newcomers.warmed(CHAT) == {"b": 0.2}
    world.newcomers.forget(CHAT)
    assert world.newcomers.warmed(CHAT) == {}


def test_that_nobody_answered_is_forgotten_with_the_gateway() -> None:
    world = World()
    world.round(None)
    world.newcomers.only({"other"})
    assert world.waits() == set()
    assert world.waits("a") == {"a"}
