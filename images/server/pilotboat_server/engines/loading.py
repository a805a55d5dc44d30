"""Loading a transformers model: device, number format, adapter, and a clear word where it cannot be.

Owns the calls to transformers and PEFT that read files. Must not know: requests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pilotboat.api.engines import Inference, Precision

from ..errors import InvalidModel, UnsupportedSetting
from .base import EngineSettings, on_gpu

DTYPES = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16, Precision.FP32: torch.float32}
STATEFUL = ("mamba", "linear_attention", "recurrent", "conv")
"""Layers whose state is one block a row, which the batch cannot align."""

NO_GPU = "torch sees no GPU: look at the node's driver"


def load_model(settings: EngineSettings) -> tuple[Any, str]:
    """The model, ready to run, and its device. Raises StartupError."""
    torch.set_num_threads(settings.threads)
    device = "cuda" if on_gpu(settings, torch.cuda.is_available(), NO_GPU) else "cpu"
    if device == "cuda":
        torch.cuda.set_per_process_memory_fraction(settings.inference.gpu_memory_fraction)
    try:
        model = _read(settings.path, settings.inference)
        if settings.adapter is not None:
            model = merge_adapter(model, settings.adapter)
        return model.to(device).eval(), device
    except torch.OutOfMemoryError as error:
        raise UnsupportedSetting(
            f"inference.gpuMemoryFraction: the model does not fit {settings.inference.gpu_memory_fraction} of the GPU"
        ) from error


def _read(path: Path, inference: Inference) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=DTYPES[inference.precision],
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the loaders raise whatever they meet; the file is what is wrong
        raise InvalidModel(f"transformers cannot load {path}: {type(error).__name__}: {error}") from error
    _check(model, report, path, inference)
    return model


def _check(model: Any, report: dict[str, Any], path: Path, inference: Inference) -> None:
    """Weights that are missing would be random numbers, and transformers only warns of them."""
    if wrong := sorted(map(str, [*report.get("missing_keys", ()), *report.get("mismatched_keys", ())])):
        raise InvalidModel(f"{path} lacks weights that its config.json asks for: {', '.join(wrong[:4])}")
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    if model._is_stateful or any(word in kind for kind in kinds for word in STATEFUL):
        raise UnsupportedSetting(f"engine.type: the Transformers engine cannot batch {config.model_type}'s layers yet")
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and inference.max_length > longest:
        raise UnsupportedSetting(f"inference.maxLength: {inference.max_length} is above the model's {longest} tokens")


def merge_adapter(model: Any, adapter: Path) -> Any:
    """The base with a PEFT adapter merged into its weights. Raises InvalidModel."""
    if not (adapter / "adapter_config.json").is_file():
        raise InvalidModel(f"model.adapter {adapter} has no adapter_config.json")
    from peft import PeftModel

    try:
        adapted = PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
    except Exception as error:  # as above: PEFT raises whatever it meets in the files
        raise InvalidModel(f"the adapter {adapter} cannot be applied: {type(error).__name__}: {error}") from error
    if wrong := _unlike(adapted, adapter):
        raise InvalidModel(f"the adapter {adapter} is not of this base or not whole; it differs in {wrong}")
    _untie(model)
    return adapted.merge_and_unload()


def _unlike(adapted: Any, adapter: Path) -> str:
    """Weights that the adapter's file lacks, which would be as good as none, or has and this base has no place for.

    PEFT warns of the first and is silent about the second. It may save embeddings, too, as the base has them.
    """
    from peft import get_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights

    places = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    there = set(load_peft_weights(str(adapter), device="cpu"))
    return ", ".join(sorted(name for name in places ^ there if name in places or "lora_" in name)[:4])


def _untie(model: Any) -> None:
    """An adapter of the input embeddings is not meant for the output's, which in many models are the same numbers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    tokens, head = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(tokens, BaseTunerLayer) and head is not None and head.weight is tokens.get_base_layer().weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        model.config.get_text_config().tie_word_embeddings = False
