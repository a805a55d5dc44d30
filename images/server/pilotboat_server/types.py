"""What passes between the HTTP front, the scheduler and an engine: requests, events, capabilities.

Owns the dataclasses and their form on the wire. Must not know: OpenAI's JSON, HTTP, any engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any, Literal

FinishReason = Literal["stop", "length", "cancelled"]
Message = dict[str, str]
"""`role` and `content`, both text."""


@dataclass(frozen=True)
class Sampling:
    """How one answer is drawn. Neutral values mean `off`."""

    temperature: float
    top_p: float
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    """None: until the context is full."""
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """How many alternatives with each token's logarithmic probability; 0: its own alone; None: none."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    ignore_eos: bool = False
    response_format: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class GenerateRequest:
    """One answer to one prompt: exactly one of messages, text and tokens."""

    id: str
    arrived: float
    """Seconds on CLOCK_MONOTONIC, which every process of the machine shares: when the HTTP front had the request."""
    sampling: Sampling
    messages: tuple[Message, ...] | None = None
    text: str | None = None
    tokens: tuple[int, ...] | None = None
    reference: str | None = None
    """An answer that is given: its tokens' probabilities are asked for, and nothing is drawn."""

    def to_wire(self) -> dict[str, Any]:
        """For the socket between processes."""
        data = asdict(self)
        data["sampling"]["logit_bias"] = list(self.sampling.logit_bias.items())
        return data

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> GenerateRequest:
        """The request that `to_wire` described."""
        chosen = dict(data["sampling"])
        chosen["stop"] = tuple(chosen["stop"])
        chosen["logit_bias"] = {int(token): bias for token, bias in chosen["logit_bias"]}
        rest = {key: tuple(data[key]) if data[key] is not None else None for key in ("messages", "tokens")}
        return cls(
            data["id"],
            data["arrived"],
            Sampling(**chosen),
            text=data["text"],
            reference=data["reference"],
            **rest,
        )


def requests_to_wire(requests: tuple[GenerateRequest, ...]) -> list[Any]:
    """Choices of one prompt differ in id and seed alone, and the prompt, which may be megabytes, stands there once."""
    return [
        [common.to_wire(), [[request.id, request.sampling.seed] for request in choices]]
        for common, choices in groupby(requests, lambda request: _chosen(request, "", None))
    ]


def requests_from_wire(data: list[Any]) -> tuple[GenerateRequest, ...]:
    """The requests that `requests_to_wire` described; choices of one prompt share it here too."""
    read = ((GenerateRequest.from_wire(common), choices) for common, choices in data)
    return tuple(_chosen(common, *choice) for common, choices in read for choice in choices)


def _chosen(request: GenerateRequest, number: str, seed: int | None) -> GenerateRequest:
    return replace(request, id=number, sampling=replace(request.sampling, seed=seed))


@dataclass(frozen=True)
class TopToken:
    """A token and its logarithmic probability before any sampling parameter acted."""

    token: str
    logprob: float
    bytes: tuple[int, ...]


@dataclass(frozen=True)
class TokenLogprob:
    """A sampled token, and the likeliest ones at its place."""

    chosen: TopToken
    top: tuple[TopToken, ...] = ()


@dataclass(frozen=True)
class Prefill:
    """The prompt is being read: a sign of life before the first token."""

    prompt_tokens: int


@dataclass(frozen=True)
class Delta:
    """More text. One delta may stand for several tokens: a character, or a stop string, can span them."""

    text: str
    tokens: int = 1
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Done:
    """The answer is whole. After it the engine holds nothing for the request."""

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class Failed:
    """The answer ends here, with an ApiError in wire form. After it the engine holds nothing for the request."""

    error: tuple[Any, ...]


Event = Prefill | Delta | Done | Failed

_EVENTS: dict[str, type[Prefill | Delta | Done | Failed]] = {"p": Prefill, "t": Delta, "d": Done, "f": Failed}


def event_to_wire(event: Event) -> list[Any]:
    """A short list: one is sent for every token."""
    match event:
        case Delta(text, tokens, logprobs):
            return ["t", text, tokens, [_logprob_to_wire(entry) for entry in logprobs]]
        case Prefill(prompt_tokens):
            return ["p", prompt_tokens]
        case Done(reason, prompt, completion, cached):
            return ["d", reason, prompt, completion, cached]
        case Failed(error):
            return ["f", list(error)]


def event_from_wire(data: list[Any]) -> Event:
    """The event that `event_to_wire` described."""
    kind, *values = data
    if kind == "t":
        text, tokens, logprobs = values
        return Delta(text, tokens, tuple(_logprob_from_wire(entry) for entry in logprobs))
    if kind == "f":
        return Failed(tuple(values[0]))
    return _EVENTS[kind](*values)


def _logprob_to_wire(entry: TokenLogprob) -> list[Any]:
    return [[token.token, token.logprob, list(token.bytes)] for token in (entry.chosen, *entry.top)]


def _logprob_from_wire(data: list[Any]) -> TokenLogprob:
    chosen, *top = (TopToken(token, logprob, tuple(raw)) for token, logprob, raw in data)
    return TokenLogprob(chosen, tuple(top))


@dataclass(frozen=True)
class Capabilities:
    """What an engine can honour beyond temperature, topP, max_tokens, stop and n, which every engine must."""

    engine: str
    parameters: frozenset[str] = frozenset()
    """Names as in Sampling: seed, presence_penalty, frequency_penalty, logprobs, logit_bias, top_k, min_p, ..."""
    response_formats: frozenset[str] = frozenset({"text"})
    max_top_logprobs: int = 20
