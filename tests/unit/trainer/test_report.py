"""The termination message of a trainer always fits, and always has the result."""

from __future__ import annotations

import pytest

from pilotboat.api.runtime import MAX_REPORT, TerminationReport, TrainerResult, files_digest
from pilotboat_trainer import report
from unit.trainer.test_output import result


@pytest.mark.parametrize(("files", "kept"), [(1, 2), (10, 20), (30, 30), (300, 0), (5000, 0)])
def test_digests_give_way_and_the_result_stays(files: int, kept: int) -> None:
    digests = {f"part-{number:05}.{kind}": "a" * 64 for number in range(files) for kind in ("safetensors", "json")}
    message = report.trained(result(digests), "3 steps").to_message()
    assert len(message.encode()) <= MAX_REPORT
    parsed = TerminationReport.parse(message)
    assert parsed
    assert parsed.message == "3 steps"
    told = TrainerResult.model_validate(parsed.result)
    assert (told.path, len(told.digests)) == ("qa/adapter", kept)
    assert told.files_sha256 == files_digest(digests)


def test_the_digest_of_all_files_changes_with_any_of_them() -> None:
    given = {"a": "1", "b": "2"}
    same = dict(reversed(given.items()))
    others = [{"a": "1"}, {"a": "1", "b": "3"}, {"a": "1", "c": "2"}, {"a": "2", "b": "1"}, {}]
    assert files_digest(given) == files_digest(same)
    assert files_digest(given) not in map(files_digest, others)
