"""What the keeper does for a claim, a volume and a node: decided from the object alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab import keeper
from lab.addons import STORAGE_CLASS


def claim(**spec: Any) -> dict[str, Any]:
    defaults = {
        "storageClassName": STORAGE_CLASS,
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return {
        "metadata": {"uid": "u-1", "name": "data", "namespace": "space"},
        "spec": {**defaults, **spec},
        "status": {"phase": "Pending"},
    }


def test_a_volume_is_bound_to_its_claim_and_no_other() -> None:
    volume = keeper.volume_of(claim(), Path("/volumes"))
    reference = volume["spec"]["claimRef"]
    assert (reference["namespace"], reference["name"], reference["uid"]) == ("space", "data", "u-1")
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
    assert volume["spec"]["hostPath"]["path"] == "/volumes/pvc-u-1"


@pytest.mark.parametrize(
    ("spec", "wants"),
    [({}, True), ({"storageClassName": "other"}, False), ({"volumeName": "mine"}, False)],
)
def test_only_pending_claims_of_our_class_want_a_volume(spec: dict[str, Any], wants: bool) -> None:
    assert keeper.wants_volume(claim(**spec)) is wants


def test_a_bound_claim_wants_none() -> None:
    assert not keeper.wants_volume({**claim(), "status": {"phase": "Bound"}})


@pytest.mark.parametrize(("phase", "finished"), [("Released", True), ("Bound", False), ("Available", False)])
def test_a_volume_is_taken_back_once_released(phase: str, finished: bool) -> None:
    volume = {**keeper.volume_of(claim(), Path("/volumes")), "status": {"phase": phase}}
    assert keeper.is_finished(volume) is finished


def test_gpus_are_patched_only_where_they_are_missing() -> None:
    counted = {keeper.GPU: "2", "cpu": "2"}
    assert keeper.gpu_patch({"status": {"capacity": counted, "allocatable": counted}}, 2) is None
    patch = keeper.gpu_patch({"status": {"capacity": counted, "allocatable": {keeper.GPU: "0"}}}, 2)
    assert patch == {"status": {"capacity": {keeper.GPU: "2"}, "allocatable": {keeper.GPU: "2"}}}
