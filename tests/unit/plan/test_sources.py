"""What the fetch container is told of each kind of source."""

from __future__ import annotations

import pytest

from pilotboat.api.finetune_job import Base, Dataset
from pilotboat.plan import sources
from unit.plan.world import Raw

SOURCES: dict[str, Raw] = {
    "huggingFace": {"huggingFace": {"repo": "demo/tiny"}},
    "http": {"http": {"urls": ["https://files.example/train.jsonl"], "sha256": "a" * 64}},
    "pvc": {"pvc": {"claimName": "claim", "path": "deep/data"}},
    "configMap": {"configMap": {"name": "data", "key": "train.jsonl"}},
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_data_set_is_one_wherever_it_comes_from(kind: str) -> None:
    (item,) = sources.dataset(Dataset.model_validate({"source": SOURCES[kind]})).items
    assert item.repo_type == "dataset"


@pytest.mark.parametrize("kind", ["huggingFace", "http", "pvc"])
def test_a_base_is_a_model_wherever_it_comes_from(kind: str) -> None:
    (item,) = sources.base(Base.model_validate({"source": SOURCES[kind]})).items
    assert item.repo_type == "model"


@pytest.mark.parametrize(
    ("kind", "path"),
    [("pvc", "/sources/dataset/deep/data"), ("configMap", "/sources/dataset/train.jsonl")],
)
def test_the_whole_mount_is_the_root_that_no_link_may_leave(kind: str, path: str) -> None:
    needs = sources.dataset(Dataset.model_validate({"source": SOURCES[kind]}))
    (item,), (mount,) = needs.items, needs.mounts
    assert item.local
    assert (item.local.path, item.local.root) == (path, mount["mountPath"])
