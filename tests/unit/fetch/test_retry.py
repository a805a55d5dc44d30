"""The schedule of retries."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat_fetch.errors import HubRateLimited, HubUnreachable, Interrupted
from pilotboat_fetch.retry import Again, Backoff, retry_after

HOUR = 3600.0


class Run:
    """Attempts of which the first few fail, in a time that passes only while they wait, or for `seconds` each."""

    def __init__(self, failures: int, wish: float | None = None, seconds: float = 0.0, gains: int = 0) -> None:
        self._failures, self._wish, self._seconds, self._gains = failures, wish, seconds, gains
        self.now, self.asked, self.reached = 0.0, 0, 0
        self.waits: list[float] = []
        self.lines: list[str] = []

    def backoff(self, patience: float = 0.0, attempts: int = 4) -> Backoff:
        return Backoff(
            *(attempts, 1.0, 8.0, 60.0, 15.0, 300.0, patience),
            say=self.lines.append,
            sleep=self._sleep,
            clock=lambda: self.now,
        )

    def attempt(self) -> str:
        self.asked += 1
        self.now += self._seconds
        if self.asked <= self._failures:
            self.reached += self._gains
            raise Again(HubRateLimited("429 from the hub"), self._wish)
        return "done"

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def brief(run: Run) -> Callable[[], str]:
    return lambda: run.backoff().briefly(run.attempt, lambda: run.reached)


@given(st.integers(min_value=0, max_value=12))
def test_a_few_attempts_whose_waits_grow_and_stay_bounded(failures: int) -> None:
    run = Run(failures)
    if failures < 4:
        assert brief(run)() == "done"
    else:
        with pytest.raises(Again):
            brief(run)()
    assert run.asked == min(failures + 1, 4)
    assert len(run.waits) == len(run.lines) == run.asked - 1
    assert all(0.5 * least <= wait <= least for wait, least in zip(run.waits, (1.0, 2.0, 4.0), strict=False))


def test_what_gets_on_is_tried_as_often_as_it_takes() -> None:
    run = Run(failures=50, gains=1)
    assert brief(run)() == "done"
    assert max(run.waits) <= 1.0


@pytest.mark.parametrize(("wish", "waits"), [(7.0, [7.0] * 3), (60.0, [60.0] * 3), (61.0, []), (HOUR, [])])
def test_the_servers_wish_comes_first_and_a_long_one_ends_the_round(wish: float, waits: list[float]) -> None:
    run = Run(failures=99, wish=wish)
    with pytest.raises(Again):
        brief(run)()
    assert run.waits == waits


@pytest.mark.parametrize(
    ("failures", "patience", "wish"),
    [
        (99, 0.0, None),  # nobody waits here: kubelet does
        (999, HOUR, None),
        (999, HOUR, 59.0),
        (1, HOUR, 2 * HOUR),  # told at once, for waiting a part of it would be in vain
    ],
)
def test_patience_ends_with_the_cause(failures: int, patience: float, wish: float | None) -> None:
    run = Run(failures, wish)
    backoff = run.backoff(patience)
    with pytest.raises(HubRateLimited, match="429 from the hub"):
        backoff.patiently(lambda: backoff.briefly(run.attempt))
    assert run.now <= patience + 3 * 60.0


@pytest.mark.parametrize(("failures", "wish", "seconds"), [(30, None, 0.0), (3, 20 * 60.0, 0.0), (40, None, 30.0)])
def test_an_outage_within_the_patience_is_waited_out(failures: int, wish: float | None, seconds: float) -> None:
    run = Run(failures, wish, seconds)
    backoff = run.backoff(2 * HOUR)
    assert backoff.patiently(lambda: backoff.briefly(run.attempt)) == "done"
    rests = [wait for wait in run.waits if wait > 8.0]
    assert rests
    assert all(wait <= (wish or 300.0) for wait in rests)
    assert len(run.lines) == len(run.waits), "every wait is told"
    assert all(line.startswith("429 from the hub; ") for line in run.lines)


def test_the_time_of_the_attempts_counts_too() -> None:
    run = Run(failures=999, seconds=600.0)
    with pytest.raises(HubRateLimited):
        run.backoff(HOUR).patiently(run.attempt)
    assert run.asked <= 6


def test_patience_begins_anew_with_all_that_gets_on() -> None:
    run = Run(failures=60, seconds=600.0, gains=1)
    assert run.backoff(HOUR).patiently(run.attempt, lambda: run.reached) == "done"


@pytest.mark.parametrize("error", [Interrupted("stopped"), HubUnreachable("no name to ask")])
def test_nothing_else_is_tried_again(error: BaseException) -> None:
    run = Run(failures=0)
    backoff = run.backoff(HOUR)

    def fail() -> str:
        run.asked += 1
        raise error

    with pytest.raises(type(error)):
        backoff.patiently(lambda: backoff.briefly(fail))
    assert run.asked == 1


def test_retry_after_is_read_as_seconds_or_date() -> None:
    assert retry_after({"retry-after": "12"}) == 12.0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None
    later = retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(hours=1))})
    assert later is not None
    assert 3000 < later <= 3600


@pytest.mark.parametrize("zone", [" GMT", " +0200", " -0000", ""])
def test_a_date_may_have_any_zone_or_none(zone: str) -> None:
    assert retry_after({"retry-after": f"Wed, 21 Oct 2015 07:28:00{zone}"}) == 0.0


@given(st.text() | st.from_regex(r"\A(Wed, )?[0-9]{1,20} Oct [0-9]{1,20} [0-9]{1,3}:28:00( [+-][0-9]{4})?\Z"))
def test_whatever_a_server_asks_for_is_a_time_or_nothing(text: str) -> None:
    wait = retry_after({"retry-after": text})
    assert wait is None or wait >= 0.0
