import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.engine.kinds import Key
from pilotboat.engine.queue import FIRST_DELAY, JITTER, LONGEST_DELAY, Queue
from tests.unit.engine.clock import run, wait

A, B = Key("modeldeployments", "ns", "a"), Key("modeldeployments", "ns", "b")


async def take(queue: Queue) -> Key:
    key, _ = await queue.get()
    return key


def test_a_key_added_twice_is_worked_on_once() -> None:
    async def scenario() -> None:
        queue = Queue()
        queue.add(A)
        queue.add(B)
        queue.add(A)
        assert [await take(queue), await take(queue)] == [A, B]
        assert len(queue) == 0

    run(scenario())


def test_a_key_added_while_worked_on_comes_again_but_only_when_done() -> None:
    async def scenario() -> None:
        queue = Queue()
        queue.add(A)
        assert await take(queue) == A
        queue.add(A)
        queue.add(A)
        assert len(queue) == 0
        queue.done(A)
        assert len(queue) == 1
        assert await take(queue) == A
        queue.done(A)
        assert len(queue) == 0

    run(scenario())


def test_a_noisy_key_waits_behind_the_others() -> None:
    async def scenario() -> None:
        queue = Queue()
        queue.add(A)
        await take(queue)
        queue.add(A)
        queue.add(B)
        queue.done(A)
        assert await take(queue) == B

    run(scenario())


def test_get_waits_for_a_key() -> None:
    async def scenario() -> None:
        queue = Queue()
        getting = asyncio.ensure_future(take(queue))
        await wait(10)
        assert not getting.done()
        queue.add(A)
        assert await getting == A

    run(scenario())


def test_failures_double_the_delay_up_to_five_minutes_and_success_resets_it() -> None:
    async def scenario() -> None:
        queue, loop = Queue(random.Random(1)), asyncio.get_running_loop()
        for attempt in range(15):
            began = loop.time()
            queue.retry(A)
            assert await take(queue) == A
            queue.done(A)
            expected = min(FIRST_DELAY * 2**attempt, LONGEST_DELAY)
            assert loop.time() - began == pytest.approx(expected, rel=JITTER)
        queue.succeeded(A)
        assert queue.retry(A) <= FIRST_DELAY * (1 + JITTER)

    run(scenario())


def test_many_failing_together_do_not_come_back_together() -> None:
    async def scenario() -> None:
        queue = Queue(random.Random(1))
        delays = {queue.retry(Key("modeldeployments", "ns", str(number))) for number in range(50)}
        assert len(delays) == 50

    run(scenario())


def test_the_api_servers_retry_after_is_a_lower_bound() -> None:
    async def scenario() -> None:
        queue = Queue(random.Random(1))
        assert all(queue.retry(Key("m", "ns", str(number)), at_least=7) >= 7 for number in range(50))

    run(scenario())


@pytest.mark.parametrize(("dates", "expected"), [((5, 3), 3), ((3, 5), 3), ((4,), 4)])
def test_the_earliest_date_counts_and_there_is_one_wake_up(dates: tuple[float, ...], expected: float) -> None:
    async def scenario() -> None:
        queue, loop = Queue(), asyncio.get_running_loop()
        for date in dates:
            queue.add_after(A, date)
        assert queue.delayed == 1
        assert await take(queue) == A
        assert loop.time() == pytest.approx(expected)
        queue.done(A)
        await wait(10)
        assert (len(queue), queue.delayed) == (0, 0)

    run(scenario())


def test_a_forgotten_key_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        queue = Queue()
        for _ in range(5):
            queue.retry(A)
        queue.forget(A)
        await wait(1000)
        assert (len(queue), queue.delayed) == (0, 0)
        assert queue.retry(A) <= FIRST_DELAY * (1 + JITTER)

    run(scenario())


def test_waiting_and_working_times_are_known() -> None:
    async def scenario() -> None:
        queue = Queue()
        queue.add(A)
        queue.add(B)
        await take(queue)
        await wait(7)
        assert queue.oldest_work() == pytest.approx(7)
        assert queue.waiting_for() == pytest.approx(7)
        queue.done(A)
        assert queue.oldest_work() == 0

    run(scenario())


def test_an_echo_is_heard_at_once_where_all_is_well() -> None:
    async def scenario() -> None:
        queue = Queue()
        queue.echo(A)
        assert await take(queue) == A
        queue.echo(A)
        queue.succeeded(A)
        queue.done(A)
        assert len(queue) == 1, "heard while it was worked on"
        assert await take(queue) == A
        queue.succeeded(A)
        queue.done(A)
        await wait(1000)
        assert len(queue) == 0, "and once"

    run(scenario())


def test_an_echo_of_work_that_fails_comes_with_its_retry_and_news_comes_before() -> None:
    async def scenario() -> None:
        queue, loop = Queue(random.Random(1)), asyncio.get_running_loop()
        queue.add(A)
        await take(queue)
        queue.echo(A)
        queue.retry(A)
        queue.done(A)
        queue.echo(A)
        assert len(queue) == 0
        queue.add(A)
        assert len(queue) == 1, "what somebody else did is not waited for"
        await take(queue)
        queue.echo(A)
        delay, began = queue.retry(A), loop.time()
        queue.done(A)
        assert await take(queue) == A
        assert began < loop.time() <= began + delay, "the first retry's time"
        queue.succeeded(A)
        queue.done(A)

    run(scenario())


@given(st.lists(st.tuples(st.sampled_from(["add", "echo", "wait"]), st.booleans()), max_size=30))
def test_no_wake_up_is_lost_whatever_comes_of_the_work(story: list[tuple[str, bool]]) -> None:
    """After the last of them there is one more piece of work, begun later than it came."""

    async def scenario() -> None:
        queue, loop = Queue(random.Random(1)), asyncio.get_running_loop()
        told = begun = -1.0
        fails = True

        async def work() -> None:
            nonlocal begun
            while True:
                key = await take(queue)
                begun = loop.time()
                await wait(0.7)
                queue.retry(key) if fails else queue.succeeded(key)
                queue.done(key)

        working = asyncio.ensure_future(work())
        for what, fails in story:  # noqa: B007 -- the worker reads it
            await wait(0.3)
            if what != "wait":
                (queue.add if what == "add" else queue.echo)(A)
                told = loop.time()
        fails = False
        await wait(2 * LONGEST_DELAY)
        assert begun >= told
        assert len(queue) == queue.delayed == queue.busy == 0
        working.cancel()

    run(scenario())
