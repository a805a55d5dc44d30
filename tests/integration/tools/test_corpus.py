"""The demo's data set, made from the document of a real API server and read by the trainer."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from lab import build
from pilotboat.api.runtime import TrainerData
from pilotboat_trainer import dataset
from tools import corpus

ENOUGH = 1000
"""Pairs; a document whose shape is not as expected gives few, or none."""


def test_a_real_api_server_gives_pairs_enough_and_the_trainer_reads_each(plane: Path, tmp_path: Path) -> None:
    command = [str(build.ensure() / "kubectl"), f"--kubeconfig={plane}", "get", "--raw", "/openapi/v2"]
    document = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    count = corpus.write(document, tmp_path)
    train = tmp_path / "train.jsonl"
    assert count > ENOUGH
    assert train.stat().st_size <= corpus.MAX_BYTES
    assert len(dataset.read(TrainerData(path=str(train))).rows) == count
    (replicas,) = (pair for pair in corpus.pairs(document) if "spec.replicas of a Deployment " in f"{pair.question} ")
    assert "Number of desired pods" in replicas.answer
