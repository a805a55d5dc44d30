"""One training from examples to a published result: the order of things, and TRL's trainer set up for it.

Owns: the steps and SFTConfig. Must not know: the command line, how reports and posts are sent.
"""

from __future__ import annotations

import importlib.metadata
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerState
from transformers.integrations import KubeflowCallback
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from pilotboat.api.finetune_job import Lora, MethodType
from pilotboat.api.runtime import TrainerConfig, TrainerResult

from . import chats, device, lengths, model
from .callbacks import Watch
from .checkpoints import Checkpoints, Found
from .dataset import Examples
from .errors import InsufficientMemory, InvalidDataset, Terminated, TrainerError, TrainingFailed, Unsupported
from .learned import Parameters, Witness
from .output import Output, Run
from .poster import Poster
from .signals import Stop

LARGE = 2_000_000_000
"""Parameters from which a GPU's memory, not its speed, is what is short: then activations are computed twice."""


@dataclass
class Job:
    """Everything one training needs."""

    config: TrainerConfig
    examples: Examples
    output: Output
    run: Run
    poster: Poster
    stop: Stop
    threads: int

    @property
    def checkpoints(self) -> Checkpoints:
        """The job's checkpoints, as this pod may read and write them."""
        place = self.output
        return Checkpoints(place.checkpoints, place.writer, self.run.fingerprint, self.config.checkpoints.keep)


def train(job: Job) -> TrainerResult:
    """Train, prove, publish. Raises TrainerError."""
    started = time.monotonic()
    torch.set_num_threads(job.threads)
    try:
        return _train(job, started)
    except TrainerError:
        raise
    except Exception as error:  # whatever it is, it may be a matter of memory, or of a successor
        job.output.writer.check()  # a successor removes what earlier writers left: whatever failed, that is why
        if model.is_out_of_memory(error):
            raise InsufficientMemory(_memory_hint(job, error)) from error
        raise
    finally:
        job.run.seconds += time.monotonic() - started
        job.output.leave(job.run)


def _train(job: Job, started: float) -> TrainerResult:
    where = device.choose(job.config.training.precision, job.config.method.type)
    print(
        f"trainer: {where.name}, {where.precision}, {job.threads} threads, {len(job.examples.rows)} examples",
        flush=True,
    )
    tokenizer = model.tokenizer(job.config.base)
    chats.check(job.examples, tokenizer, job.config.base)
    base = _base(job, where)
    model.settle_padding(tokenizer, base)
    watch = Watch(job.poster, job.stop, job.output.writer, job.checkpoints)
    trainer = _trainer(job, base, tokenizer, where, watch)
    kept = _leave_out(job, trainer)
    witness, parameters = Witness(trainer.model), Parameters.of(trainer.model)
    resume = job.checkpoints.last_good()
    watch.resume(resume)
    begins = f"continuing from step {resume.step}" if resume else "beginning at step 0"
    print(f"trainer: writer {job.output.writer.number}, {begins}", flush=True)
    job.stop.training()
    metrics = _steps(trainer, watch, resume)
    step, steps = trainer.state.global_step, trainer.state.max_steps
    if step < steps and job.stop.requested:
        raise Terminated(f"stopped by SIGTERM at step {step}; its checkpoint is saved", saved=True)
    if step < steps:
        raise TrainingFailed(f"training ended at step {step} of {steps}")
    change = witness.check(trainer.model)
    result = _publish(job, trainer, tokenizer, parameters, kept, job.run.seconds + time.monotonic() - started)
    job.output.finish(result, _details(job, where, change, metrics, result))
    return result


def _base(job: Job, where: device.Device) -> Any:
    base, wanted = model.load(job.config.base, where), job.config.training.max_length
    longest = model.positions(base)
    if longest is not None and wanted > longest:
        raise Unsupported(f"spec.training.maxLength {wanted} is more than the {longest} positions that the model has")
    if job.config.method.type is MethodType.FULL:
        model.settle_generation(base)
    return base


def _steps(trainer: Any, watch: Watch, resume: Found | None) -> dict[str, Any]:
    """All steps that are still to do. Resumed at its last step, the library would do one too many."""
    if resume is None:
        return dict(trainer.train().metrics)
    state = TrainerState.load_from_json(str(resume.path / "trainer_state.json"))
    if state.global_step < state.max_steps:
        return dict(trainer.train(resume_from_checkpoint=str(resume.path)).metrics)
    trainer._load_from_checkpoint(str(resume.path))  # there is no public way to load weights without training
    trainer.state = state
    watch.on_train_begin(trainer.args, state, trainer.control)
    return {}


