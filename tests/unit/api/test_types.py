"""The API types by themselves: durations, unions, conditions, reports, reasons, labels, config files."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pilotboat.api import labels
from pilotboat.api.base import MAX_NAME, seconds
from pilotboat.api.conditions import Condition, find, merge
from pilotboat.api.crd import FINE_TUNE_JOB, MODEL_DEPLOYMENT, structural
from pilotboat.api.finetune_job import FineTuneJobSpec
from pilotboat.api.gates import LoadGate, QualityGate
from pilotboat.api.model_deployment import ModelDeploymentSpec
from pilotboat.api.probing import GENERAL_PROMPTS, LoadWork
from pilotboat.api.reasons import Reason
from pilotboat.api.reference import reasons
from pilotboat.api.runbooks import RUNBOOKS
from pilotboat.api.runtime import MAX_REPORT, ServerConfig, TerminationReport, TrainerResult
from pilotboat.api.sources import DatasetSource, ModelSource
from pilotboat.plan.canary.gates import answers
from pilotboat_probe.load import arrivals
from pilotboat_probe.prompts import PROMPTS

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("1h1m1s", 3661), ("0s", 0), ("99999h", 359996400)]
)
def test_durations(text: str, value: int) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5m1h", "5m5m", "1d", "5m\n", "\u0665m", "1.5h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 90s, 5m or 1h30m"):
        seconds(text)


@pytest.mark.parametrize(
    ("quality", "words"),
    [
        ({"minEqual": 0.9}, "n = 20 shows 0.88, n = 25 would do"),
        ({"minEqual": 1}, "n = 20 shows 0.88, n = 100 0.973"),
        ({"prompts": ["Hello"] * 10}, "n = 10 shows 0.787, n = 11 would do"),
        ({"minEqual": 0.5, "perplexity": {}, "prompts": ["Hello"]}, "n = 1 shows 0.269, n = 3 would do"),
    ],
)
def test_a_share_of_equal_answers_that_nobody_could_show_is_refused(quality: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        QualityGate.model_validate(quality)


@pytest.mark.parametrize("prompts", [0, 1, 5, 19, 20, 100])
def test_what_may_be_asked_for_is_shown_where_all_answers_are_equal(prompts: int) -> None:
    of = prompts or GENERAL_PROMPTS
    highest = of / (of + 2.7061)
    QualityGate.model_validate({"minEqual": highest, "prompts": ["Hello"] * prompts})
    assert answers(of, of, highest).passed
    assert len(PROMPTS) == GENERAL_PROMPTS


@pytest.mark.parametrize(
    ("qps", "duration", "planned"), [(1, "100s", 100), (0.5, "200s", 100), (3.5, "1m", 210), (100, "10m", 60_000)]
)
def test_a_load_that_may_be_asked_for_can_be_measured(qps: float, duration: str, planned: int) -> None:
    asked = LoadGate.model_validate({"qps": qps, "duration": duration, "maxFirstTokenMilliseconds": 500})
    work = LoadWork(rate=asked.qps, duration=asked.duration)
    assert len(arrivals(work.rate, seconds(work.duration), work.seed)) == planned


@pytest.mark.parametrize(("qps", "duration"), [(1, "99s"), (200, "10m"), (10, "11m")])
def test_a_load_that_cannot_be_measured_is_refused(qps: float, duration: str) -> None:
    with pytest.raises(ValidationError, match="duration: at most"):
        LoadGate.model_validate({"qps": qps, "duration": duration, "maxFirstTokenMilliseconds": 500})


def test_a_union_says_what_may_be_given() -> None:
    with pytest.raises(ValidationError, match="give exactly one of huggingFace, http, pvc, fineTuneJob"):
        ModelSource.model_validate({})
    two = {"pvc": {"claimName": "a"}, "configMap": {"name": "b", "key": "c"}}
    with pytest.raises(ValidationError, match=r"exactly one of .*, not pvc and configMap"):
        DatasetSource.model_validate(two)


@given(st.sampled_from(["huggingFace", "http", "pvc", "fineTuneJob"]))
def test_a_union_knows_what_was_chosen(kind: str) -> None:
    values: dict[str, Any] = {
        "huggingFace": {"repo": "o/m"},
        "http": {"urls": ["https://h/m"], "sha256": "0" * 64},
        "pvc": {"claimName": "a"},
        "fineTuneJob": {"name": "qa"},
    }
    name, value = ModelSource.model_validate({kind: values[kind]}).chosen()
    assert name == kind
    assert value.wire() == values[kind] | ({"revision": "main"} if kind == "huggingFace" else {})


def test_an_unknown_field_is_refused_and_both_cases_are_read() -> None:
    source = {"hugging_face": {"repo": "o/m"}}
    assert ModelDeploymentSpec.model_validate({"model": {"source": source}}).wire()["model"]["source"]
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        ModelDeploymentSpec.model_validate({"model": {"source": source}, "modle": {}})


def cond(kind: str, status: str, time: str | None = None, reason: str = "Starting") -> Condition:
    return Condition.model_validate({"type": kind, "status": status, "reason": reason, "lastTransitionTime": time})


def test_a_transition_time_moves_only_with_the_status() -> None:
    first, then, later = (f"2026-05-01T12:0{minute}:00Z" for minute in range(3))
    old = [cond("Ready", "False", first), cond("Available", "True", first), cond("Gone", "True", first)]
    new = [cond("Ready", "False", reason="Loading"), cond("Available", "False"), cond("Fresh", "True")]
    merged = merge(old, new, then)
    assert [(c.type, c.reason, c.last_transition_time) for c in merged] == [
        ("Ready", "Loading", first),
        ("Available", "Starting", then),
        ("Fresh", "Starting", then),
    ]
    assert merge(merged, new, later) == merged
    assert find(merged, "Ready") == merged[0]
    assert find(merged, "Gone") is None


@given(
    reason=st.text(max_size=6000),
    message=st.text(max_size=6000),
    result=st.dictionaries(st.text(max_size=50), st.text(max_size=2000), max_size=5),
)
def test_a_report_always_fits_and_is_read_again(reason: str, message: str, result: dict[str, Any]) -> None:
    text = TerminationReport(reason=reason, message=message, result=result).to_message()
    assert len(text.encode()) <= MAX_REPORT
    read = TerminationReport.parse(text)
    assert read is not None
    assert reason.startswith(read.reason)
    assert message.startswith(read.message)
    assert read.result in (result, {})


def test_a_long_message_is_cut_before_the_result_is_lost() -> None:
    result = {"digests": {f"model-{n}.safetensors": "a" * 64 for n in range(20)}}
    read = TerminationReport.parse(TerminationReport(reason="Trained", message="ж" * 9000, result=result).to_message())
    assert read is not None
    assert read.result == result
    assert read.message


@given(st.one_of(st.none(), st.text(), st.text().map(lambda text: f'{{"pilotboat": 1, {text}')))
def test_what_is_no_report_is_none(text: str | None) -> None:
    assert TerminationReport.parse(text) is None


@pytest.mark.parametrize(
    "text", ['{"pilotboat": 2, "reason": "X"}', '{"pilotboat": 1}', '["pilotboat"]', '"pilotboat"']
)
def test_what_is_json_and_no_report_is_none(text: str) -> None:
    assert TerminationReport.parse(text) is None


def test_a_loss_that_is_no_number_is_left_out_of_the_result() -> None:
    made = TrainerResult.model_validate(
        {
            "type": "Adapter",
            "path": "qa/adapter",
            "digests": {},
            "steps": 1,
            "trainLoss": math.nan,
            "trainableParameters": 1,
            "totalParameters": 2,
            "examples": 1,
            "datasetSha256": "x",
        }
    )
    assert "trainLoss" not in made.wire()


def test_every_reason_has_a_runbook_and_is_documented() -> None:
    assert set(RUNBOOKS) == set(Reason)
    page = (ROOT / "docs" / "reasons.md").read_text()
    assert page == reasons()
    assert all(re.fullmatch(r"[A-Z][A-Za-z0-9]+", reason) and f"| `{reason}` |" in page for reason in Reason)
    assert all(book.means.endswith(".") and book.do.endswith((".", "...")) for book in RUNBOOKS.values())


@pytest.mark.parametrize("component", ["server", "trainer"])
def test_labels_are_legal_for_the_longest_name(component: str) -> None:
    value = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
    made = labels.child_labels(component, "a" * MAX_NAME)
    assert all(value.fullmatch(each) for each in made.values())
    assert made[labels.MANAGED_BY] == labels.MANAGER
    assert len(f"{'a' * MAX_NAME}-12345678-1234567890-12345") <= 63 + len("-12345")


def test_a_server_runs_from_a_users_own_file() -> None:
    """The shape that DESIGN §8 gives: snake_case, and sections that may be left out."""
    text = json.dumps(
        {
            "model": {"path": "/models/m.gguf"},
            "inference": {"device": "cpu", "batch_size": 8, "precision": "fp16"},
            "service": {"host": "127.0.0.1", "port": 9000, "workers": 2},
        }
    )
    config = ServerConfig.load(text)
    assert (config.inference.device, config.inference.batch_size, config.inference.precision) == ("cpu", 8, "fp16")
    assert (config.service.host, config.service.port, config.service.workers) == ("127.0.0.1", 9000, 2)
    assert ServerConfig.load(config.to_json()) == config
    with pytest.raises(ValidationError, match="batchsize"):
        ServerConfig.load(text.replace("batch_size", "batchsize"))


def test_the_smallest_specs_are_short() -> None:
    model = {"model": {"source": {"huggingFace": {"repo": "o/m"}}}}
    job = {"base": model["model"], "dataset": {"source": {"configMap": {"name": "d", "key": "k"}}}}
    assert ModelDeploymentSpec.model_validate(model).replicas == 1
    assert FineTuneJobSpec.model_validate(job).method.type == "LoRA"
    for kind in (MODEL_DEPLOYMENT, FINE_TUNE_JOB):
        assert len(structural(kind.spec)["required"]) <= 2
