"""The examples ask the demo's repository for files that it has: a pattern that matches none is never Ready."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import pytest

from pilotboat_fetch.safety import WEIGHTS, choose
from tools import model
from unit.plan.test_golden import examples

REPO = "demo/gemma-3-270m"
FILES = [
    *(model.FILE, "model.safetensors"),
    *("chat_template.jinja", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
]
"""What `tools.model` makes and the demo uploads: the GGUF and, beside it, what transformers saves."""
NEEDED = {
    ".gguf": {"chat_template.jinja"},  # a base model's GGUF has no template of its own
    ".safetensors": {"chat_template.jinja", "config.json", "tokenizer.json", "tokenizer_config.json"},
}
ASKED = {
    name: source["huggingFace"]
    for name, example in examples().items()
    for part in ("model", "base")
    if "huggingFace" in (source := example["spec"].get(part, {}).get("source", {}))
}


def test_the_examples_are_of_the_demos_repository() -> None:
    """Another one would need its files told here."""
    assert {source["repo"] for source in ASKED.values()} == {REPO}


@pytest.mark.parametrize("name", ASKED)
def test_an_example_chooses_one_kind_of_weights_and_what_they_need(name: str) -> None:
    source: dict[str, Any] = ASKED[name]
    chosen = set(choose(FILES, source["files"], "model", REPO))
    (kind,) = {PurePath(file).suffix for file in chosen if file.endswith(WEIGHTS)}
    assert chosen >= NEEDED[kind]
