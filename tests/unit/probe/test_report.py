"""Whatever was measured, the report fits, is read again, and has lost no request."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pilotboat.api.probing import (
    MAX_REFERENCES,
    Agreement,
    Difference,
    LoadResult,
    PerplexityResult,
    ProbeMinute,
    ProbeResult,
    QualityResult,
    Quantiles,
    TrafficResult,
)
from pilotboat.api.routing import BOUNDS
from pilotboat.api.runtime import MAX_REPORT, TerminationReport
from pilotboat_probe import report
from pilotboat_probe.compare import MAX_WORST
from pilotboat_probe.measure import coarser, kinds

M = TypeVar("M", bound=BaseModel)


def built(model: type[M], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[M]:
    """Only with what is given: hypothesis would fill in aliases, and floats that are no numbers."""
    return st.fixed_dictionaries(fields).map(lambda values: model(**values))


COUNTS = st.integers(0, 36_000)
HISTOGRAMS = st.dictionaries(st.integers(0, len(BOUNDS)).map(str), st.integers(1, 36_000), max_size=len(BOUNDS) + 1)
MINUTES = built(
    ProbeMinute,
    start=st.integers(0, 40).map(lambda minute: 1_790_000_040 + 60 * minute),
    requests=COUNTS,
    errors=COUNTS,
    first_token=HISTOGRAMS,
    per_token=HISTOGRAMS,
)
SERIES = st.lists(MINUTES, max_size=41, unique_by=lambda minute: minute.start)
SHARES = st.floats(0, 1).map(lambda share: round(share, 4))
TEXTS = st.text(max_size=400)
AGREEMENTS = built(
    Agreement, answered=COUNTS, exact=COUNTS, prefix=SHARES, similarity=SHARES, log_likelihood=st.floats(-1e9, 1e9)
)
QUALITY = built(
    QualityResult,
    prompts=COUNTS,
    canary=AGREEMENTS,
    itself=AGREEMENTS,
    examples=st.lists(built(Difference, prompt=TEXTS, stable=TEXTS, canary=TEXTS), max_size=3),
)
PERPLEXITY = built(
    PerplexityResult,
    references=COUNTS,
    stable=st.floats(1, 1e22),
    canary=st.floats(1, 1e22),
    gaps=st.lists(st.floats(-50, 50).map(lambda gap: round(gap, 4)), max_size=MAX_REFERENCES),
    worst=st.text(max_size=MAX_WORST),
)
TIMES = built(Quantiles, count=COUNTS, p50=st.floats(0, 1e9), p95=st.floats(0, 1e9), p99=st.floats(0, 1e9))
LOAD = built(
    LoadResult,
    planned=COUNTS,
    sent=COUNTS,
    ok=COUNTS,
    kept_up=st.booleans(),
    errors=st.dictionaries(st.integers(100, 599).map(str), COUNTS, max_size=300).map(kinds),
    first_token=TIMES,
    per_token=TIMES,
    asked_qps=st.floats(0, 500),
    achieved_qps=st.floats(0, 500),
)
TRAFFIC = built(TrafficResult, stable=SERIES, canary=SERIES, held_back=COUNTS)
RESULTS = built(
    ProbeResult,
    canary=st.just("b" * 63),
    stable=st.just("a" * 63),
    quality=st.none() | QUALITY,
    perplexity=st.none() | PERPLEXITY,
    load_test=st.none() | LOAD,
    traffic=st.none() | TRAFFIC,
)


def told(result: ProbeResult) -> ProbeResult:
    """What the operator reads of it."""
    message = report.measured(result).to_message()
    assert len(message.encode()) <= MAX_REPORT
    read = TerminationReport.parse(message)
    assert read
    return ProbeResult.model_validate(read.result)


def worst(minutes: int) -> ProbeResult:
    """Every bucket in use in every minute."""
    full = {str(index): 12_345 for index in range(len(BOUNDS) + 1)}
    series = [
        ProbeMinute(start=1_790_000_040 + 60 * n, requests=36_000, errors=36_000, first_token=full, per_token=full)
        for n in range(minutes)
    ]
    return ProbeResult(canary="b" * 63, stable="a" * 63, traffic=TrafficResult(stable=series, canary=series))


@given(RESULTS)
def test_a_report_fits_and_counts_every_request(result: ProbeResult) -> None:
    read = told(result)
    assert read.load_test == result.load_test
    if result.quality:
        assert read.quality
        assert read.quality.canary == result.quality.canary
    assert read.perplexity == result.perplexity
    for side in ("stable", "canary"):
        if result.traffic:
            assert sums(getattr(read.traffic, side)) == sums(getattr(result.traffic, side))


def sums(minutes: list[ProbeMinute]) -> tuple[int, ...]:
    histograms = [(minute.first_token, minute.per_token) for minute in minutes]
    return (
        sum(minute.requests for minute in minutes),
        sum(minute.errors for minute in minutes),
        *(sum(sum(pair[which].values()) for pair in histograms) for which in (0, 1)),
    )


@pytest.mark.parametrize(("minutes", "each", "buckets"), [(1, 60, 1), (2, 60, 2), (41, 60, 2)])
def test_the_worst_there_can_be_still_fits(minutes: int, each: int, buckets: int) -> None:
    traffic = told(worst(minutes)).traffic
    assert traffic
    assert traffic.minutes_each <= each
    assert len(traffic.stable) == len(traffic.canary) == 1


def test_half_an_hour_of_few_requests_keeps_its_latencies() -> None:
    minute = {"requests": 10, "errors": 0, "first_token": {"30": 7, "31": 3}, "per_token": {"12": 10}}
    series = [ProbeMinute(start=1_790_000_040 + 60 * n, **minute) for n in range(30)]
    traffic = told(ProbeResult(canary="b", stable="a", traffic=TrafficResult(stable=series, canary=series))).traffic
    assert traffic
    assert traffic.buckets_each == 1
    assert traffic.minutes_each == 2
    assert [minute.start for minute in traffic.stable] == [minute.start for minute in traffic.canary]


@given(SERIES, st.integers(1, 8))
def test_latencies_are_never_told_as_less(series: list[ProbeMinute], each: int) -> None:
    merged = coarser(series, 0, 60, each)
    before = sorted(int(index) for minute in series for index in minute.first_token)
    after = sorted(int(index) for minute in merged for index in minute.first_token)
    assert not before or (after[-1] >= before[-1] and after[0] >= before[0])
    assert all(index <= len(BOUNDS) for index in after)


def test_where_no_message_can_be_written_the_log_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(report.LOG_VARIABLE, str(tmp_path / "missing" / "log"))
    report.write(TerminationReport(reason="Probed"))
    assert '"reason":"Probed"' in capsys.readouterr().err
