"""What is said of pods that do not start, where helm and kubectl say only that time is over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools import pods
from tools.kube import Cluster
from tools.steps import StepFailed

REFUSED = {"waiting": {"reason": "ErrImagePull", "message": "pull access denied"}}
YOUNG = {"waiting": {"reason": "PodInitializing"}}


def pod(*states: dict[str, Any], init: dict[str, Any] | None = None) -> dict[str, Any]:
    status: dict[str, Any] = {"containerStatuses": [{"state": state} for state in states]}
    if init:
        status["initContainerStatuses"] = [{"state": init}]
    return {"metadata": {"namespace": "system", "name": "one"}, "status": status}


def cluster(folder: Path, *items: dict[str, Any]) -> Cluster:
    (folder / "pods.json").write_text(json.dumps({"items": items}))
    kubectl = folder / "kubectl"
    kubectl.write_text(f'#!/bin/sh\necho "$*" > {folder}/asked\ncat {folder}/pods.json\n')
    kubectl.chmod(0o755)
    return Cluster(str(kubectl), "helm", namespace="demo")


def test_a_container_that_cannot_start_is_told_in_kubelets_words() -> None:
    assert pods.waiting([pod({"running": {}}), pod(YOUNG, init=REFUSED)]) == (
        "The pod system/one cannot start: ErrImagePull: pull access denied"
    )


@pytest.mark.parametrize("there", [[], [pod(YOUNG)], [pod({"running": {}})], [{"metadata": {}, "status": {}}]])
def test_where_none_is_held_up_nothing_is_said(there: list[dict[str, Any]]) -> None:
    assert pods.waiting(there) == ""


def test_a_step_fails_with_what_holds_up_its_pods(tmp_path: Path) -> None:
    with (
        pytest.raises(StepFailed, match="system/one cannot start: ErrImagePull"),
        pods.told(cluster(tmp_path, pod(REFUSED)), "system"),
    ):
        raise StepFailed("timed out")
    assert "--namespace=system" in (tmp_path / "asked").read_text()


def test_a_step_that_failed_of_itself_keeps_its_words(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="timed out"), pods.told(cluster(tmp_path), "system"):
        raise StepFailed("timed out")
