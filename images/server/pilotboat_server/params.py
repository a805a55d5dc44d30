"""From OpenAI's request bodies to GenerateRequests: every parameter works, or a 400 names it.

Owns the parameters of /v1/chat/completions and /v1/completions, their defaults and limits. Must not know: HTTP, engines
beyond their Capabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pilotboat.api.engines import Range

from . import reading, schemas
from .backend import ServerInfo
from .errors import BadRequest, NotFound
from .fields import MAX_INTEGER, Fields
from .types import GenerateRequest, Sampling

T = TypeVar("T")

MAX_CHOICES = 128
MAX_STOPS = 16
MAX_BIASES = 1024
"""Tokens in `logit_bias`: engines go through them at every token, on the one thread that computes for everybody."""
COLDEST = 1e-5
"""A temperature below it is 0: logits divided by it leave the range of numbers, and the likeliest alone is left."""

COMMON_NEUTRAL: dict[str, tuple[Any, ...]] = {"service_tier": ("auto", "default"), "store": (False,)}
CHAT_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **COMMON_NEUTRAL,
    "tools": ([],),
    "tool_choice": ("none",),
    "parallel_tool_calls": (),
    "functions": ([],),
    "function_call": ("none",),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
    "prompt_cache_key": (),
    "safety_identifier": (),
}
COMPLETION_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **COMMON_NEUTRAL,
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "response_format": (),
}


@dataclass(frozen=True)
class Work:
    """What one HTTP request asks for: an answer to each of `requests`, in this order."""

    requests: tuple[GenerateRequest, ...]
    count: int
    """Answers to each prompt; those of one prompt stand together."""
    stream: bool
    include_usage: bool
    chat: bool

    @property
    def id(self) -> str:
        """The id of the whole, as in the response."""
        return self.requests[0].id.partition("/")[0]


def chat(data: Any, info: ServerInfo, request_id: str, arrived: float) -> Work:
    """The body of POST /v1/chat/completions."""
    fields = Fields(data)
    _check_model(fields, info)
    messages = reading.messages(fields)
    wanted = fields.boolean("logprobs")
    top = fields.integer("top_logprobs", 0, info.capabilities.max_top_logprobs)
    if top is not None and not wanted:
        raise fields.wrong("top_logprobs", "needs logprobs to be true.")
    echo = bool(_offered(info, "echo", fields.boolean("echo")))
    reference = reading.reference(fields, messages) if echo else None
    if reference is not None and not wanted:
        raise fields.wrong("echo", "needs logprobs to be true.")
    sampling = replace(_sampling(fields, info), logprobs=_offered(info, "logprobs", (top or 0) if wanted else None))
    sampling = replace(sampling, response_format=_response_format(fields, info))
    if reference is not None:
        messages, sampling = messages[:-1], Sampling(temperature=0, top_p=1, logprobs=sampling.logprobs)
    request = GenerateRequest(f"chatcmpl-{request_id}", arrived, sampling, messages=messages, reference=reference)
    return _work(fields, info, [request], CHAT_NEUTRAL, chat=True)


def completion(data: Any, info: ServerInfo, request_id: str, arrived: float) -> Work:
    """The body of POST /v1/completions."""
    fields = Fields(data)
    _check_model(fields, info)
    prompts = reading.prompts(fields)
    top = fields.integer("logprobs", 0, info.capabilities.max_top_logprobs)
    sampling = replace(_sampling(fields, info), logprobs=_offered(info, "logprobs", top))
    sampling = replace(sampling, max_tokens=16) if sampling.max_tokens is None else sampling  # OpenAI's default here
    base = GenerateRequest(f"cmpl-{request_id}", arrived, sampling)
    requests = [
        replace(base, text=prompt) if isinstance(prompt, str) else replace(base, tokens=prompt) for prompt in prompts
    ]
    return _work(fields, info, requests, COMPLETION_NEUTRAL, chat=False)


def _work(
    fields: Fields,
    info: ServerInfo,
    prompts: list[GenerateRequest],
    neutral: dict[str, tuple[Any, ...]],
    *,
    chat: bool,
) -> Work:
    count = fields.integer("n", 1, MAX_CHOICES) or 1
    _check_room(fields, info, len(prompts), count)
    stream = bool(fields.boolean("stream"))
    include_usage = _stream_options(fields, stream)
    _check_ignored(fields)
    fields.neutral(neutral)
    fields.nothing_else()
    requests = [_choice(prompt, choice) for prompt in prompts for choice in range(count)]
    numbered = [replace(request, id=f"{request.id}/{index}") for index, request in enumerate(requests)]
    return Work(tuple(numbered), count, stream, include_usage, chat)


def _check_room(fields: Fields, info: ServerInfo, prompts: int, count: int) -> None:
    """What not even an idle server has the places for: 429 would have it tried again for ever."""
    if prompts * count > info.room:
        raise fields.wrong(
            "n" if count > 1 else "prompt",
            f"asks for {prompts * count} answers at a time; this server has places for {info.room} "
            "(inference.batchSize + service.maxQueuedRequests).",
        )


def _choice(request: GenerateRequest, number: int) -> GenerateRequest:
    """Choices of one prompt differ: each has the next seed."""
    seed = request.sampling.seed
    return request if seed is None else replace(request, sampling=replace(request.sampling, seed=seed + number))


def _check_model(fields: Fields, info: ServerInfo) -> None:
    model = fields.text("model")
    if model is not None and model != info.model:
        raise NotFound(
            f"The model {model!r} does not exist; this server has {info.model!r}.", "model", "model_not_found"
        )


def _check_ignored(fields: Fields) -> None:
    """`user` and `metadata` are the caller's own notes: accepted, of the right type, and used for nothing."""
    fields.text("user")
    metadata = fields.take("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise fields.wrong("metadata", "must be an object.")


def _stream_options(fields: Fields, stream: bool) -> bool:
    value = fields.take("stream_options")
    if value is None:
        return False
    if not stream:
        raise fields.wrong("stream_options", "needs stream to be true.")
    options = Fields(value, "stream_options")
    include = bool(options.boolean("include_usage"))
    options.neutral({"include_obfuscation": (False,)})
    options.nothing_else()
    return include


def _sampling(fields: Fields, info: ServerInfo) -> Sampling:
    temperature, top_p = fields.number("temperature", 0, 2), fields.number("top_p", 0, 1)
    _check_limit("temperature", temperature, info.limits.temperature)
    _check_limit("top_p", top_p, info.limits.top_p)
    if top_p == 0:
        raise fields.wrong("top_p", "must be above 0.")
    temperature = info.defaults.temperature if temperature is None else temperature
    return Sampling(
        temperature=temperature if temperature >= COLDEST else 0.0,
        top_p=info.defaults.top_p if top_p is None else top_p,
        top_k=_offered(info, "top_k", fields.integer("top_k", 0)) or 0,
        min_p=_offered(info, "min_p", fields.number("min_p", 0, 1)) or 0.0,
        presence_penalty=_offered(info, "presence_penalty", fields.number("presence_penalty", -2, 2)) or 0.0,
        frequency_penalty=_offered(info, "frequency_penalty", fields.number("frequency_penalty", -2, 2)) or 0.0,
        seed=_offered(info, "seed", fields.integer("seed", -(2**63), 2**63 - 1)),
        max_tokens=_max_tokens(fields, info),
        stop=_stop(fields),
        logit_bias=_offered(info, "logit_bias", _logit_bias(fields)),
        ignore_eos=bool(_offered(info, "ignore_eos", fields.boolean("ignore_eos"))),
    )


def _offered(info: ServerInfo, name: str, value: T) -> T:
    """The value, where the engine can honour it or it asks for nothing."""
    asks = value is not None and (name in ("seed", "logprobs") or bool(value))
    if asks and name not in info.capabilities.parameters:
        raise BadRequest(f"{name} is not supported by the {info.capabilities.engine} engine.", name)
    return value


def _check_limit(name: str, value: float | None, limit: Range | None) -> None:
    if value is not None and limit is not None and not limit.min <= value <= limit.max:
        raise BadRequest(
            f"{name} is {value:g}; this deployment allows {limit.min:g} to {limit.max:g} (inference.limits).", name
        )


def _max_tokens(fields: Fields, info: ServerInfo) -> int | None:
    old, new = fields.integer("max_tokens", 1), fields.integer("max_completion_tokens", 1)
    if old is not None and new is not None and old != new:
        raise fields.wrong("max_tokens", "differs from max_completion_tokens: give one of them.")
    name, value = ("max_tokens", old) if new is None else ("max_completion_tokens", new)
    if value is not None and value >= info.max_length:
        raise fields.wrong(name, f"is {value}; prompt and answer together may have {info.max_length} tokens.")
    return value


def _stop(fields: Fields) -> tuple[str, ...]:
    value = fields.take("stop")
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise fields.wrong("stop", "must be a string or a list of strings, none of them empty.")
    if len(stops) > MAX_STOPS:
        raise fields.wrong("stop", f"has {len(stops)} strings; {MAX_STOPS} are allowed.")
    return tuple(stops)


def _logit_bias(fields: Fields) -> dict[int, float]:
    value = fields.take("logit_bias")
    if value is None:
        return {}
    inner = Fields(value, "logit_bias")
    if len(value) > MAX_BIASES:
        raise fields.wrong("logit_bias", f"has {len(value)} tokens; {MAX_BIASES} are allowed.")
    biases: dict[int, float] = {}
    for key in value:
        if not key.isdecimal() or len(key) > len(str(MAX_INTEGER)) or int(key) > MAX_INTEGER:
            raise inner.wrong(key, "is not a token id.")
        biases[int(key)] = inner.number(key, -100, 100) or 0.0
    return biases


def _response_format(fields: Fields, info: ServerInfo) -> dict[str, Any] | None:
    value = fields.take("response_format")
    if value is None:
        return None
    kind = Fields(value, "response_format").text("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise fields.wrong("response_format", "must have the type text, json_object or json_schema.")
    if kind not in info.capabilities.response_formats:
        raise fields.wrong("response_format", f"{kind} is not supported by the {info.capabilities.engine} engine.")
    if kind == "json_schema" and not isinstance(_inner(value.get("json_schema"), "schema"), dict):
        raise fields.wrong("response_format", "needs json_schema.schema, an object.")
    try:
        schemas.check(value)
    except ValueError as error:
        raise fields.wrong("response_format", str(error)) from None
    return None if kind == "text" else dict(value)


def _inner(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