def _trainer(job: Job, base: Any, tokenizer: Any, where: device.Device, watch: Watch) -> Any:
    lora = job.config.method.lora or Lora()
    adapter = model.adapter(base, lora) if job.config.method.type is MethodType.LORA else None
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(job.output.tensorboard)  # one run, however often it is resumed
    trainer = SFTTrainer(
        model=base,
        args=_arguments(job, where, base.num_parameters()),
        train_dataset=Dataset.from_list(list(job.examples.rows)),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[watch],
    )
    # It would post a second opinion: 0 % after every resume, and a wrong time left.
    trainer.remove_callback(KubeflowCallback)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _leave_out(job: Job, trainer: Any) -> int:
    """How many examples are trained on; the others are told."""
    trainer.train_dataset, kept = lengths.leave_out(trainer.train_dataset)
    longest, given = job.config.training.max_length, len(job.examples.rows)
    if not kept:
        raise InvalidDataset(f"every example's prompt alone is longer than maxLength {longest}")
    model.check_vocabulary(trainer.model, trainer.processing_class, trainer.train_dataset["input_ids"])
    if kept < given:
        print(
            f"trainer: {given - kept} of {given} examples are left out: no answer within maxLength {longest}",
            flush=True,
        )
    return kept


def _arguments(job: Job, where: device.Device, parameters: int) -> SFTConfig:
    training, kept = job.config.training, job.config.checkpoints
    return SFTConfig(
        output_dir=str(job.checkpoints.working),
        num_train_epochs=training.epochs or 1.0,
        max_steps=training.max_steps or -1,
        learning_rate=training.learning_rate,
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        max_length=training.max_length,
        packing=training.packing,
        seed=training.seed,
        data_seed=training.seed,
        use_cpu=not where.cuda,
        bf16=where.bf16,
        fp16=where.fp16,
        gradient_checkpointing=where.cuda and parameters > LARGE,
        save_strategy="steps",
        save_steps=kept.every_steps,
        logging_steps=1,
        logging_nan_inf_filter=False,  # the default replaces a loss that is no number by the last good one
        include_num_input_tokens_seen="non_padding",
        report_to=["tensorboard"],
        disable_tqdm=True,
        dataloader_pin_memory=where.cuda,
    )


def _publish(
    job: Job, trainer: Any, tokenizer: Any, parameters: Parameters, examples: int, seconds: float
) -> TrainerResult:
    lora = job.config.method.type is MethodType.LORA
    name = "adapter" if lora else "model"

    def save(folder: Path) -> None:
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(folder, safe_serialization=True)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's form for a hub, not filled in
        if not lora:
            tokenizer.save_pretrained(folder)

    return TrainerResult(
        type="Adapter" if lora else "Model",
        path=job.output.result_path(name),
        digests=job.output.publish(name, save),
        steps=trainer.state.global_step,
        train_loss=_final_loss(trainer.state.log_history),
        trainable_parameters=parameters.trainable,
        total_parameters=parameters.total,
        examples=examples,
        left_out=len(job.examples.rows) - examples,
        dataset_sha256=job.examples.sha256,
        restarts=job.run.starts - 1,
        seconds=round(seconds, 1),
    )


def _final_loss(history: list[dict[str, Any]], last: int = 10) -> float | None:
    """Mean of the last steps. The library's own train_loss is the mean of all steps, and after a resume is wrong."""
    losses = [float(entry["loss"]) for entry in history if "loss" in entry][-last:]
    return round(sum(losses) / len(losses), 6) if losses else None


def _details(
    job: Job, where: device.Device, change: float, metrics: dict[str, Any], result: TrainerResult
) -> dict[str, Any]:
    """What report.json has beyond the result: enough to run it again and to compare."""
    return {
        "job": job.config.job,
        "digests": result.digests,
        "device": {"type": where.type, "name": where.name, "precision": where.precision, "threads": job.threads},
        "method": job.config.method.wire(),
        "training": job.config.training.wire(),
        "dataset": {"format": job.examples.format, "lines": job.examples.lines, "sha256": job.examples.sha256},
        "weightChange": change,
        "metrics": {name: value for name, value in metrics.items() if isinstance(value, int | float)},
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
        },
    }


def _memory_hint(job: Job, error: BaseException) -> str:
    training = job.config.training
    less = f"lower batchSize ({training.batch_size}) or maxLength ({training.max_length})"
    method = "" if job.config.method.type is MethodType.LORA else ", or use LoRA"
    return f"out of memory: {less}{method}, or give more. {str(error).strip().splitlines()[0][:300]}"
