"""What a training ends with: each method's result, and each failure's reason and exit code, from the real program."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, tokenization_utils_base

from pilotboat.api.runtime import TrainerResult
from pilotboat_trainer import cli, report
from pilotboat_trainer.model import is_out_of_memory, positions
from standins import tiny
from standins.training import Training, questions

TOO_LONG = json.dumps({"prompt": "a" * 500, "completion": "b"})
SHORT: dict[str, Any] = {"maxSteps": 4, "batchSize": 4, "maxLength": 64, "learningRate": 0.01}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("base"))


class Trainer:
    """Runs of the program in this process: the libraries are loaded once."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._env, self._number = folder, monkeypatch, 0

    def __call__(self, base: Path, lines: list[str] | None = None, **config: Any) -> tuple[int, Training]:
        self._number += 1
        folder = self._folder / str(self._number)
        if lines is not None:
            (folder / "data").mkdir(parents=True)
            (folder / "data" / "train.jsonl").write_text("\n".join(lines))
        job = Training(folder, base, **({"training": SHORT} | config))
        self._env.setenv(report.LOG_VARIABLE, str(job.log))
        return cli.main(["--config", str(job.config)]), job


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    return Trainer(tmp_path, monkeypatch)


def failed(job: Training) -> tuple[str, str]:
    return job.said["reason"], job.said["message"]


# --- results


def test_lora_publishes_an_adapter_that_loads_and_changes_the_answer(train: Trainer, base: Path) -> None:
    lora = {"rank": 4, "alpha": 8, "targetModules": ["q_proj", "down_proj"], "dropout": 0.25}
    code, job = train(base, method={"type": "LoRA", "lora": lora})
    assert code == 0
    assert job.said["reason"] == "Trained"
    result = TrainerResult.model_validate(job.said["result"])
    assert (result.type, result.path, result.steps, result.restarts) == ("Adapter", "qa/adapter", 4, 0)
    assert result.examples == 48
    assert set(result.digests) == {"adapter_config.json", "adapter_model.safetensors"}
    adapter = json.loads((job.output / "adapter" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (4, 8, 0.25)
    assert set(adapter["target_modules"]) == {"q_proj", "down_proj"}
    model = AutoModelForCausalLM.from_pretrained(base)
    tokens = torch.tensor([[5, 40, 41, 42]])
    plain = model(tokens).logits
    tuned = PeftModel.from_pretrained(model, job.output / "adapter")(tokens).logits
    assert not torch.allclose(plain, tuned)
    details = job.report
    assert details["weightChange"] > 0
    assert {"torch", "transformers", "trl", "peft"} <= set(details["versions"])
    assert details["result"]["digests"] == result.digests


def test_full_publishes_a_model_that_stands_alone(train: Trainer, base: Path) -> None:
    code, job = train(base, method={"type": "Full"}, training=SHORT | {"learningRate": 1e-3})
    assert code == 0
    assert job.said["result"]["type"] == "Model"
    assert job.said["result"]["trainableParameters"] == job.said["result"]["totalParameters"]
    model = AutoModelForCausalLM.from_pretrained(job.output / "model")
    before = AutoModelForCausalLM.from_pretrained(base)
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))
    assert (job.output / "model" / "tokenizer.json").exists()


def test_settings_of_generation_that_contradict_one_another_cost_no_checkpoint(
    train: Trainer, base: Path, tmp_path: Path
) -> None:
    """Many models have them. The library refuses to save them, at the first checkpoint."""
    odd = shutil.copytree(base, tmp_path / "odd")
    settings = {"temperature": 0.9, "top_p": 0.6, "do_sample": False, "eos_token_id": [1, 3], "max_new_tokens": 7}
    (odd / "generation_config.json").write_text(json.dumps(settings))
    code, job = train(odd, method={"type": "Full"}, training=SHORT | {"learningRate": 1e-3})
    assert code == 0, job.said
    published = json.loads((job.output / "model" / "generation_config.json").read_text())
    assert set(published["eos_token_id"]) == {1, 3}
    assert "temperature" not in published


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": "1 + 1 =", "completion": " 2"}',
        '{"instruction": "Add", "input": "1 1", "output": "2"}',
        '{"text": "one and one is two"}',
        '{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}',
    ],
)
def test_every_format_trains(train: Trainer, base: Path, line: str) -> None:
    code, job = train(base, [line] * 8, training=SHORT | {"maxSteps": 2})
    assert code == 0, job.said
    assert job.said["result"]["steps"] == 2


def test_epochs_accumulation_and_packing(train: Trainer, base: Path) -> None:
    epochs = {"epochs": 2, "batchSize": 4, "gradientAccumulationSteps": 2, "maxLength": 64, "learningRate": 0.01}
    code, job = train(base, training=epochs)
    assert code == 0
    assert job.said["result"]["steps"] == 12, "48 examples, 8 a step, twice"
    code, packed = train(base, training=epochs | {"packing": True, "maxLength": 256})
    assert code == 0
    assert packed.said["result"]["steps"] < 12


