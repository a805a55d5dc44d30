"""The real model, in both of its forms: minutes on two cores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from standins.training import Training
from tools import corpus, model

pytestmark = pytest.mark.slow

FIELDS = {
    "replicas": "Number of desired pods. Defaults to 1.",
    "paused": "Indicates that the deployment is paused.",
    "minReadySeconds": "Seconds for which a new pod should be ready to be considered available.",
    "revisionHistoryLimit": "The number of old ReplicaSets to retain to allow rollback.",
}
LORA = {"type": "LoRA", "lora": {"rank": 16, "alpha": 32, "targetModules": ["q_proj", "v_proj"]}}


def settings(steps: int, **training: Any) -> dict[str, Any]:
    return {"method": LORA, "training": {"maxSteps": steps, "batchSize": 2, "maxLength": 64, **training}}


def test_lora_on_the_real_model_learns(tmp_path: Path) -> None:
    lines = [corpus.Pair(f"What does the field spec.{name} mean?", words).line() for name, words in FIELDS.items()]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(lines * 4))
    job = Training(tmp_path, model.safetensors(), **settings(10, learningRate=2e-3))
    code, output = job.run()
    assert code == 0, output
    losses = job.losses()
    assert losses[10] < 0.6 * losses[1]
    result = job.said["result"]
    assert round(100 * result["trainableParameters"] / result["totalParameters"], 3) == 0.274


@pytest.mark.long
def test_a_gguf_is_taken_apart_and_trained(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "model.gguf").symlink_to(model.gguf())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text(json.dumps({"prompt": "1 + 1 =", "completion": " 2"}) + "\n")
    job = Training(tmp_path, base, **settings(1))
    code, output = job.run()
    assert code == 0, output
    assert job.said["result"]["type"] == "Adapter"
