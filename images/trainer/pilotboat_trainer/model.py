"""The base model and its tokenizer from a folder, and the adapter's configuration checked against its modules.

Owns: transformers' and PEFT's loading. Must not know: data, the training loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

from pilotboat.api.finetune_job import Lora

from .device import Device
from .errors import InvalidModel, TrainingFailed, Unsupported, of_the_machine

ALL_LINEAR = "all-linear"
POSITION_TABLES = {"wpe", "embed_positions", "position_embeddings", "positions_embed", "pos_encoding"}
"""What models call the embedding of positions, or the buffer of sines (GPT-J, CTRL); what is reckoned has no end."""
_SHOWN = 24
WEIGHTS = (".safetensors", ".gguf")
CHOOSE = "choose by the source: huggingFace by `files`, pvc by `path`"


def tokenizer(path: str) -> Any:
    """The tokenizer alone: in a second, where the weights take minutes."""
    with _loading(path) as (folder, options):
        found = AutoTokenizer.from_pretrained(folder, **options)
    if found.eos_token is None:
        raise InvalidModel(f"{path}: the tokenizer has no end-of-sequence token")
    return found


def load(path: str, device: Device) -> Any:
    """The model. A GGUF is taken apart into full numbers, since quantised ones cannot be trained."""
    with _loading(path) as (folder, options):
        if "gguf_file" in options:
            options["quantization_config"] = GgufConfig(dequantize=True)
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, dtype=device.weights, output_loading_info=True, **options
        )
    if missing := sorted(
        found["missing_keys"]
    ):  # they would be filled with random numbers, with no more than a warning
        raise InvalidModel(f"{path} lacks {len(missing)} of the model's tensors: {', '.join(missing[:4])}")
    model.config.use_cache = False
    return model


def settle_generation(model: Any) -> None:
    """Keep a base's settings of generation only where they may be saved again, else its special tokens alone.

    Many have sampling settings and no sampling. The library ignores them, but once it has set as much as a token for
    padding it refuses to write them: at the first checkpoint, hours after the start."""
    given = model.generation_config
    try:
        given.validate(strict=True)
    except ValueError:
        tokens = {name: getattr(given, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = GenerationConfig(**tokens)
        print("trainer: generation_config.json contradicts itself: its special tokens alone are kept", flush=True)


def settle_padding(tokenizer: Any, model: Any) -> None:
    """Pad with the token of the end, as the library does where there is none, in the place of one that was added to the
    tokenizer and not to the model: what is padded is not looked at."""
    if (tokenizer.pad_token_id or 0) >= _vocabulary(model):
        tokenizer.pad_token = tokenizer.eos_token


def _vocabulary(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def check_vocabulary(model: Any, tokenizer: Any, rows: Iterable[list[int]]) -> None:
    """Raises InvalidModel where the tokenizer has made tokens that the model has no numbers for."""
    known = _vocabulary(model)
    if max(tokenizer.get_vocab().values()) < known:  # then no row has one, and there may be millions
        return
    highest = max(map(max, rows))
    if highest >= known:
        raise InvalidModel(
            f"the tokenizer makes the token {highest}, and the model knows those below {known}: they are of two models"
        )


@contextmanager
def _loading(path: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Where to load from, and how; what goes wrong is the model's fault, unless it is memory's or the machine's."""
    folder, gguf = _locate(Path(path))
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        yield folder, options | ({"gguf_file": gguf} if gguf else {})
    except Exception as error:  # the loaders raise whatever they meet; a tokenizer's files an Exception and no more
        if is_out_of_memory(error):
            raise
        if of_the_machine(error):
            raise TrainingFailed(f"{path} cannot be read: {_first_line(error)}") from error
        raise InvalidModel(f"{path} cannot be loaded: {_first_line(error)}") from error


def _locate(path: Path) -> tuple[Path, str | None]:
    """The folder, and the GGUF in it where there are no safetensors."""
    if path.is_file() and path.suffix == ".gguf":
        return path.parent, path.name
    if not path.is_dir():
        raise InvalidModel(f"{path} does not exist")
    folder = _home(path)
    if any(folder.glob("*.safetensors")):
        return folder, None
    ggufs = sorted(file.name for file in folder.glob("*.gguf"))
    if len(ggufs) > 1:
        raise InvalidModel(f"{folder} has {len(ggufs)} GGUF files ({', '.join(ggufs[:8])}): {CHOOSE}")
    if not ggufs:
        raise InvalidModel(f"{path} has neither safetensors nor a GGUF file")
    return folder, ggufs[0]


def _home(path: Path) -> Path:
    """Where the weights lie: here or, where nothing does, in the one folder below that has some."""
    homes = sorted({file.parent for file in path.rglob("*") if file.suffix in WEIGHTS and file.is_file()})
    if len(homes) > 1 and path not in homes:
        names = ", ".join(home.relative_to(path).as_posix() for home in homes[:8])
        raise InvalidModel(f"{path} has weights in {len(homes)} folders ({names}): {CHOOSE}")
    return homes[0] if len(homes) == 1 else path


def positions(model: Any) -> int | None:
    """Tokens that the model has positions for, where they are a table: it cannot look up one more."""
    embeddings = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)]
    tables = {name.rpartition(".")[2] for name in (*embeddings, *dict(model.named_buffers()))}
    return getattr(model.config, "max_position_embeddings", None) if tables & POSITION_TABLES else None


def adapter(model: Any, lora: Lora) -> LoraConfig:
    """PEFT's configuration, after each target was found: PEFT itself is silent about a name that matches nothing."""
    names = linear_modules(model)
    missing = [target for target in lora.target_modules if target != ALL_LINEAR and not _matches(target, names)]
    if missing:
        there = ", ".join(short_names(names)[:_SHOWN])
        raise Unsupported(
            f"targetModules {', '.join(missing)} match no module of this model; it has {there}, {ALL_LINEAR}"
        )
    if any(target.split(".")[-1] == "lm_head" for target in lora.target_modules):
        raise Unsupported("targetModules lm_head cannot be adapted; leave it out")
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=ALL_LINEAR if ALL_LINEAR in lora.target_modules else list(lora.target_modules),
    )


def linear_modules(model: Any) -> list[str]:
    """Full names of what LoRA can adapt; `Conv1D` is GPT-2's transposed linear layer."""
    kinds = (torch.nn.Linear, torch.nn.Embedding)
    return [name for name, module in model.named_modules() if isinstance(module, kinds) or _is_conv1d(module)]


def short_names(names: list[str]) -> list[str]:
    """Last parts, each once, in the model's order."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))


def _is_conv1d(module: Any) -> bool:
    return type(module).__name__ == "Conv1D"


def _matches(target: str, names: list[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for name in names)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is about memory; on a CPU it is a RuntimeError like any other."""
    words = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in words or "out of memory" in words)
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no words'}"[:400]
