"""What HAProxy's lines and pods' pages say, and that what is kept of it is bounded."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from pydantic import ValidationError

from pilotboat.api.routing import BOUNDS
from pilotboat_gateway import evidence, requestlog, scrape
from pilotboat_gateway.evidence import Recorder
from pilotboat_gateway.requestlog import Copied, Fate, Seen
from pilotboat_gateway.scrape import Pod, Scraper
from pilotboat_gateway.web import Feedback

LINES: list[tuple[str, Seen | Copied | None]] = [
    ("chat chat:0 s1 200 1 2 3 40 -- 0 aaa 0 17 43 60", Seen("chat", "aaa", 200, False, 43.0, None, 0, True)),
    ("chat chat:0 s1 200 1 2 3 40 -- 0 aaa 0 17 -4 60", Seen("chat", "aaa", 200, False, None, None, 0, True)),
    ("chat chat:0 s1 500 0 0 0 5 -- +2 aaa 0 17 5 60", Seen("chat", "aaa", 500, True, None, None, 2, True)),
    ("chat chat:0 s1 200 0 0 0 5 SD 0 aaa 0 17 5 60", Seen("chat", "aaa", 200, True, 5.0, None, 0, True)),
    ("chat chat:0 s1 200 0 0 0 5 CD 0 aaa 0 17 5 60", Seen("chat", "aaa", 200, False, 5.0, None, 0, True)),
    ("chat chat:0 s1 400 0 0 0 -1 CH 0 aaa 0 17 - 60", Seen("chat", "aaa", 400, False, None, 60.0, 0, True)),
    ("chat chat:0 <NOSRV> -1 0 302 -1 -1 CQ 0 aaa 0 17 - 60", Seen("chat", "aaa", -1, False, None, 60.0, 0, True)),
    ("chat chat:0 <NOSRV> 400 301 -1 -1 -1 CR 0 aaa 0 17 - 60", Seen("chat", "aaa", 400, False, None, None, 0, False)),
    ("chat chat:0 s1 401 0 0 0 1 -- 0 aaa 0 17 1 60", Seen("chat", "aaa", 401, False, None, None, 0, False)),
    ("chat chat:0 s1 429 0 0 0 1 -- 0 aaa 0 17 1 60", Seen("chat", "aaa", 429, False, None, None, 0, False)),
    ("chat chat:0 s1 200 0 0 0 1 -- 0 aaa 0 - - -", Seen("chat", "aaa", 200, False, None, None, 0, False)),
    ("chat chat:0 <NOSRV> 429 0 -1 -1 -1 PR 0 aaa 0 17 - 60", Seen("chat", None, 429, False, None, None, 0, False)),
    ("chat chat:0 <NOSRV> 503 0 -1 -1 -1 sQ 0 aaa 0 17 - 60", Seen("chat", "aaa", 503, True, None, None, 0, True)),
    ("chat:spill chat:1 s0 200 0 0 0 5 -- 0 bbb 0 17 5 60", Seen("chat", "bbb", 200, False, 5.0, None, 0, True)),
    (
        "chat:spill chat:spill <NOSRV> 530 0 -1 -1 -1 LR 0 - 0 17 - 60",
        Seen("chat", None, 503, True, None, None, 0, True),
    ),
    ("chat chat:0 spill 200 0 0 0 5 -- 0 aaa 0 17 5 60", None),
    ("chat:copy chat:1 s0 200 0 0 0 5 -- 0 bbb 0 - - -", Copied("chat", Fate.ANSWERED)),
    ("chat:copy chat:1 s0 400 0 0 0 5 -- 0 bbb 0 - - -", Copied("chat", Fate.ANSWERED)),
    ("chat:copy chat:1 s0 200 0 0 0 5 CD 0 bbb 0 - - -", Copied("chat", Fate.ANSWERED)),
    ("chat:copy chat:1 s0 200 0 0 0 5 SD 0 bbb 0 - - -", Copied("chat", Fate.FAILED)),
    ("chat:copy chat:1 s0 500 0 0 0 5 -- 0 bbb 0 - - -", Copied("chat", Fate.FAILED)),
    ("chat:copy chat:1 s0 -1 0 0 0 -1 CH 0 bbb 0 - - -", Copied("chat", Fate.FAILED)),
    ("chat:copy chat:1 s0 429 0 0 0 5 -- 0 bbb 0 - - -", Copied("chat", Fate.DROPPED)),
    ("chat:copy chat:1 spill 530 0 0 0 5 -- 0 bbb 0 - - -", Copied("chat", Fate.DROPPED)),
    ("chat:copy chat:copy <NOSRV> 429 0 -1 -1 -1 PR 0 - 0 - - -", Copied("chat", Fate.DROPPED)),
    ("Server chat:0/s0 is UP. 1 active and 1 backup servers online. 0 sessions requeued, 0 total in queue.", None),
    ("", None),
]


@pytest.mark.parametrize(("line", "seen"), LINES)
def test_a_line_says_what_became_of_a_request(line: str, seen: Seen | Copied | None) -> None:
    assert requestlog.read(line) == seen
    assert requestlog.read(line, stopping=True) is None, "whoever follows the worker has it from the worker itself"


def test_of_a_worker_that_accepts_nothing_more_counts_what_it_tells_whoever_follows_it() -> None:
    line = "chat chat:0 s0 200 0 0 0 5 -- 0 aaa 1 17 5 60"
    assert requestlog.read(line) is None
    assert requestlog.read(line, stopping=True) == Seen("chat", "aaa", 200, False, 5.0, None, 0, True)


def test_minutes_are_kept_for_a_day() -> None:
    recorder = Recorder()
    seen = Seen("chat", "aaa", 200, False, 10.0, None, 0, True)
    for minute in range(1500):
        recorder.request(seen, 60.0 * minute)
    minutes = recorder.minutes("chat", 0)["aaa"]
    assert (len(minutes), minutes[-1].start, minutes[-1].requests) == (1441, 60 * 1499, 1)
    assert minutes[-1].first_token == {str(evidence.bucket(10.0)): 1}
    assert BOUNDS[evidence.bucket(10.0) - 1] < 10.0 <= BOUNDS[evidence.bucket(10.0)]


def test_polls_and_callers_mistakes_are_no_evidence() -> None:
    """They are soon answered, and there may be any number of them: a slow canary, or one that fails, would hide."""
    recorder = Recorder()
    lines = [
        "chat chat:0 s1 200 0 0 0 1 -- 0 aaa 0 - - -",
        "chat chat:0 s1 401 0 0 0 1 -- 0 aaa 0 17 1 60",
        "chat chat:0 s1 200 0 0 0 900 -- 0 aaa 0 17 900 950",
        "chat chat:0 s1 400 0 0 0 -1 CH 0 aaa 0 17 - 700",
    ]
    for line in lines:
        seen = requestlog.read(line)
        assert isinstance(seen, Seen)
        recorder.request(seen, 60.0)
    (minute,) = recorder.minutes("chat", 0)["aaa"]
    assert (minute.requests, minute.first_token) == (2, {str(evidence.bucket(900.0)): 1})
    assert minute.given_up == {str(evidence.bucket(700.0)): 1}
    (whole,) = (revision for _, revision in recorder.revisions())
    assert whole.statuses == {200: 2, 401: 1, 400: 1}, "metrics tell of all"


@pytest.mark.parametrize("many", [300, 1000])
def test_however_many_pods_and_lanes_take_turns_nobody_drives_out_another(many: int) -> None:
    recorder = Recorder()
    for minute in range(5):
        for number in range(many):
            recorder.meet(f"d{number}", "aaa")
        for number in range(many):
            recorder.request(Seen(f"d{number}", "aaa", 200, False, 10.0, None, 0, True), 60.0 * minute)
            recorder.per_token("chat", "aaa", f"p{number}", Counter({30: 5}), 60.0 * minute)
    told = recorder.pods("chat", 0)
    assert sum(sum(each.per_token.values()) for each in told) == 5 * 5 * many
    assert all(len(recorder.minutes(f"d{number}", 0)["aaa"]) == 5 for number in range(many))
    assert [each.start for each in recorder.minutes("d0", 120)["aaa"]] == [120, 180, 240]
    assert {each.start for each in recorder.pods("chat", 120)} == {120, 180, 240}


def test_what_is_kept_and_what_is_told_are_bounded_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MINUTES", 100)
    monkeypatch.setattr(evidence, "REVISIONS", 20)
    recorder = Recorder()
    for minute in range(10):
        for number in range(30):
            recorder.request(Seen(f"d{number}", "aaa", 200, False, 10.0, None, 0, True), 60.0 * minute)
            recorder.per_token("chat", "aaa", f"p{number}", Counter({30: 5}), 60.0 * minute)
    assert sorted(Counter(each.start for each in recorder.pods("chat", 0)).items()) == [(420, 30), (480, 30), (540, 30)]
    assert [each.start for each in recorder.minutes("d0", 0)["aaa"]] == [420, 480, 540], (
        "totals are not what keeps them"
    )
    assert len(list(recorder.revisions())) == 20
    monkeypatch.setattr(evidence, "POD_MINUTES", 40)
    assert Counter(each.start for each in recorder.pods("chat", 0)) == {540: 30, 480: 10}


def test_feedback_counts_once_for_a_revision_that_is_known_and_outcomes_are_bounded() -> None:
    recorder = Recorder()
    recorder.meet("chat", "aaa")
    assert recorder.feedback("chat", "aaa-1-2", "good")
    assert recorder.feedback("chat", "aaa-1-2", "bad")
    assert not recorder.feedback("other", "aaa-3", "good")
    assert recorder.outcomes("chat") == {"aaa": {"good": 1}}
    for number in range(evidence.OUTCOMES + 10):
        assert recorder.feedback("chat", f"aaa-x{number}", f"outcome {number}")
    assert len(recorder.outcomes("chat")["aaa"]) == evidence.OUTCOMES + 1
    assert recorder.outcomes("chat")["aaa"]["other"] == 11


@pytest.mark.parametrize("outcome", ["\x1b[2J", "good\n", "\x7f", "\x9b2J"])
def test_an_outcome_without_a_printed_form_is_refused_in_words(outcome: str) -> None:
    with pytest.raises(ValidationError) as found:
        Feedback(request_id="aaa-1", outcome=outcome)
    assert found.value.errors()[0]["msg"] == "must not contain control characters"
    assert Feedback(request_id="aaa-1", outcome="größer 👨‍👩‍👧").outcome == "größer 👨‍👩‍👧"


def test_a_pods_histogram_grows_by_differences_and_survives_its_restart() -> None:
    page = f'{scrape.NAME}{{model_name="m",le="0.01"}} 3.0\n{scrape.NAME}{{model_name="m",le="+Inf"}} 5.0\n'
    before = scrape.read(page)
    assert before == {0.01: 3.0, float("inf"): 5.0}
    after = {0.01: 4.0, float("inf"): 8.0}
    near, beyond = scrape.nearest(0.01), len(BOUNDS)
    assert scrape.added(before, after) == Counter({near: 1, beyond: 2})
    assert scrape.added(after, {0.01: 1.0, float("inf"): 1.0}) == Counter({near: 1})
    assert all(scrape.nearest(bound / 1000) == at for at, bound in enumerate(BOUNDS))


def test_nothing_is_counted_where_the_buckets_are_not_those_of_before() -> None:
    cut, full = {0.01: 3.0}, {0.01: 3.0, 0.1: 4.0, math.inf: 5000.0}
    assert scrape.added(cut, full) == scrape.added(full, cut) == Counter()
    assert scrape.added({}, full) == Counter(), "it may be all that the pod ever counted"


def test_a_server_that_began_anew_and_has_passed_its_last_count_already_counts_from_nothing() -> None:
    counts = scrape.added({0.01: 3.0, math.inf: 3.0}, {0.01: 0.0, math.inf: 4.0})
    assert counts == Counter({len(BOUNDS): 4})


@pytest.mark.parametrize("count", ["+Inf", "-Inf", "NaN", "-1", "1e300"])
def test_what_is_no_count_is_left_out(count: str) -> None:
    page = f'{scrape.NAME}{{le="0.01"}} 1\n' + f'{scrape.NAME}{{le="+Inf"}} {count}\n' * 2
    assert scrape.read(page) == {0.01: 1.0}


def test_no_bound_is_beyond_what_can_be_placed() -> None:
    page = "".join(f'{scrape.NAME}{{le="{bound}"}} 1\n' for bound in ("NaN", "-Inf", "-1", "0", "1e308", "+Inf"))
    found = scrape.read(page)
    assert scrape.added(dict.fromkeys(found, 0.0), found).total() == 1


OK = b"HTTP/1.1 200 OK\r\n"


def page(low: int, whole: int) -> bytes:
    """So long that it comes in many pieces, the series at its end."""
    return f'{"# more" * 50_000}\n{scrape.NAME}{{le="0.01"}} {low}\n{scrape.NAME}{{le="+Inf"}} {whole}\n'.encode()


def told(body: bytes, head: bytes = OK) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[Pod]:
    """A pod that gives these answers, one after the other."""
    left = iter(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            writer.write(next(left))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    async with server:
        yield Pod("chat", "aaa", "p-1", f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    "bad",
    [
        told(page(9, 9))[:-20],
        OK + b"\r\n" + page(90, 99)[:-2],
        told(page(9, 9) * (scrape.MOST // len(page(9, 9)) + 1)),
        told(b"no gzip", OK + b"Content-Encoding: gzip\r\n"),
        told(page(9, 9), b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n"),
        told(page(9, 9), b"HTTP/1.1 503 Busy\r\n"),
        b"\xff\xfe\r\n\r\n",
    ],
)
async def test_a_page_counts_when_it_is_whole_and_one_that_is_not_is_dropped(bad: bytes) -> None:
    async with answering(told(page(3, 5)), bad, told(page(4, 8))) as pod:
        scraper = Scraper()
        assert [await scraper.round([pod]) for _ in range(2)] == [[], []]
        assert await scraper.round([pod]) == [(pod, Counter({scrape.nearest(0.01): 1, len(BOUNDS): 2}))]


async def test_a_pods_word_that_it_cannot_mean_ends_no_round() -> None:
    lines = "".join(f'{scrape.NAME}{{le="{bound}"}} +Inf\n' for bound in ("1e308", "+Inf")).encode()
    async with answering(told(page(3, 5)), told(page(4, 8)[:-1] + b"\n" + lines), told(page(5, 9))) as pod:
        scraper = Scraper()
        await scraper.round([pod])
        assert [sum(counts.values()) for _, counts in await scraper.round([pod])] == [3]
