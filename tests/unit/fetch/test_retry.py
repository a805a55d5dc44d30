"""The schedule of retries."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from hypothesis import given
from hypothesis import strategies as st

from pilotboat_fetch.retry import Backoff, retry_after


def recorded(attempts: int = 4) -> tuple[Backoff, list[float]]:
    waits: list[float] = []
    return Backoff(attempts=attempts, first=1.0, longest=8.0, patience=60.0, sleep=waits.append), waits


@given(st.integers(min_value=1, max_value=40))
def test_waits_grow_stay_bounded_and_end(failures: int) -> None:
    backoff, waits = recorded()
    again = backoff.wait(failures)
    assert again == (failures < 4)
    assert all(0.5 <= wait <= 8.0 for wait in waits)
    assert len(waits) == int(again)


def test_the_servers_wish_comes_first() -> None:
    backoff, waits = recorded()
    assert backoff.wait(1, 7.0)
    assert waits == [7.0]


def test_a_wish_beyond_our_patience_ends_it_at_once() -> None:
    backoff, waits = recorded()
    assert not backoff.wait(1, 3600.0)
    assert waits == []


def test_retry_after_is_read_as_seconds_or_date() -> None:
    assert retry_after({"retry-after": "12"}) == 12.0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None
    later = retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(hours=1))})
    assert later is not None
    assert 3000 < later <= 3600
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
