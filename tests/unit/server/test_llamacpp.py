"""What is made of llama.cpp's chunks, as it sends them: no model and no llama.cpp."""

from __future__ import annotations

from typing import Any

import pytest

from pilotboat_server.engines.llamacpp import Call
from pilotboat_server.errors import NOT_FINITE, ApiError
from pilotboat_server.types import Event, Failed, GenerateRequest, Sampling

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