def test_packed_examples_do_not_see_each_other(train: Trainer, base: Path) -> None:
    """Without the attention kernel that packing was made for, too: each step's loss is as without packing."""
    lines = [json.dumps({"prompt": f"{letter * 9}=", "completion": f" {letter * 2}x"}) for letter in "abcd"]
    exactly = {"maxSteps": 3, "precision": "fp32"}  # Auto is bf16 on some processors
    plain, packed = (
        train(
            base,
            lines,
            method={"type": "Full"},
            training={**exactly, "batchSize": 4, "maxLength": 128, "learningRate": 0.05, "packing": packing},
        )[1]
        for packing in (False, True)
    )
    assert packed.losses() == pytest.approx(plain.losses(), rel=1e-4)


def test_the_loss_is_taken_on_answers_alone(train: Trainer, base: Path) -> None:
    """Two data sets with the same answers and different questions of equal length: were questions learned, the
    first losses would differ by more than the answers' dependence on them, which an untrained model hardly has."""
    first, second = (
        train(base, [json.dumps({"prompt": text * 20, "completion": "yes"})] * 4, training=SHORT | {"maxSteps": 1})[1]
        for text in ("a", "z")
    )
    assert first.losses()[1] == pytest.approx(second.losses()[1], rel=0.05)


def test_the_same_seed_gives_the_same_weights(train: Trainer, base: Path) -> None:
    digests = [train(base)[1].said["result"]["digests"]["adapter_model.safetensors"] for _ in range(2)]
    assert digests[0] == digests[1]
    other = train(base, training=SHORT | {"seed": 7})[1].said["result"]["digests"]["adapter_model.safetensors"]
    assert other != digests[0]


# --- failures


def test_target_modules_that_match_nothing_list_what_there_is(train: Trainer, base: Path) -> None:
    code, job = train(base, method={"type": "LoRA", "lora": {"targetModules": ["q_proj", "query_key_value"]}})
    reason, message = failed(job)
    assert (code, reason) == (64, "Unsupported")
    assert "targetModules query_key_value match no module" in message
    assert "q_proj, k_proj, v_proj, o_proj" in message


def test_the_heads_own_weights_cannot_be_adapted(train: Trainer, base: Path) -> None:
    code, job = train(base, method={"type": "LoRA", "lora": {"targetModules": ["lm_head"]}})
    assert (code, failed(job)[0]) == (64, "Unsupported")


