"""Settings without effect are told, defaults nobody gave are not claimed, fetch costs a pod nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilotboat.api.model_deployment import ModelDeploymentSpec
from pilotboat.plan import notes
from unit.plan.test_deployment import applied, plan, says
from unit.plan.test_finetune import planned
from unit.plan.test_finetune import says as job_says
from unit.plan.world import deployment_spec, job_spec

HALF = {"gpuMemoryFraction": 0.5}
GPU = {"podTemplate": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, False),
        ({"inference": {"cpuThreads": 4}, "gpu": {"count": 1}}, False),
        ({"inference": HALF}, True),
        ({"inference": HALF, "gpu": {"count": 1}}, False),
        ({"inference": HALF, **GPU}, False),
        ({"inference": HALF, "podTemplate": {"runtimeClassName": "nvidia"}}, False),
        ({"inference": HALF | {"device": "cpu"}}, True),
        ({"inference": HALF | {"device": "cpu"}, "gpu": {"count": 1}}, True),
    ],
)
def test_a_setting_without_effect_is_told(changes: dict[str, Any], told: bool) -> None:
    spec = deployment_spec(**changes)
    note = notes.unused(ModelDeploymentSpec.model_validate(spec))
    assert bool(note) is told
    assert says(plan(spec=spec), "SpecValid") == ("True", "Valid", note)


def served(gpus: int, *files: str, engine: dict[str, str] | None = None, **inference: Any) -> dict[str, Any]:
    source = {"huggingFace": {"repo": "a/b", **({"files": list(files)} if files else {})}}
    changes = {"model": {"source": source}, "engine": engine or {}, "inference": inference}
    return changes | ({"gpu": {"count": gpus}} if gpus else {})


URL = {"http": {"urls": ["https://example/a/m.gguf?key=1"], "sha256": "0" * 64}}
CLAIM = {"pvc": {"claimName": "weights", "path": "m.gguf"}}
UNKNOWN_FILES = {"pvc": {"claimName": "weights"}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (served(1, "*.gguf", "*.jinja"), "that of Pilotboat's own image is a build for CPUs"),
        (served(1, engine={"type": "LlamaCpp"}), "engine.image"),
        (served(1, "*.gguf", engine={"type": "LlamaCpp", "image": "mine:cuda"}), ""),
        (served(0, "*.gguf"), ""),
        (served(1, "*.gguf", device="cpu"), "inference.device is cpu"),
        (served(1, "*.gguf", device="cuda"), "build for CPUs"),
        (
            served(2, "*.gguf", engine={"type": "LlamaCpp", "image": "mine:cuda"}, device="cpu"),
            "inference.device is cpu",
        ),
        (served(1) | {"model": {"source": URL}}, "build for CPUs"),
        (served(1) | {"model": {"source": CLAIM}}, "build for CPUs"),
        (served(1) | {"model": {"source": UNKNOWN_FILES, "digests": {"m.gguf": "0" * 64}}}, "build for CPUs"),
        (served(8) | {"model": {"source": UNKNOWN_FILES}}, ""),
        (served(8), ""),
        (served(8, "*"), ""),
        (served(1, "*.safetensors", "*.json"), ""),
        (served(2, "*.safetensors", "*.json"), "Transformers computes on one GPU"),
        (served(2, engine={"type": "Transformers"}), "set gpu.count to 1"),
        (served(2, engine={"type": "Transformers", "image": "mine:many"}), ""),
        (served(2, engine={"type": "Fake"}), ""),
        (served(2, engine={"type": "Fake"}, device="cpu"), ""),
    ],
)
def test_gpus_that_the_engine_cannot_use_are_told_before_a_pod_runs(changes: dict[str, Any], words: str) -> None:
    status, reason, told = says(plan(spec=deployment_spec(**changes)), "SpecValid")
    assert (status, reason) == ("True", "Valid")
    assert words in told
    assert bool(told) is bool(words)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, False),
        ({"gpu": {}}, False),
        ({"gpu": {"count": 2}}, True),
        ({"gpu": {"count": 2}, "trainer": {"image": "mine:many"}}, False),
        ({"gpu": {"count": 2}, "podTemplate": {"env": [{"name": "PILOTBOAT_GPUS", "value": "0"}]}}, False),
    ],
)
def test_gpus_that_the_trainer_cannot_use_are_told_before_a_pod_runs(changes: dict[str, Any], told: bool) -> None:
    status, reason, note = job_says(planned(None, spec=job_spec(**changes)), "SpecValid")
    assert (status, reason) == ("True", "Valid")
    assert ("gpu.count: 2 keeps the job from training: the trainer trains on one GPU" in note) is told
    assert bool(note) is told


def test_all_that_has_no_effect_is_told() -> None:
    told = says(plan(spec=deployment_spec(**served(1, "*.gguf", device="cpu", **HALF))), "SpecValid")[2]
    assert "inference.gpuMemoryFraction" in told
    assert "gpu.count" in told


@pytest.mark.parametrize(("gpu", "given"), [(None, None), ({}, {"count": 1}), ({"count": 2}, {"count": 2})])
def test_the_server_is_told_of_the_gpus_it_was_given(gpu: dict[str, Any] | None, given: dict[str, Any] | None) -> None:
    spec = deployment_spec() if gpu is None else deployment_spec(gpu=gpu)
    server = json.loads(applied(plan(spec=spec), "ConfigMap")["data"]["server.json"])
    assert server.get("gpu") == given


@pytest.mark.parametrize("given", [None, 2048, 512])
def test_a_length_is_passed_on_and_shown_only_where_it_was_given(given: int | None) -> None:
    found = plan(spec=deployment_spec(inference={"maxLength": given} if given else {}))
    server = json.loads(applied(found, "ConfigMap")["data"]["server.json"])
    assert server["inference"].get("maxLength") == given
    assert found.status is not None
    assert found.status["effective"]["inference"].get("maxLength") == given


@pytest.mark.parametrize(
    ("quality", "shown"),
    [({}, 0.8), ({"minEqual": 0.5}, 0.5), ({"perplexity": {}}, None), ({"perplexity": {}, "minEqual": 0.5}, 0.5)],
)
def test_the_share_of_equal_answers_is_shown_where_there_is_one(quality: dict[str, Any], shown: float | None) -> None:
    rollout = {"steps": [{"weight": 5}], "analysis": {"quality": quality}}
    status = plan(spec=deployment_spec(rollout=rollout)).status
    assert status is not None
    assert status["effective"]["rollout"]["analysis"]["quality"].get("minEqual") == shown


@pytest.mark.parametrize(
    ("resources", "fetch"),
    [
        ({}, None),
        ({"limits": {"nvidia.com/gpu": 2}}, None),
        ({"requests": {"memory": "4Gi"}}, {"requests": {"memory": "4Gi"}}),
        (
            {
                "requests": {"cpu": 2},
                "limits": {"memory": "8Gi", "cpu": "4", "nvidia.com/gpu": 1, "hugepages-2Mi": "1Gi"},
            },
            {"requests": {"cpu": "2"}, "limits": {"memory": "8Gi", "cpu": "4"}},
        ),
    ],
)
def test_fetch_asks_for_what_the_main_container_asks_for_and_for_no_device(
    resources: dict[str, Any], fetch: dict[str, Any] | None
) -> None:
    found = plan(spec=deployment_spec(gpu={"count": 1}, podTemplate={"resources": resources}))
    (init,) = applied(found, "Deployment")["spec"]["template"]["spec"]["initContainers"]
    assert init.get("resources") == fetch


@pytest.mark.parametrize(("source", "engine"), [({"fineTuneJob": {"name": "qa"}}, "Transformers"), (URL, "LlamaCpp")])
def test_of_files_of_both_kinds_a_tuned_model_takes_safetensors(source: dict[str, Any], engine: str) -> None:
    """As the server does for an adapter."""
    spec = ModelDeploymentSpec.model_validate(deployment_spec(model={"source": source}))
    assert notes.engine(spec, ["m.gguf", "m.safetensors"]) == engine
    assert notes.engine(spec, ["m.gguf"]) == "LlamaCpp"
    assert notes.engine(spec, ["m.safetensors"]) == "Transformers"
