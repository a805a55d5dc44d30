"""The GPUs that the job was given: one that is held is trained on, or nothing is.

Owns: reading PILOTBOAT_GPUS, and the refusal. Must not know: PyTorch; device.py tells what that sees.
"""

from __future__ import annotations

from collections.abc import Mapping

from pilotboat.api.runtime import GPUS_VARIABLE

from .errors import InvalidConfig, Unsupported


def given(environment: Mapping[str, str]) -> int:
    """How many; 0 where nobody says, and then one that happens to be there is used."""
    text = environment.get(GPUS_VARIABLE, "").strip()
    if text and not (text.isascii() and text.isdecimal()):
        raise InvalidConfig(f"{GPUS_VARIABLE} is {text!r}, not a number of GPUs")
    return int(text or 0)


def check(count: int, seen: bool) -> None:
    """Raises Unsupported where GPUs that were given would be held and not used; `seen`: PyTorch sees one."""
    if count > 1:
        raise Unsupported(
            f"gpu.count: {count} was asked for and the trainer trains on one GPU: create the FineTuneJob anew with "
            "gpu.count 1"
        )
    if count and not seen:
        raise Unsupported(
            f"gpu.count: {count} was asked for and torch sees no GPU: look at the node's driver and at "
            "podTemplate.runtimeClassName, or create the FineTuneJob anew without gpu to train on the CPU"
        )
