"""The interface of an engine, and the settings it is made from.

Owns the contract. Must not know: HTTP, OpenAI's JSON, queues, or any engine's library.

An engine gets at most `slots` requests at a time. For each it calls `emit`, from any thread: Prefill and Delta as often
as it likes, then exactly one Done or Failed, after which it holds nothing for the request. The cancel function that
`submit` returns may be called at any time and from any thread; the last event still comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pilotboat.api.engines import Device, FakeBehaviour, Inference

from ..errors import ApiError, BadRequest, UnsupportedSetting
from ..types import Capabilities, Event, Failed, GenerateRequest

Emit = Callable[[Event], None]
Cancel = Callable[[], None]
OnFatal = Callable[[BaseException], None]


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is made from."""

    path: Path
    """The GGUF file, or the folder with safetensors."""
    inference: Inference
    threads: int
    """Threads to compute with on the CPU."""
    on_fatal: OnFatal
    """Called when the engine is broken beyond one request, before their last events, or those that wait would be given
    to it: the process ends, and kubelet restarts it."""
    adapter: Path | None = None
    fake: FakeBehaviour | None = None
    """What the fake engine is told; no other reads it."""
    gpus: int = 0
    """GPUs that were given for this model; with 0, one that happens to be there is used where it can be."""


class Engine(Protocol):
    """What runs a model."""

    @property
    def capabilities(self) -> Capabilities:
        """Known before `load`."""
        ...

    @property
    def slots(self) -> int:
        """Requests it works on at a time."""
        ...

    def load(self) -> None:
        """Load the model; blocks. Raises StartupError where a retry cannot help."""
        ...

    def submit(self, request: GenerateRequest, emit: Emit) -> Cancel:
        """Begin; returns at once."""
        ...

    def close(self) -> None:
        """Give everything back. No request is running any more."""
        ...


def on_gpu(settings: EngineSettings, seen: bool, otherwise: str) -> bool:
    """Whether to compute on a GPU; `seen`: the engine's library sees one.

    Raises UnsupportedSetting where it sees none and one was asked for, which would be held and not used. `otherwise`
    says that, and what to do about it other than to compute on the CPU.
    """
    device = settings.inference.device
    if device is Device.CPU:
        return False
    if not seen and (device is Device.CUDA or settings.gpus):
        asked = "inference.device: cuda" if device is Device.CUDA else f"gpu.count: {settings.gpus}"
        raise UnsupportedSetting(f"{asked} was asked for and {otherwise}, or set inference.device: cpu")
    return seen


def failed(error: ApiError) -> Failed:
    """The last event of a request that cannot be answered."""
    return Failed(tuple(error.to_wire()))


def prompt_field(request: GenerateRequest) -> str:
    """Name of the request's field that holds its prompt."""
    return "messages" if request.messages is not None else "prompt"


def too_long(request: GenerateRequest, prompt_tokens: int | str, max_length: int) -> BadRequest:
    """The prompt leaves no room for an answer; `prompt_tokens`: how many it has, or what is known of that."""
    return BadRequest(
        f"The prompt has {prompt_tokens} tokens; with at least one token of answer it must fit the model's "
        f"maximum length of {max_length} tokens.",
        prompt_field(request),
        "context_length_exceeded",
    )


def no_reference(request: GenerateRequest) -> BadRequest:
    """The given answer is nothing that a model could have said."""
    return BadRequest("The given answer has no tokens.", prompt_field(request))


def room(request: GenerateRequest, prompt_tokens: int, max_length: int) -> int:
    """Tokens the answer may have: what was asked for, within what the context still holds."""
    left = max_length - prompt_tokens
    asked = request.sampling.max_tokens
    return left if asked is None else min(asked, left)
