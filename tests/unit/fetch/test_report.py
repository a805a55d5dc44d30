"""The termination message always fits, and keeps what matters most."""

from pathlib import Path

import pytest

from pilotboat.api.runtime import MAX_REPORT, FetchedItem, FetchResult, TerminationReport
from pilotboat_fetch import report


def result(files: int) -> FetchResult:
    digests = {f"part-{number:05}.{kind}": "a" * 64 for number in range(files) for kind in ("safetensors", "json")}
    return FetchResult(
        items={"model": FetchedItem(revision="b" * 40, digests=digests, manifest_sha256="c" * 64, bytes=7)}
    )


@pytest.mark.parametrize(("files", "kept"), [(1, 2), (10, 20), (30, 30), (300, 0)])
def test_digests_give_way_weights_last(files: int, kept: int) -> None:
    message = report.fetched(result(files)).to_message()
    parsed = TerminationReport.parse(message)
    assert len(message.encode()) <= MAX_REPORT
    assert parsed
    item = FetchResult.model_validate(parsed.result).items["model"]
    assert len(item.digests) == kept
    assert item.manifest_sha256 == "c" * 64
    assert item.revision == "b" * 40


@pytest.mark.parametrize(
    ("cached", "words"),
    [(None, "model: 2 files"), (0, "model: 2 files, 0.0 MiB of 3.0 MiB from the cache")],
)
def test_what_the_cache_had_is_told_where_there_is_one(cached: int | None, words: str) -> None:
    item = result(1).items["model"].model_copy(update={"bytes": 3 << 20, "cached": cached})
    told = report.fetched(FetchResult(items={"model": item}))
    assert told.message == words
    assert told.result["items"]["model"].get("cached") == cached


def test_where_no_message_can_be_written_the_log_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(report.LOG_VARIABLE, str(tmp_path / "missing" / "log"))
    report.write(TerminationReport(reason="Fetched"))
    assert '"reason":"Fetched"' in capsys.readouterr().err
