"""When requests are due, to whom they go, and that nobody waits for an answer to send the next."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat_probe.drive import Drive
from pilotboat_probe.load import LONG, SHORT, Lengths, arrivals
from pilotboat_probe.traffic import schedule, turn


@given(st.floats(0.01, 100), st.floats(1, 100), st.integers(0, 2**32 - 1))
def test_arrivals_rise_within_the_time_and_are_the_same_again(rate: float, length: float, seed: int) -> None:
    due = arrivals(rate, length, seed)
    assert due == sorted(due) == arrivals(rate, length, seed)
    assert all(0 <= at < length for at in due)
    assert len(due) == max(round(rate * length), 1)


def test_arrivals_come_as_unevenly_as_poisson() -> None:
    """In a tenth of the time, a tenth of the requests on average, and as many more or fewer as chance has it."""
    counts = [sum(at < 5 for at in arrivals(2, 50, seed)) for seed in range(400)]
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)
    assert mean == pytest.approx(10, abs=0.5)
    assert variance == pytest.approx(9, rel=0.25)


@pytest.mark.parametrize(
    ("short", "long", "tokens", "words"),
    [(16, 144, 100, 100), (26, 154, 110, 100), (34, 290, 210, 104), (26, 154, 3, 1), (26, 26, 30, 56)],
)
def test_words_for_a_length_in_tokens(short: int, long: int, tokens: int, words: int) -> None:
    assert Lengths.fitted(short, long).words(tokens) == words


@given(st.floats(0, 100), st.floats(0.2, 5), st.integers(1, 5000))
def test_lengths_are_met_to_half_a_word(before: float, each: float, tokens: int) -> None:
    lengths = Lengths.fitted(round(before + SHORT * each), round(before + LONG * each))
    words = lengths.words(tokens)
    assert words == 1 or abs(lengths.before + words * lengths.each - tokens) <= lengths.each / 2 + 1e-6


@given(st.integers(1, 600), st.integers(1, 1800))
def test_traffic_is_even_and_as_much_to_each(per_minute: int, length: int) -> None:
    due = schedule(per_minute, length)
    turns = [turn(number) for number in range(len(due))]
    assert sorted(turns) == [(pair, which) for pair in range(len(due) // 2) for which in (0, 1)]
    assert due[-1] < max(length, 60 / per_minute)
    assert len(due) == 2 * max(per_minute * length // 60, 1)


def test_who_is_first_changes() -> None:
    assert [turn(number)[1] for number in range(8)] == [0, 1, 1, 0, 0, 1, 1, 0]


async def test_requests_are_sent_though_none_is_answered() -> None:
    drive, answer = Drive(10), asyncio.Event()

    async def send(number: int, due: float) -> None:
        if number == 9:
            answer.set()
        await answer.wait()

    await drive.run([0.0] * 10, 10, send)
    assert (drive.sent, drive.held_back, drive.under_way) == (10, 0, 0)


async def test_more_than_may_be_under_way_are_held_back_not_put_off() -> None:
    drive, sent = Drive(10), []

    async def send(number: int, due: float) -> None:
        sent.append(number)
        await asyncio.sleep(0.2)

    await drive.run([0.0] * 10, 3, send)
    assert sent == [0, 1, 2]
    assert (drive.sent, drive.held_back) == (3, 7)
    assert not drive.kept_up


@pytest.mark.parametrize(("late", "held_back", "kept_up"), [(0, 0, True), (2, 0, True), (1, 2, False), (0, 3, False)])
def test_one_in_a_hundred_is_tolerated(late: int, held_back: int, kept_up: bool) -> None:
    assert Drive(200, late=late, held_back=held_back).kept_up is kept_up
