"""The fake engine as a revision is told to behave: slow, wrong, failing, hanging; in exact shares."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pilotboat.api.engines import Engine, Inference
from pilotboat_server.engines.base import EngineSettings
from pilotboat_server.engines.fake import FakeEngine, fate
from pilotboat_server.types import Event, Failed, GenerateRequest, Prefill, Sampling
from tests.unit.server.harness import HELLO, Running, ask, config, serving, until

CHAT = "/v1/chat/completions"


async def text(running: Running, question: str = "hello", **body: Any) -> str:
    answer = await running.client.chat.completions.create(model="m", messages=ask(question), **body)
    return str(answer.choices[0].message.content)


async def test_tokens_and_text_are_as_told_and_a_prompt_says_more() -> None:
    async with serving(config(fake={"tokens": 5, "text": "wrong"})) as running:
        assert (await text(running)).split() == ["wrong"] * 5
        assert (await text(running, "fake:tokens=2")).split() == ["wrong"] * 2


async def test_a_failing_share_fails_before_the_first_token() -> None:
    async with serving(config(fake={"failRatio": 0.25})) as running:
        replies = [await running.http.post(CHAT, json={"messages": HELLO, "stream": True}) for _ in range(12)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 500] * 3
    assert replies[3].json()["error"]["message"] == "the fake engine was told to fail this request"


async def test_a_hanging_request_sends_not_even_a_header_until_its_time_is_over() -> None:
    async with serving(config(fake={"hangRatio": 1}, service={"requestTimeout": "1s"})) as running:
        with pytest.raises(openai.APIStatusError) as caught:
            await text(running, stream=True)
        await until(lambda: running.host.scheduler.running == 0)
    assert caught.value.status_code == 504


async def test_jitter_changes_times_and_never_the_text() -> None:
    told = {"delay": 0.001, "first": 0.001, "jitter": 1.0}
    async with serving(config(fake=told)) as jittered, serving() as plain:
        assert await text(jittered, temperature=0) == await text(plain, temperature=0)


async def test_it_knows_its_own_words_and_finds_others_strange() -> None:
    async with serving(config(fake={"text": "red green"})) as running:
        given = [*HELLO, {"role": "assistant", "content": "red  blue green"}]
        asked = {"model": "m", "messages": given, "echo": True, "logprobs": True, "max_tokens": 0}
        body = (await running.http.post(CHAT, json=asked)).json()
    choice = body["choices"][0]
    assert choice["message"]["content"] == "red  blue green"
    assert [entry["logprob"] for entry in choice["logprobs"]["content"]] == [-0.5, -3.0, -0.5]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (5, 0)


async def test_a_given_answer_of_blanks_is_400() -> None:
    given = [*HELLO, {"role": "assistant", "content": " "}]
    async with serving() as running:
        reply = await running.http.post(CHAT, json={"messages": given, "echo": True, "logprobs": True, "max_tokens": 0})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "messages")


@given(st.integers(0, 3000), st.floats(0, 1), st.floats(0, 1))
def test_shares_are_exact_for_any_number_of_requests(count: int, one: float, other: float) -> None:
    fail, hang = round(one, 3), round(min(other, 1 - round(one, 3)), 3)
    fates = [fate(number, fail, hang) for number in range(count + 1)]
    assert fates[0] == "answer"
    assert abs(fates.count("fail") - count * fail) < 2
    assert abs(fates.count("hang") - count * hang) < 2


def test_whatever_it_stumbles_over_frees_its_slot() -> None:
    """The front lets no half of a surrogate pair through; its digest is one of the things that fail."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    engine = FakeEngine(EngineSettings(Path("/none"), Inference(), 1, lambda error: None))
    engine.submit(GenerateRequest("r", 0.0, Sampling(0, 1), text="\ud800"), events.put)
    assert events.get(timeout=60) == Prefill(1)
    assert isinstance(events.get(timeout=60), Failed)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"type": "LlamaCpp", "fake": {}}, "fake is only for type Fake"),
        ({"fake": {"tokens": 3}}, "fake is only for type Fake"),
        ({"type": "Fake", "fake": {"failRatio": 0.6, "hangRatio": 0.6}}, "together must not be above 1"),
        ({"type": "Fake", "fake": {"text": " "}}, "fake.text"),
        ({"type": "Fake", "fake": {"failRatio": 1.5}}, "fake.failRatio"),
        ({"type": "Fake", "fake": {"slow": 1}}, "fake.slow"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(engine: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Engine.model_validate(engine)
