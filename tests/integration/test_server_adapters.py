"""What is served of a base and an adapter over it: what was trained, or a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from pilotboat_server.engines.loading import merge_adapter
from pilotboat_server.errors import InvalidModel
from standins import tiny


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("tied"), tied=True)


def adapted(base: Path, folder: Path, *modules: str) -> Any:
    """The base with an adapter of these modules, not merged; the folder has the adapter."""
    lora = LoraConfig(r=4, target_modules=list(modules), init_lora_weights=False)
    found = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).eval()
    found.save_pretrained(folder)
    return found


@pytest.mark.parametrize("modules", [("embed_tokens",), ("embed_tokens", "q_proj"), ("q_proj",)])
def test_an_adapter_of_the_input_embeddings_leaves_the_outputs_alone(
    tied: Path, tmp_path: Path, modules: tuple[str, ...]
) -> None:
    """The two are one tensor here: merged into both, the model would not be the one that was trained."""
    trained = adapted(tied, tmp_path, *modules)
    merged = merge_adapter(AutoModelForCausalLM.from_pretrained(tied), tmp_path)
    tokens = torch.tensor([[5, 40, 41, 42]])
    with torch.inference_mode():
        assert torch.allclose(merged(tokens).logits, trained(tokens).logits, atol=1e-4)


@pytest.mark.parametrize(
    ("wanted", "there"), [(["q_proj", "v_proj"], ["q_proj"]), (["q_proj"], ["q_proj", "v_proj"])], ids=["lacks", "has"]
)
def test_an_adapter_whose_weights_are_not_those_it_names_is_refused(
    tied: Path, tmp_path: Path, wanted: list[str], there: list[str]
) -> None:
    adapted(tied, tmp_path, *there)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"target_modules": wanted}))
    with pytest.raises(InvalidModel, match=r"not of this base or not whole; it differs in .*\.v_proj\.lora_A"):
        merge_adapter(AutoModelForCausalLM.from_pretrained(tied), tmp_path)
