"""What HAProxy's lines and pods' pages say, and that what is kept of it is bounded."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from pilotboat.api.routing import BOUNDS
from pilotboat_gateway import evidence, requestlog, scrape
from pilotboat_gateway.evidence import Recorder
from pilotboat_gateway.requestlog import Copied, Fate, Seen
from pilotboat_gateway.web import Feedback

LINES: list[tuple[str, Seen | Copied | None]] = [
    ("chat chat:0 s1 200 1 2 3 40 -- 0 aaa 0", Seen("chat", "aaa", 200, False, 46.0, 0)),
    ("chat chat:0 s1 500 0 0 0 5 -- +2 aaa 0", Seen("chat", "aaa", 500, True, 5.0, 2)),
    ("chat chat:0 s1 200 0 0 0 5 SD 0 aaa 0", Seen("chat", "aaa", 200, True, 5.0, 0)),
    ("chat chat:0 s1 200 0 0 0 5 CD 0 aaa 0", Seen("chat", "aaa", 200, False, 5.0, 0)),
    ("chat chat:0 s1 -1 0 0 0 -1 CH 0 aaa 0", Seen("chat", "aaa", -1, False, None, 0)),
    ("chat chat:0 <NOSRV> 429 0 -1 -1 -1 PR 0 aaa 0", Seen("chat", None, 429, False, None, 0)),
    ("chat chat:0 <NOSRV> 503 0 -1 -1 -1 sQ 0 aaa 0", Seen("chat", "aaa", 503, True, None, 0)),
    ("chat:spill chat:1 s0 200 0 0 0 5 -- 0 bbb 0", Seen("chat", "bbb", 200, False, 5.0, 0)),
    ("chat:spill chat:spill <NOSRV> 530 0 -1 -1 -1 LR 0 - 0", Seen("chat", None, 503, True, None, 0)),
    ("chat chat:0 spill 200 0 0 0 5 -- 0 aaa 0", None),
    ("chat:copy chat:1 s0 200 0 0 0 5 -- 0 bbb 0", Copied("chat", Fate.ANSWERED)),
    ("chat:copy chat:1 s0 400 0 0 0 5 -- 0 bbb 0", Copied("chat", Fate.ANSWERED)),
    ("chat:copy chat:1 s0 200 0 0 0 5 CD 0 bbb 0", Copied("chat", Fate.ANSWERED)),
    ("chat:copy chat:1 s0 200 0 0 0 5 SD 0 bbb 0", Copied("chat", Fate.FAILED)),
    ("chat:copy chat:1 s0 500 0 0 0 5 -- 0 bbb 0", Copied("chat", Fate.FAILED)),
    ("chat:copy chat:1 s0 -1 0 0 0 -1 CH 0 bbb 0", Copied("chat", Fate.FAILED)),
    ("chat:copy chat:1 s0 429 0 0 0 5 -- 0 bbb 0", Copied("chat", Fate.DROPPED)),
    ("chat:copy chat:1 spill 530 0 0 0 5 -- 0 bbb 0", Copied("chat", Fate.DROPPED)),
    ("chat:copy chat:copy <NOSRV> 429 0 -1 -1 -1 PR 0 - 0", Copied("chat", Fate.DROPPED)),
    ("Server chat:0/s0 is UP. 1 active and 1 backup servers online. 0 sessions requeued, 0 total in queue.", None),
    ("", None),
]


@pytest.mark.parametrize(("line", "seen"), LINES)
def test_a_line_says_what_became_of_a_request(line: str, seen: Seen | Copied | None) -> None:
    assert requestlog.read(line) == seen
    assert requestlog.read(line, stopping=True) is None, "whoever follows the worker has it from the worker itself"


def test_of_a_worker_that_accepts_nothing_more_counts_what_it_tells_whoever_follows_it() -> None:
    line = "chat chat:0 s0 200 0 0 0 5 -- 0 aaa 1"
    assert requestlog.read(line) is None
    assert requestlog.read(line, stopping=True) == Seen("chat", "aaa", 200, False, 5.0, 0)


def test_minutes_are_kept_for_a_day() -> None:
    recorder = Recorder()
    seen = Seen("chat", "aaa", 200, False, 10.0, 0)
    for minute in range(1500):
        recorder.request(seen, 60.0 * minute)
    minutes = recorder.minutes("chat", 0)["aaa"]
    assert (len(minutes), minutes[-1].start, minutes[-1].requests) == (1441, 60 * 1499, 1)
    assert minutes[-1].first_token == {str(evidence.bucket(10.0)): 1}
    assert BOUNDS[evidence.bucket(10.0) - 1] < 10.0 <= BOUNDS[evidence.bucket(10.0)]


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
