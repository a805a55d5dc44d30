"""Every request parameter works or is named in a 400; defaults and limits of the deployment act."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.engines import Range, SamplingDefaults, SamplingLimits
from pilotboat_server import params
from pilotboat_server.backend import ServerInfo
from pilotboat_server.engines import llamacpp, transformers
from pilotboat_server.errors import ApiError, BadRequest
from pilotboat_server.types import (
    Capabilities,
    Delta,
    Done,
    Failed,
    GenerateRequest,
    Prefill,
    TokenLogprob,
    TopToken,
    event_from_wire,
    event_to_wire,
    requests_from_wire,
    requests_to_wire,
)

LLAMA = Capabilities("llamacpp", llamacpp.PARAMETERS, llamacpp.FORMATS)
TORCH = Capabilities("transformers", transformers.PARAMETERS)
MESSAGES = [{"role": "user", "content": "hi"}]
GIVEN: dict[str, Any] = {
    "messages": [*MESSAGES, {"role": "assistant", "content": "hello there"}],
    "echo": True,
    "logprobs": True,
    "max_tokens": 0,
}
NUMBERS = ["temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "seed", "top_k", "max_tokens", "n"]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


def info(capabilities: Capabilities = LLAMA, limits: SamplingLimits | None = None) -> ServerInfo:
    return ServerInfo("m", 0, 100, capabilities, SamplingDefaults(), limits or SamplingLimits(), 120)


def chat(capabilities: Capabilities = LLAMA, limits: SamplingLimits | None = None, **fields: Any) -> params.Work:
    return params.chat({"messages": MESSAGES, **fields}, info(capabilities, limits), "id", 0.0)


def completion(**fields: Any) -> params.Work:
    return params.completion({"prompt": "hi", **fields}, info(), "id", 0.0)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return {"type": "json_schema", "json_schema": {"name": "deep", "schema": schema}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        *[({name: sign * 10**400}, name) for name in NUMBERS for sign in (1, -1)],
        *[({name: 2**31}, name) for name in ("top_k", "max_tokens")],
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 100}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"max_completion_tokens": 1000}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"n": 121}, "n"),
        ({"stop": ""}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"seed": "x"}, "seed"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"logprobs": 2}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {"a": 1}}, "logit_bias.a"),
        ({"logit_bias": {str(2**31): 1}}, f"logit_bias.{2**31}"),
        ({"logit_bias": {"1" * 5000: 1}}, "logit_bias." + "1" * 5000),
        ({"logit_bias": {"5": 10**400}}, "logit_bias.5"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"logit_bias": {str(token): 1 for token in range(1025)}}, "logit_bias"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        *[({"response_format": {"type": "json_schema", "json_schema": x}}, "response_format") for x in ("x", ["x"], 5)],
        ({"response_format": nested(100)}, "response_format"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"other": 1}}, "stream_options.other"),
        ({"user": 5}, "user"),
        ({"metadata": "x"}, "metadata"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"store": True}, "store"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"surprise": 1}, "surprise"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [5]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "name": "bob"}]}, "messages[0].name"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_what_is_wrong_or_not_offered_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        chat(**fields)
    assert caught.value.param == param
    assert caught.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, -1]}, "prompt"),
        ({"prompt": [2**31]}, "prompt"),
        ({"prompt": [10**400]}, "prompt"),
        ({"logprobs": 10**400}, "logprobs"),
        ({"prompt": ["a", ""]}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": ["a"] * 121}, "prompt"),
        ({"prompt": ["a"] * 41, "n": 3}, "n"),
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"messages": MESSAGES}, "messages"),
    ],
)
def test_completions_name_what_is_wrong_too(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        completion(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize("name", sorted(LLAMA.parameters - {"response_format"}))
def test_what_an_engine_cannot_do_is_named(name: str) -> None:
    values: dict[str, Any] = {"logprobs": True, "logit_bias": {"5": 1}, "ignore_eos": True}
    fields: dict[str, Any] = GIVEN if name == "echo" else {name: values.get(name, 1)}
    chat(LLAMA, **fields)
    with pytest.raises(BadRequest) as caught:
        chat(Capabilities("bare"), **fields)
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": None}, "echo"),
        ({"messages": MESSAGES}, "echo"),
        ({"messages": [GIVEN["messages"][-1]]}, "echo"),
        ({"messages": [*MESSAGES, {"role": "assistant", "content": ""}]}, "echo"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 1}, "max_tokens"),
        ({"max_tokens": False}, "max_tokens"),
        ({"max_completion_tokens": 5}, "max_tokens"),
        ({"echo": "yes"}, "echo"),
        ({"echo": False}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
    ],
)
def test_a_given_answer_needs_all_that_belongs_to_it(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        chat(LLAMA, **{**GIVEN, **fields})
    assert caught.value.param == param


def test_a_given_answer_is_no_part_of_the_prompt() -> None:
    (request,) = chat(LLAMA, **GIVEN, temperature=1, stop="e").requests
    assert (request.messages, request.reference) == (({"role": "user", "content": "hi"},), "hello there")
    assert (request.sampling.logprobs, request.sampling.stop) == (0, ())
    assert GenerateRequest.from_wire(request.to_wire()) == request


def test_neutral_values_ask_for_nothing() -> None:
    fields: dict[str, Any] = {
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "logprobs": False,
        "top_k": 0,
        "logit_bias": {},
    }
    chat(Capabilities("bare"), **fields, tools=[], tool_choice="none", store=False, n=1, seed=None, stop=None)


def test_json_schema_is_llama_cpps_alone() -> None:
    assert chat(LLAMA, response_format=SCHEMA).requests[0].sampling.response_format == SCHEMA
    assert chat(TORCH, response_format={"type": "text"}).requests[0].sampling.response_format is None
    with pytest.raises(BadRequest) as caught:
        chat(TORCH, response_format=SCHEMA)
    assert caught.value.param == "response_format"


def test_defaults_are_the_deployments() -> None:
    sampling = chat().requests[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.7, 0.9, None)
    assert completion().requests[0].sampling.max_tokens == 16


@pytest.mark.parametrize(("field", "value"), [("temperature", 0.05), ("temperature", 1.1), ("top_p", 0.5)])
def test_limits_name_field_and_range(field: str, value: float) -> None:
    limits = SamplingLimits(temperature=Range(min=0.1, max=1.0), top_p=Range(min=0.7, max=0.95))
    chat(limits=limits, temperature=0.1, top_p=0.95)
    with pytest.raises(BadRequest) as caught:
        chat(LLAMA, limits, **{field: value})
    limit = getattr(limits, field)
    assert caught.value.param == field
    assert f"{limit.min:g} to {limit.max:g}" in caught.value.message


@pytest.mark.parametrize(("asked", "taken"), [(1e-40, 0), (5e-324, 0), (9e-6, 0), (0, 0), (1e-5, 1e-5), (2, 2)])
def test_a_temperature_that_no_number_can_be_divided_by_is_greedy(asked: float, taken: float) -> None:
    assert chat(temperature=asked).requests[0].sampling.temperature == taken


def test_text_parts_are_joined_and_developers_are_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    work = params.chat({"messages": [{"role": "developer", "content": parts}]}, info(), "id", 0.0)
    assert work.requests[0].messages == ({"role": "system", "content": "ab"},)


def test_as_many_tokens_are_biased_as_are_allowed() -> None:
    bias = {str(token): -100 for token in range(params.MAX_BIASES)}
    assert len(chat(logit_bias=bias).requests[0].sampling.logit_bias) == 1024


def test_choices_have_seeds_of_their_own() -> None:
    assert [request.sampling.seed for request in chat(n=3, seed=5).requests] == [5, 6, 7]
    assert len({request.id for request in chat(n=3).requests}) == 3


def test_a_request_survives_the_wire() -> None:
    request = chat(logit_bias={"7": -1.5}, stop=["a"], seed=1, response_format=SCHEMA).requests[0]
    assert GenerateRequest.from_wire(request.to_wire()) == request
    tokens = replace(completion(prompt=[1, 2]).requests[0])
    assert GenerateRequest.from_wire(tokens.to_wire()) == tokens


PROMPTS = st.one_of(st.text(min_size=1), st.lists(st.integers(0, 9), min_size=1))


@given(st.lists(PROMPTS, min_size=1, max_size=6), st.integers(1, 20), st.none() | st.integers(0, 9))
def test_many_requests_survive_the_wire(prompts: list[Any], count: int, seed: int | None) -> None:
    requests = completion(prompt=prompts, n=count, seed=seed).requests
    sent = json.loads(json.dumps(requests_to_wire(requests)))
    assert len(sent) <= len(prompts), "a prompt is sent once, however many answers it gets"
    assert requests_from_wire(sent) == requests


def test_choices_share_their_prompt_on_the_other_side() -> None:
    one, *others = requests_from_wire(requests_to_wire(completion(prompt="a long one", n=3).requests))
    assert all(other.text is one.text for other in others)


@pytest.mark.parametrize(
    "event",
    [
        Prefill(5),
        Delta("text", 2),
        Delta("t", 1, (TokenLogprob(TopToken("t", -0.5, (116,)), (TopToken("u", -1.0, (117,)),)),)),
        Done("stop", 1, 2, 3),
        Failed((400, "message", "param", None)),
    ],
)
def test_an_event_survives_the_wire(event: Any) -> None:
    assert event_from_wire(event_to_wire(event)) == event


def test_an_error_survives_the_wire() -> None:
    error = BadRequest("message", "param", "code")
    assert ApiError.from_wire(error.to_wire()).body() == error.body()


def test_server_info_survives_the_wire() -> None:
    before = info(LLAMA, SamplingLimits(temperature=Range(min=0.1, max=1)))
    assert ServerInfo.from_wire(before.to_wire()) == before


def asked_for(schema: Any) -> params.Work:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return chat(response_format=json.loads(json.dumps(form)))


def node(step: dict[str, Any]) -> dict[str, Any]:
    """A list of nodes, whose next is this."""
    return {"$ref": "#/$defs/Node", "$defs": {"Node": {"type": "object", "properties": {"next": step}}}}


def pattern(text: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{text}$"}


NODE = {"$ref": "#/$defs/Node"}
TWICE = {"properties": {side: {"allOf": [{"$ref": "#/$defs/NEXT"}]} for side in ("left", "right")}}
DOUBLED = {f"d{n}": json.loads(json.dumps(TWICE).replace("NEXT", f"d{n + 1}")) for n in range(12)}
RINGS: list[dict[str, Any]] = [
    {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/a"}}},
    {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    {"allOf": [{"$ref": "#/definitions/a"}], "definitions": {"a": {"$ref": "#/definitions/a"}}},
    {"allOf": [{"anyOf": [{"$ref": "#/$defs/a"}]}], "$defs": {"a": {"$ref": "#/$defs/a"}}},
    {"properties": {"self": {"allOf": [{"$ref": "#"}]}}},
    {"$ref": "#/$defs/a", "properties": {"self": {"allOf": [{"$ref": "#"}]}}, "$defs": {"a": {}}},
    node({"allOf": [NODE]}),
    node({"allOf": [{"anyOf": [NODE]}]}),
    node({"type": "array", "items": {"allOf": [NODE]}}),
]


@pytest.mark.parametrize("schema", RINGS)
def test_a_schema_that_llama_cpp_would_write_out_for_ever_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="comes back to itself") as caught:
        asked_for(schema)
    assert caught.value.param == "response_format"
    with pytest.raises(BadRequest, match="comes back to itself"):
        chat(response_format={"type": "json_object", "schema": schema})  # llama.cpp takes one there too


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#/$defs/none"}, "not there"),
        ({"anyOf": [{"type": "string"}, {"$ref": "#/anyOf/-1"}]}, "not there"),
        ({"$ref": "https://example.org/x.json"}, "no plain place"),
        (
            {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {}, "a~1b": {"allOf": [{"$ref": "#/$defs/a~1b"}]}}},
            "no plain place",
        ),
        ({"$ref": 5}, "no string"),
        (
            {"$ref": "#/$defs/d0", "$defs": {**{f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(99)}, "d99": {}}},
            "deep",
        ),
        ({"allOf": [{"$ref": "#/$defs/d0"}], "$defs": {**DOUBLED, "d12": {}}}, "parts"),
        (
            {"type": ["array"] * 6, "items": {"type": ["array"] * 6, "items": {"type": ["array"] * 9, "items": {}}}},
            "parts",
        ),
        ({"enum": [str(number) for number in range(301)]}, "parts"),
        ({"type": ["string"] * 301}, "parts"),
        ({"properties": {f"p{number}": {"type": "string"} for number in range(301)}}, "parts"),
        ({"anyOf": [{"enum": [number]} for number in range(200)]}, "parts"),
        ({"properties": {"!" * 300_000: {}}}, "characters"),
        ({"properties": {"!" * 300: {}}}, "characters"),
        ({"$ref": "#/" + "!" * 300, "!" * 300: {}}, "characters"),
        ({"const": "ab" * 50_000}, "characters"),
        ({"type": "integer", "minimum": 10**400}, "double"),
        ({"type": "number", "maximum": math.inf}, "double"),
        ({"type": "array", "items": {"enum": [-math.inf, math.nan]}}, "double"),
        ({"type": "string", "minLength": 10, "maxLength": 1}, "leave nothing"),
        ({"type": "array", "items": {}, "minItems": 10, "maxItems": 1}, "leave nothing"),
        (pattern("(a{0,200}){0,200}"), "pattern"),
        (pattern("((a{0,50}){0,50}){0,50}"), "pattern"),
        (pattern("(([ab]{9}){9,}x{9}){99}"), "pattern"),
        (pattern("(((a{0,6}){0,6}){0,6}){0,6}"), "choices"),
        (pattern("(a?){0,300}"), "choices"),
        (pattern("(b|a{0}|c){0,300}"), "choices"),
        (pattern("([a-z]|[a-z]|[a-z]|[a-z]){0,400}"), "parts"),
        (pattern("([a-z]{0,40}){0,40}"), "choices"),
        (pattern("a?" * 900), "choices"),
        (pattern("|".join("a" * 900)), "parts"),
        (pattern("a{5,1}"), "ends before it begins"),
    ],
)
def test_a_schema_that_would_end_or_stop_llama_cpp_is_refused(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words) as caught:
        asked_for(schema)
    assert caught.value.param == "response_format"
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    "schema",
    [
        node(NODE),
        node({"anyOf": [NODE, {"type": "null"}]}),
        node({}) | {"$defs": {"Node": {"properties": {"next": {"$ref": "#/$defs/b"}}}, "b": {"allOf": [NODE]}}},
        {
            "$ref": "#/$defs/Dog",
            "$defs": {
                "Animal": {"properties": {"name": {"type": "string"}}, "required": ["name"]},
                "Dog": {"allOf": [{"$ref": "#/$defs/Animal"}, {"properties": {"friend": {"$ref": "#/$defs/Dog"}}}]},
            },
        },
        {"properties": {"enum": {"const": {"$ref": 5}}, "$ref": {"type": "string", "maxLength": 5000}}},
        {"properties": {f"p{number}": {"type": "string"} for number in range(200)}, "$defs": {"unused": {"$ref": "#"}}},
        {"enum": [str(number) for number in range(299)]},
        pattern(r"\d{4}-\d{2}-\d{2}T[0-9:]{8}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})"),
        pattern(r"[\w.+-]{1,64}@([a-z0-9-]{1,63}\.){1,8}[a-z]{2,63}"),
        pattern(r"[{(]\{\({5}"),
        pattern(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:,\d{3}){9}"),
        pattern(r"(?:a)" * 40),
        True,
    ],
)
def test_a_schema_of_everyday_is_taken(schema: Any) -> None:
    if schema is True:
        schema = {"additionalProperties": True, "items": True}
    assert asked_for(schema).requests[0].sampling.response_format
