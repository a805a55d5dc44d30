"""FineTuneJobs on the lab: real training of a tiny model, in real pods."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import OpenAI

from tests.e2e.conftest import FTJ, MDEP, Space

pytestmark = pytest.mark.e2e

ROWS = [
    {"messages": [{"role": "user", "content": f"number {n}?"}, {"role": "assistant", "content": f"it is {n}"}]}
    for n in range(64)
]


def job(**more: Any) -> dict[str, Any]:
    """A small LoRA on the tiny model."""
    return {
        "base": {"source": {"huggingFace": {"repo": "demo/tiny"}}},
        "dataset": {"source": {"configMap": {"name": "rows", "key": "train.jsonl"}}},
        "training": {"maxSteps": 8, "batchSize": 4, "maxLength": 64},
        "checkpoints": {"everySteps": 4},
        "output": {"pvc": {"size": "100Mi", "accessMode": "ReadWriteMany"}},
        "podTemplate": {"resources": {"requests": {"cpu": "500m"}}},  # or it gets what all beside it leave
        **more,
    }


def give_rows(space: Space, text: str | None = None) -> None:
    """The data set, as a ConfigMap."""
    text = "\n".join(json.dumps(row) for row in ROWS) if text is None else text
    raw = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}, "data": {"train.jsonl": text}}
    space.cluster.apply(json.dumps(raw))


def served(**source: Any) -> dict[str, Any]:
    """A small ModelDeployment of the tiny model, tuned or not."""
    return {
        "model": {"source": source},
        "traffic": "Direct",
        "inference": {"maxLength": 256},
        "service": {"workers": 1},
    }


def surprise(space: Space, name: str) -> float:
    """What it thinks of an answer that the data set has, in nats a byte: the higher, the less likely."""
    messages: Any = [{"role": "user", "content": "number 7?"}, {"role": "assistant", "content": "it is 7"}]
    with space.url(name) as url:
        client = OpenAI(base_url=url, api_key="none", max_retries=0)
        body: dict[str, Any] = {"max_tokens": 0, "logprobs": True, "extra_body": {"echo": True}}
        given = client.chat.completions.create(model=name, messages=messages, **body).choices[0].logprobs
    assert given is not None
    assert given.content
    return -sum(token.logprob for token in given.content) / len(given.content)


def test_a_job_trains_and_a_deployment_serves_what_it_made(space: Space) -> None:
    space.apply("ModelDeployment", "plain", served(huggingFace={"repo": "demo/tiny"}))
    training = {"maxSteps": 40, "batchSize": 4, "maxLength": 64, "learningRate": 0.02}
    space.apply("FineTuneJob", "small", job(training=training))
    assert "rows" in space.reason(FTJ, "small", "DataReady", "ConfigMapNotFound")
    space.apply("ModelDeployment", "tuned", served(fineTuneJob={"name": "small"}))
    space.reason(MDEP, "tuned", "ArtifactReady", "WaitingForFineTuneJob")
    give_rows(space)
    space.wait(FTJ, "small", "Complete", "1200s")
    status = space.status(FTJ, "small")
    assert status["phase"] == "Complete"
    assert status["trainerStatus"]["progressPercentage"] == 100
    assert status["progress"]["step"] == 40
    assert float(status["progress"]["loss"]) > 0
    assert status["output"]["type"] == "Adapter"
    assert all(len(digest) == 64 for digest in status["output"]["digests"].values())
    assert "Complete" in space.cluster.run("get", "ftj", "small")
    space.wait(MDEP, "plain", "Ready")
    space.wait(MDEP, "tuned", "Ready")
    assert surprise(space, "tuned") < surprise(space, "plain") - 0.2, "the base is served without what was learned"


def test_a_broken_line_is_named_by_its_number(space: Space) -> None:
    lines = [json.dumps(row) for row in ROWS]
    lines[16] = '{"messages": [{"role": "user", "content": '
    give_rows(space, "\n".join(lines))
    space.apply("FineTuneJob", "broken", job())
    message = space.reason(FTJ, "broken", "Failed", "InvalidDataset")
    assert "17" in message
    assert space.status(FTJ, "broken")["phase"] == "Failed"
    assert len(space.pods("broken")) == 1, "wrong input is not retried"


def test_suspended_and_resumed_it_continues(space: Space) -> None:
    give_rows(space)
    training = {"maxSteps": 50, "batchSize": 4, "maxLength": 64, "gradientAccumulationSteps": 16}
    space.apply("FineTuneJob", "pause", job(training=training, checkpoints={"everySteps": 5}))
    space.reason(FTJ, "pause", "Checkpointed", "CheckpointSaved")
    space.cluster.run("patch", FTJ, "pause", "--type=merge", '-p={"spec":{"suspend":true}}')
    space.wait(FTJ, "pause", "Suspended")
    space.gone("pod -lapp.kubernetes.io/instance=pause")
    step = space.status(FTJ, "pause")["progress"]["lastCheckpoint"]["step"]
    space.cluster.run("patch", FTJ, "pause", "--type=merge", '-p={"spec":{"suspend":false}}')
    space.wait(FTJ, "pause", "Complete", "1200s")
    status = space.status(FTJ, "pause")
    assert status["progress"]["step"] == 50
    assert status["progress"]["lastCheckpoint"]["step"] >= step


def test_deleted_half_way_nothing_is_left(space: Space) -> None:
    give_rows(space)
    space.apply("FineTuneJob", "half", job(training={"maxSteps": 4000, "batchSize": 4, "maxLength": 64}))
    space.wait(FTJ, "half", "Running")
    space.cluster.run("delete", FTJ, "half", "--timeout=300s")
    space.gone("job,configmap,persistentvolumeclaim,pod -lapp.kubernetes.io/instance=half")
    assert space.children("half") == []
