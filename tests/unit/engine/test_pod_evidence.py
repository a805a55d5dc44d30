"""Counters of server pods as minutes: the real server's text, counters that begin anew, and real HTTP."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api import labels
from pilotboat.api.routing import BOUNDS
from pilotboat.engine.engine import utc
from pilotboat.engine.evidence import EvidencePoller
from pilotboat.engine.kinds import MODEL_DEPLOYMENT, POD, Key
from pilotboat.engine.metrics import Metrics as OurMetrics
from pilotboat.engine.pod_evidence import ERRORS, FIRST, PER_TOKEN, PERIOD, REQUESTS, Ledger, Reading, read
from pilotboat.engine.store import Store
from pilotboat_server.metrics import Metrics
from tests.unit.engine.objects import newer, parent, pod

CHAT = Key("modeldeployments", "ns", "chat")
PATIENCE = 20.0


def text(metrics: Metrics) -> str:
    return metrics.render(0.0).decode()


def test_what_the_server_tells_is_understood() -> None:
    metrics = Metrics("chat")
    for reason in ("stop", "length", "cancelled"):
        metrics.succeeded(reason)
    metrics.failed("engine")
    for reason in ("not_serving", "queue_full", "invalid"):
        metrics.rejected(reason)
    for seconds in (0.0005, 0.1, 0.1, 1e6):
        metrics.first_token(0.0, seconds)
    metrics.per_token.observe(0.02)
    found = read(text(metrics))
    assert (found[REQUESTS, ""], found[ERRORS, ""]) == (5, 2)
    first = {int(index): count for (series, index), count in found.items() if series == FIRST}
    assert first.pop(0) == 1
    assert first.pop(len(BOUNDS)) == 1
    ((index, count),) = first.items()
    assert (count, BOUNDS[index - 1] < 100 <= BOUNDS[index]) == (2, True)
    ((series, index_of),) = [key for key in found if key[0] == PER_TOKEN]
    assert BOUNDS[int(index_of) - 1] < 20 <= BOUNDS[int(index_of)], series


@pytest.mark.parametrize("page", ["", "<html>", "vllm:e2e_request_latency_seconds_count 3\n"])
def test_a_page_without_our_series_says_nothing(page: str) -> None:
    assert read(page) == Counter()


def test_a_page_that_is_broken_is_refused() -> None:
    with pytest.raises(ValueError, match=r".*"):
        read('vllm:request_success_total{model_name="chat\n')


@pytest.mark.parametrize("count", ["+Inf", "NaN", "1e300"])
def test_a_count_that_is_none_spoils_the_page_and_nothing_else(count: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read(f"vllm:request_success_total {count}\n")
    with pytest.raises(ValueError, match=r".*"):
        read(f'vllm:time_to_first_token_seconds_bucket{{le="0.1"}} {count}\n')


def counted(requests: int, errors: int = 0) -> Reading:
    return +Counter({(REQUESTS, ""): requests, (ERRORS, ""): errors})


PROCESSES = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 200)), min_size=1, max_size=5), min_size=1, max_size=4
)


@given(PROCESSES)
def test_every_request_counts_once_in_the_minute_it_is_read_though_the_process_begins_anew(
    processes: list[list[tuple[int, int]]],
) -> None:
    """Each process: so many requests more, and so many seconds later. One that begins anew shows by a lower count."""
    ledger, now, want = Ledger(), 0.0, Counter[int]()
    ledger.book("p", "r", counted(0), now)
    last = 0
    for steps in processes:
        total = 0
        for more, later in steps:
            now += later
            unseen = total == 0 and more >= last > 0
            total += more
            want[int(now) // PERIOD * PERIOD] += more - last if unseen else more
            ledger.book("p", "r", counted(total), now)
            last = total
    found = {minute.start: minute.requests for minute in ledger.evidence(now).minutes.get("r", [])}
    assert found == +want


def test_the_first_reading_of_a_pod_only_tells_where_it_stands() -> None:
    ledger = Ledger()
    ledger.book("p", "old", counted(1000, 10), 5.0)
    ledger.book("q", "new", counted(0), 5.0)
    assert ledger.evidence(5.0).minutes == {}
    ledger.book("p", "old", counted(1010, 11), 61.0)
    ledger.book("q", "new", counted(2, 2), 61.0)
    told = ledger.evidence(61.0)
    assert {name: [(m.start, m.requests, m.errors) for m in each] for name, each in told.minutes.items()} == {
        "old": [(60, 10, 1)],
        "new": [(60, 2, 2)],
    }
    ledger.keep(["q"], 61.0)
    ledger.book("p", "old", counted(2000), 62.0)
    assert [m.requests for m in ledger.evidence(62.0).minutes["old"]] == [10]
    ledger.keep([], 2 * 24 * 3600.0)
    assert ledger.evidence(0.0).minutes == {}


async def test_where_a_named_gateway_splits_the_pods_are_asked() -> None:
    metrics, ours, woken = Metrics("chat"), OurMetrics(), asyncio.Queue[Key]()
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text=text(metrics))

    def wake(keys: Iterable[Key]) -> None:
        for key in keys:
            woken.put_nowait(key)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    store = Store(asyncio.get_running_loop().time)
    chat = parent(spec={"traffic": "HTTPRoute"})
    store.put(MODEL_DEPLOYMENT, chat)
    serving = pod(chat, "chat-r-1")
    serving["metadata"]["labels"][labels.REVISION] = "r"
    ready = {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    store.put(POD, newer(serving, status=ready))
    store.put(POD, newer(pod(chat, "chat-r-2")))
    port: int = runner.addresses[0][1]
    poller = EvidencePoller(store, wake, ours.evidence_polls, utc, every=0.01, port=1, server_port=port)
    task = asyncio.create_task(poller.run())
    try:
        poller.want(CHAT, True)
        assert await asyncio.wait_for(woken.get(), PATIENCE) == CHAT
        metrics.failed("engine")
        await asyncio.wait_for(woken.get(), PATIENCE)
        ((heard, _),) = poller.of(CHAT)
        (minute,) = heard.minutes["r"]
        assert (minute.requests, minute.errors, set(asked)) == (1, 1, {"/metrics"})
        poller.want(CHAT, False)
        assert poller.of(CHAT) == []
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await runner.cleanup()
