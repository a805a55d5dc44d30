"""Proof that training changed the weights: a run can look healthy, with a falling loss, and have changed nothing.

Owns: the proof and the counts of parameters. Must not know: the training loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from .errors import Diverged, NothingLearned


@dataclass(frozen=True)
class Parameters:
    """How many numbers are trained, of how many."""

    trainable: int
    total: int

    @classmethod
    def of(cls, model: Any) -> Parameters:
        """Count them."""
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
        return cls(sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes))


class Witness:
    """Remembers the trained weights as they were before the first step of all, and says how far they have moved."""

    def __init__(self, model: Any) -> None:
        self._before = _sums(model)

    def check(self, model: Any) -> float:
        """How much moved: ‖B‖ of an adapter, which begins at zero; else the sum of all differences. Raises at none."""
        after = _sums(model)
        moved = {name: abs(total - self._before[name]) for name, total in after.items()}
        norm = lora_b_norm(model)
        if not all(math.isfinite(total) for total in after.values()):
            raise Diverged("the trained weights hold values that are no numbers: lower learningRate, or use fp32")
        change = sum(moved.values()) if norm is None else norm
        if change == 0:
            raise NothingLearned("no weight changed in training: check learningRate and targetModules")
        return change


def lora_b_norm(model: Any) -> float | None:
    """The norm of all B matrices, or None where there are none."""
    squares = [float(p.detach().float().square().sum()) for name, p in model.named_parameters() if ".lora_B." in name]
    return math.sqrt(sum(squares)) if squares else None


def _sums(model: Any) -> dict[str, float]:
    """One number a trained tensor, sensitive to any change: a sum weighted by position, in full precision."""
    return {name: _sum(p.detach()) for name, p in model.named_parameters() if p.requires_grad}


def _sum(tensor: torch.Tensor) -> float:
    flat = tensor.reshape(-1).double()
    weights = torch.linspace(1.0, 2.0, flat.numel(), dtype=torch.float64, device=flat.device)
    return float(torch.dot(flat, weights))