def test_fp16_needs_a_gpu(train: Trainer, base: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    code, job = train(base, training=SHORT | {"precision": "fp16"})
    assert (code, failed(job)[0]) == (64, "Unsupported")


def test_a_gpu_that_is_not_seen_is_not_held_for_a_training_on_the_cpu(
    train: Trainer, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    monkeypatch.setenv("PILOTBOAT_GPUS", "1")
    code, job = train(base)
    reason, message = failed(job)
    assert (code, reason) == (64, "Unsupported")
    assert "gpu.count: 1 was asked for and torch sees no GPU" in message
    assert not (job.output / "report.json").exists()
    monkeypatch.setenv("PILOTBOAT_GPUS", "0")
    code, job = train(base, training=SHORT | {"maxSteps": 1})
    assert code == 0, "no GPU was given: the CPU was meant"


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_precisions_of_a_cpu(train: Trainer, base: Path, precision: str) -> None:
    code, job = train(base, training=SHORT | {"precision": precision, "maxSteps": 2})
    assert code == 0, job.said
    assert job.report["device"]["precision"] == precision


def test_a_loss_that_is_no_number_stops_at_once_and_is_never_saved(train: Trainer, base: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(base, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("inf")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    code, job = train(broken)
    reason, message = failed(job)
    assert (code, reason) == (64, "TrainingFailed")
    assert "at step 1" in message
    assert list((job.output / "checkpoints").glob("checkpoint-*")) == []


def test_training_that_changes_nothing_is_no_success(train: Trainer, base: Path) -> None:
    code, job = train(base, method={"type": "Full"}, training=SHORT | {"learningRate": 1e-30})
    assert (code, failed(job)[0]) == (64, "NothingLearned")
    assert not (job.output / "model").exists()


def test_prompts_longer_than_the_limit_leave_nothing_to_learn(train: Trainer, base: Path) -> None:
    code, job = train(base, [TOO_LONG] * 4)
    reason, message = failed(job)
    assert (code, reason) == (64, "InvalidDataset")
    assert "maxLength 64" in message


def test_prompts_longer_than_the_limit_leave_nothing_to_pack(train: Trainer, base: Path) -> None:
    code, job = train(base, [TOO_LONG] * 4, training=SHORT | {"packing": True})
    assert (code, *failed(job)) == (64, "InvalidDataset", "every example's prompt alone is longer than maxLength 64")


@pytest.mark.parametrize("packing", [False, True])
def test_what_is_left_out_is_neither_trained_on_nor_counted(
    train: Trainer, base: Path, packing: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Packed, too: a row that is all prompt would be a step that learns nothing."""
    lines = [json.dumps({"prompt": "a", "completion": letter}) for letter in "bc"]
    once = {"epochs": 1, "batchSize": 1, "maxLength": 64, "learningRate": 0.01, "packing": packing}
    code, job = train(base, [*lines, *[TOO_LONG] * 8], training=once)
    assert code == 0, job.said
    result = TrainerResult.model_validate(job.said["result"])
    assert (result.examples, result.left_out, result.steps) == (2, 8, 1 if packing else 2)
    assert "only 2 of 10 examples (8 left out: no answer within maxLength), loss" in job.said["message"]
    assert "8 of 10 examples are left out: no answer within maxLength 64\n" in capsys.readouterr().out


def test_a_chat_needs_a_template(train: Trainer, tmp_path: Path) -> None:
    code, job = train(tiny.make(tmp_path / "plain", template=None))
    reason, message = failed(job)
    assert (code, reason) == (64, "InvalidModel")
    assert "no chat template" in message


ALTERNATING = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{{ message['content'] }}<|end|>{% endfor %}"
)
TWICE = {"messages": [{"role": role, "content": "a"} for role in ("user", "user", "assistant")]}


def test_a_chat_that_the_template_refuses_is_named_before_weights_are_loaded(train: Trainer, tmp_path: Path) -> None:
    alternating = tiny.make(tmp_path / "alternating", template=ALTERNATING)
    (alternating / "model.safetensors").write_bytes(b"cut off")
    code, job = train(alternating, [*questions(3), json.dumps(TWICE), "", json.dumps(TWICE)])
    assert (code, *failed(job)) == (
        *(64, "InvalidDataset"),
        "train.jsonl line 4: the model's chat template refuses it: Conversation roles must alternate"
        " (also broken: train.jsonl line 6)",
    )


def test_a_template_that_is_no_template_is_the_models_fault(train: Trainer, tmp_path: Path) -> None:
    code, job = train(tiny.make(tmp_path / "broken", template="{% for message in %}"))
    reason, message = failed(job)
    assert (code, reason) == (64, "InvalidModel")
    assert "the chat template is broken" in message


def test_a_template_that_goes_wrong_at_a_chat_is_told_with_its_line(train: Trainer, tmp_path: Path) -> None:
    code, job = train(tiny.make(tmp_path / "odd", template="{% for m in messages %}{{ m['content'] + 1 }}{% endfor %}"))
    reason, message = failed(job)
    assert (code, reason) == (64, "InvalidDataset")
    assert message.startswith("train.jsonl line 1: the model's chat template fails at it: TypeError: ")


def test_of_several_templates_one_must_be_the_default(train: Trainer, base: Path, tmp_path: Path) -> None:
    several = shutil.copytree(base, tmp_path / "several")
    (several / "additional_chat_templates").mkdir()
    (several / "chat_template.jinja").rename(several / "additional_chat_templates" / "tool_use.jinja")
    code, job = train(several)
    assert (code, *failed(job)) == (
        *(64, "InvalidModel"),
        f"{several} has several chat templates (tool_use), and none of them is the default",
    )


def test_a_token_for_padding_that_the_model_does_not_know_is_not_used(
    train: Trainer, base: Path, tmp_path: Path
) -> None:
    """Somebody has added it to the tokenizer alone."""
    added = shutil.copytree(base, tmp_path / "added")
    tokenizer = json.loads((added / "tokenizer_config.json").read_text())
    (added / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"pad_token": "[PAD]"}))
    lines = [json.dumps({"prompt": "a" * n, "completion": "b"}) for n in range(1, 9)]
    code, job = train(added, lines)
    assert code == 0, job.said


def small(kind: str, **names: int) -> Any:
    """A model of a few numbers, in the names that its kind has for them."""
    config = AutoConfig.for_model(kind, vocab_size=262, bos_token_id=1, eos_token_id=1, pad_token_id=0, **names)
    return AutoModelForCausalLM.from_config(config)


GPT2 = {"n_positions": 32, "n_embd": 32, "n_layer": 1, "n_head": 2}


@pytest.mark.parametrize(
    ("kind", "names", "limit"),
    [
        ("gpt2", GPT2, 32),
        ("gptj", GPT2 | {"rotary_dim": 8}, 32),
        (
            "opt",
            {"max_position_embeddings": 32, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1},
            32,
        ),
        ("llama", {"max_position_embeddings": 32, "hidden_size": 32, "num_hidden_layers": 1}, None),
    ],
)
def test_a_table_of_positions_has_an_end(kind: str, names: dict[str, int], limit: int | None) -> None:
    assert positions(small(kind, **names)) == limit


def test_examples_longer_than_the_models_positions_are_refused(train: Trainer, base: Path, tmp_path: Path) -> None:
    learned = shutil.copytree(base, tmp_path / "learned")
    small("gpt2", **GPT2).save_pretrained(learned)
    method = {"type": "LoRA", "lora": {"targetModules": ["c_attn"]}}
    lines = [json.dumps({"text": "a b c d e " * 10})] * 4
    code, job = train(learned, lines, method=method, training=SHORT | {"maxLength": 33})
    assert (code, *failed(job)) == (
        *(64, "Unsupported"),
        "spec.training.maxLength 33 is more than the 32 positions that the model has",
    )
    code, job = train(learned, lines, method=method, training=SHORT | {"maxLength": 32})
    assert code == 0, job.said


def test_what_is_no_model(train: Trainer, base: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert failed(train(tmp_path / "empty")[1]) == (
        "InvalidModel",
        f"{tmp_path / 'empty'} has neither safetensors nor a GGUF file",
    )
    cut = shutil.copytree(base, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:1000])
    code, job = train(cut)
    assert (code, failed(job)[0]) == (64, "InvalidModel")
    weights = load_file(base / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, cut / "model.safetensors", metadata={"format": "pt"})
    code, job = train(cut)
    assert (code, failed(job)) == (
        64,
        ("InvalidModel", f"{cut} lacks 1 of the model's tensors: model.layers.1.mlp.up_proj.weight"),
    )


def test_a_tokenizer_of_another_model_is_told_at_once(train: Trainer, base: Path, tmp_path: Path) -> None:
    """Else it is an index out of range in the middle of the training, and on a GPU no words at all."""
    other = shutil.copytree(base, tmp_path / "other")
    config = AutoConfig.from_pretrained(base)
    config.vocab_size = 100
    AutoModelForCausalLM.from_config(config).save_pretrained(other)
    code, job = train(other)
    reason, message = failed(job)
    assert (code, reason) == (64, "InvalidModel")
    assert "and the model knows those below 100" in message


def test_sigterm_while_a_model_is_loaded_is_no_fault_of_the_model(
    train: Trainer, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library takes what is raised while it looks for a tokenizer's files for a fault of the folder."""
    before, look = signal.getsignal(signal.SIGTERM), tokenization_utils_base.cached_file

    def interrupted(folder: str, name: str, **options: Any) -> Any:
        if name == "tokenizer.json":
            signal.raise_signal(signal.SIGTERM)
        return look(folder, name, **options)

    monkeypatch.setattr(tokenization_utils_base, "cached_file", interrupted)
    try:
        code, job = train(base)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (code, *failed(job)) == (143, "WaitingForCheckpoint", "stopped by SIGTERM before the first step")


def test_a_file_that_cannot_be_read_now_is_no_fault_of_the_input(train: Trainer, base: Path, tmp_path: Path) -> None:
    """As on a volume whose server is away. Nothing to read is there at the first address of a process's memory."""
    away = shutil.copytree(base, tmp_path / "away")
    (away / "tokenizer_config.json").unlink()
    (away / "tokenizer_config.json").symlink_to("/proc/self/mem")
    code, job = train(away)
    reason, message = failed(job)
    assert (code, reason) == (1, "TrainingFailed")
    assert message.startswith(f"{away} cannot be read: OSError: [Errno 5]")


def test_a_tokenizer_that_contradicts_itself_is_the_models_fault(train: Trainer, base: Path, tmp_path: Path) -> None:
    odd = shutil.copytree(base, tmp_path / "odd")
    tokenizer = json.loads((odd / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = [["a", "b"]]
    (odd / "tokenizer.json").write_text(json.dumps(tokenizer))
    code, job = train(odd)
    reason, message = failed(job)
    assert (code, reason) == (64, "InvalidModel")
    assert message.startswith(f"{odd} cannot be loaded: Exception: ")


def test_a_model_in_a_folder_of_its_own_is_found(train: Trainer, base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "repository" / "hf")
    assert train(tmp_path / "repository", training=SHORT)[0] == 0
    shutil.copytree(base, tmp_path / "repository" / "other")
    reason, message = failed(train(tmp_path / "repository")[1])
    assert (reason, message.partition(": ")[0]) == (
        "InvalidModel",
        f"{tmp_path / 'repository'} has weights in 2 folders (hf, other)",
    )
    assert "`files`" in message


def test_an_error_of_memory_is_known_as_such() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
