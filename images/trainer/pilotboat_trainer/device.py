"""What the training computes on, and in which number format.

Owns: device and precision. Must not know: models, data.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from pilotboat.api.finetune_job import MethodType, TrainingPrecision

from . import gpus
from .errors import Unsupported

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Device:
    """A device and the formats of a run on it."""

    type: str
    name: str
    weights: torch.dtype
    """Format the base is loaded in."""
    bf16: bool
    fp16: bool

    @property
    def precision(self) -> str:
        """For the report."""
        return "bf16" if self.bf16 else "fp16" if self.fp16 else "fp32"

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.type == "cuda"


def choose(precision: TrainingPrecision, method: MethodType) -> Device:
    """The device there is, and the format asked for or the best it has. Never the CPU where a GPU was given."""
    cuda = torch.cuda.is_available()
    gpus.check(gpus.given(os.environ), cuda)
    if cuda and torch.cuda.device_count() > 1:
        raise Unsupported(f"the trainer uses one GPU and {torch.cuda.device_count()} are visible: set gpu.count to 1")
    wanted = _auto(cuda) if precision is TrainingPrecision.AUTO else precision
    if wanted is TrainingPrecision.FP16 and not cuda:
        raise Unsupported("fp16 training needs a GPU; use Auto, bf16 or fp32")
    if wanted is TrainingPrecision.BF16 and cuda and not torch.cuda.is_bf16_supported():
        raise Unsupported(f"{torch.cuda.get_device_name()} has no bf16; use Auto, fp16 or fp32")
    half = {TrainingPrecision.BF16: torch.bfloat16, TrainingPrecision.FP16: torch.float16}.get(wanted)
    # A frozen base may be coarse; weights that are trained themselves need all their digits, or small steps vanish.
    weights = half if half and method is MethodType.LORA else torch.float32
    name = torch.cuda.get_device_name() if cuda else "cpu"
    return Device(
        "cuda" if cuda else "cpu",
        name,
        weights,
        bf16=wanted is TrainingPrecision.BF16,
        fp16=wanted is TrainingPrecision.FP16,
    )


def _auto(cuda: bool) -> TrainingPrecision:
    if cuda:
        return TrainingPrecision.BF16 if torch.cuda.is_bf16_supported() else TrainingPrecision.FP16
    return TrainingPrecision.BF16 if _cpu_multiplies_bf16() else TrainingPrecision.FP32


def _cpu_multiplies_bf16() -> bool:
    """AMX alone: without it bf16 is emulated, or slower than fp32. docs/training.md has what was measured."""
    try:
        return "amx_bf16" in CPUINFO.read_text()
    except OSError:
        return False
