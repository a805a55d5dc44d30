"""What is made of llama.cpp's chunks, as it sends them: no model and no llama.cpp."""

from __future__ import annotations

from typing import Any

import pytest

from pilotboat_server.engines.llamacpp import Call, body
from pilotboat_server.errors import NOT_FINITE, ApiError
from pilotboat_server.types import Delta, Done, Event, Failed, GenerateRequest, Sampling

SCHEMA = {"type": "json_schema", "json_schema": {"schema": {"type": 5}}}


def error(chunk: dict[str, Any], **sampling: Any) -> ApiError:
    """How a request ends to which llama.cpp says this."""
    events: list[Event] = []
    request = GenerateRequest("r", 0.0, Sampling(0, 1, **sampling), messages=())
    call = Call(request, events.append, 100)
    assert call.on_chunk(chunk), "llama.cpp is told to stop"
    call.finish()
    (end,) = events
    assert isinstance(end, Failed)
    return ApiError.from_wire(list(end.error))


@pytest.mark.parametrize(("wish", "param"), [({"response_format": SCHEMA}, "response_format"), ({}, "messages")])
def test_what_is_refused_is_named(wish: dict[str, Any], param: str) -> None:
    refused = error({"error": {"code": 400, "message": "no such type"}}, **wish)
    assert (refused.status, refused.param) == (400, param)


def test_a_prompt_that_is_too_long_is_not_the_schemas_fault() -> None:
    chunk = {"error": {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 200}}
    assert error(chunk, response_format=SCHEMA).param == "messages"


def test_a_probability_that_is_no_number_ends_the_answer() -> None:
    entry = {"token": "a", "bytes": [97], "logprob": None, "top_logprobs": []}
    chunk = {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [entry]}}]}
    assert error(chunk, logprobs=0).code == NOT_FINITE


def test_a_given_answer_that_no_grammar_can_spell_is_the_callers_error() -> None:
    said = {"code": 500, "message": "got exception: Unexpected empty grammar stack after accepting piece: <pad> (0)"}
    events: list[Event] = []
    call = Call(GenerateRequest("r", 0.0, Sampling(0, 1), messages=(), reference="\uffff"), events.append, 100)
    call.given = 3
    assert call.on_chunk({"error": said})
    call.finish()
    (end,) = events
    assert isinstance(end, Failed)
    assert end.error[:3:2] == (400, "messages")
    assert error({"error": said}).status == 500, "elsewhere it is no grammar of ours"


def text_of(pieces: list[str], stop: tuple[str, ...], logprobs: int | None = None) -> tuple[list[Event], list[bool]]:
    """Events of an answer that llama.cpp sends in these pieces, and after each whether it is told to stop."""
    events: list[Event] = []
    call = Call(GenerateRequest("r", 0.0, Sampling(0, 1, stop=stop, logprobs=logprobs), text="x"), events.append, 100)
    told = []
    for number, piece in enumerate(pieces, 1):
        entry = {"token": piece, "bytes": list(piece.encode()), "logprob": -1, "top_logprobs": []}
        choice = {"text": piece, "logprobs": {"content": [entry]}}
        told.append(call.on_chunk({"choices": [choice], "timings": {"predicted_n": number}}))
        if told[-1]:
            break
    else:
        call.on_chunk({"choices": [{"text": "", "finish_reason": "length"}]})
    call.finish()
    return events, told


@pytest.mark.parametrize("logprobs", [None, 0])
def test_what_may_have_become_a_stop_string_belongs_to_an_answer_that_is_cut(logprobs: int | None) -> None:
    (*deltas, done), told = text_of([" ship", " d", "e"], ("dear reader",), logprobs)
    assert "".join(delta.text for delta in deltas if isinstance(delta, Delta)) == " ship de"
    assert sum(delta.tokens for delta in deltas if isinstance(delta, Delta)) == 3
    assert (done, told) == (Done("length", 0, 3), [False] * 3)
    tokens = [entry.chosen.token for delta in deltas if isinstance(delta, Delta) for entry in delta.logprobs]
    assert tokens == ([" ship", " d", "e"] if logprobs == 0 else [])


def test_a_stop_string_ends_the_answer_and_llama_cpps_work() -> None:
    (*deltas, done), told = text_of(["a d", "ear re", "ader b", "c"], ("dear reader",))
    assert "".join(delta.text for delta in deltas if isinstance(delta, Delta)) == "a "
    assert (done, told) == (Done("stop", 0, 3), [False, False, True])


def test_llama_cpp_is_told_of_no_stop_string() -> None:
    assert "stop" not in body(GenerateRequest("r", 0.0, Sampling(0, 1, stop=("a",)), text="x"), 100)
