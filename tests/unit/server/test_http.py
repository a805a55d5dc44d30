"""What callers see: the official client, and raw HTTP, against a real uvicorn over the fake engine."""

from __future__ import annotations

import asyncio
import json
import math
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from starlette.types import Receive, Scope, Send

from pilotboat_server.engines.base import Cancel, Emit, EngineSettings
from pilotboat_server.engines.fake import FakeEngine
from pilotboat_server.errors import EngineFailed
from pilotboat_server.host import EngineHost
from pilotboat_server.lastresort import LastResort
from pilotboat_server.requestid import RequestIds
from pilotboat_server.responses import dump
from pilotboat_server.types import GenerateRequest, Sampling
from tests.unit.server.harness import HELLO, Running, ask, config, serving, until

CHAT = "/v1/chat/completions"
SLOW = "fake:delay=60 fake:tokens=9"
"""Answers nothing for a minute: a request that stays until something ends it."""


async def stream(running: Running, **body: Any) -> list[Any]:
    """The JSON of each event of a streamed chat, and `[DONE]`."""
    events: list[Any] = []
    await gather(events, running, **body)
    return events


async def gather(events: list[Any], running: Running, **body: Any) -> None:
    """The same, each as it comes."""
    async with running.http.stream("POST", CHAT, json={"stream": True, **body}) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            if line:
                assert line.startswith("data: ")
                events.append(line[6:] if line == "data: [DONE]" else json.loads(line[6:]))


async def test_a_chat_is_answered_with_text_reason_and_usage() -> None:
    async with serving() as running:
        answer = await running.client.chat.completions.create(model="m", messages=HELLO, max_tokens=5)
    choice = answer.choices[0]
    assert len((choice.message.content or "").split()) == 5
    assert choice.message.to_dict()["refusal"] is None
    assert (choice.finish_reason, choice.message.role, answer.object) == ("length", "assistant", "chat.completion")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (2, 5, 7)


async def test_a_stream_is_role_then_content_then_reason_then_usage_then_done() -> None:
    async with serving() as running:
        events = await stream(running, messages=HELLO, max_tokens=3, stream_options={"include_usage": True})
    *chunks, usage, done = events
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert [sorted(delta) for delta in deltas[1:-1]] == [["content"]] * 3
    assert deltas[-1] == {}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["length"]
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 5
    assert all(chunk["usage"] is None for chunk in chunks)
    assert len({chunk["id"] for chunk in [*chunks, usage]}) == 1
    assert done == "[DONE]"


async def test_a_stream_without_usage_has_none() -> None:
    async with serving() as running:
        events = await stream(running, messages=HELLO, max_tokens=2)
    assert events[-1] == "[DONE]"
    assert all("usage" not in chunk for chunk in events[:-1])


async def test_streamed_and_whole_answers_are_the_same() -> None:
    body: dict[str, Any] = {"model": "m", "messages": HELLO, "seed": 7, "temperature": 1.0}
    async with serving() as running:
        whole = await running.client.chat.completions.create(**body)
        parts = [part async for part in await running.client.chat.completions.create(**body, stream=True)]
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole.choices[0].message.content


async def test_completions_take_many_prompts_and_many_choices() -> None:
    async with serving() as running:
        answer = await running.client.completions.create(
            model="m", prompt=["one two", "three"], n=2, max_tokens=4, seed=1, temperature=1.0, logprobs=1
        )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text != answer.choices[1].text
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 16)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert len(logprobs.tokens or ()) == 4


async def test_two_equal_prompts_are_two() -> None:
    async with serving() as running:
        answer = await running.client.completions.create(model="m", prompt=["one two"] * 2, n=2, max_tokens=1)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 4)


async def test_offsets_of_a_streamed_completion_run_on() -> None:
    async with serving() as running:
        body: dict[str, Any] = {"prompt": "one", "n": 2, "max_tokens": 4, "logprobs": 1, "temperature": 0}
        whole = await running.client.completions.create(model="m", **body)
        parts = [part async for part in await running.client.completions.create(model="m", **body, stream=True)]
    for index in range(2):
        chunks = [c.logprobs for part in parts for c in part.choices if c.index == index and c.logprobs]
        offsets = [offset for chunk in chunks for offset in chunk.text_offset]
        assert offsets == whole.choices[index].logprobs.text_offset
        assert len(set(offsets)) == 4


async def test_choices_of_one_stream_are_told_apart() -> None:
    async with serving() as running:
        events = await stream(running, messages=HELLO, n=3, max_tokens=2)
    reasons = {c["choices"][0]["index"]: c["choices"][0]["finish_reason"] for c in events[:-1]}
    assert reasons == {0: "length", 1: "length", 2: "length"}


async def test_chat_logprobs_have_a_token_each() -> None:
    async with serving() as running:
        answer = await running.client.chat.completions.create(
            model="m", messages=HELLO, max_tokens=3, logprobs=True, top_logprobs=2
        )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert [len(entry.top_logprobs) for entry in logprobs.content or ()] == [2, 2, 2]


@pytest.mark.parametrize("stop", ["ship", ["ship", "tide"]])
async def test_stop_strings_end_the_answer_before_them(stop: str | list[str]) -> None:
    async with serving() as running:
        answer = await running.client.chat.completions.create(
            model="m", messages=ask("fake:tokens=90"), temperature=0, stop=stop
        )
    choice = answer.choices[0]
    assert choice.finish_reason == "stop"
    assert "ship" not in (choice.message.content or "")


async def test_models_are_listed_and_named() -> None:
    async with serving() as running:
        models = await running.client.models.list()
        one = await running.client.models.retrieve("m")
        with pytest.raises(openai.NotFoundError):
            await running.client.models.retrieve("other")
    assert ([model.id for model in models.data], one.id) == (["m"], "m")


async def test_an_unknown_model_is_404_in_openais_shape() -> None:
    async with serving() as running:
        with pytest.raises(openai.NotFoundError) as caught:
            await running.client.chat.completions.create(model="other", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "stop": "\xed\xb0\x80"}',
        json.dumps({"messages": HELLO}).encode("utf-16"),
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1' + b"0" * 5000 + b"}",
    ],
)
async def test_a_body_that_is_no_text_or_no_object_is_400(body: bytes) -> None:
    async with serving() as running:
        response = await running.http.post(CHAT, content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_bug_is_answered_in_openais_shape_with_the_requests_id(capsys: pytest.CaptureFixture[str]) -> None:
    async def buggy(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("a private prompt")

    transport = httpx.ASGITransport(RequestIds(LastResort(buggy)))
    async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
        reply = await http.get("/", headers={"x-request-id": "r-1"})
    assert (reply.status_code, reply.json()["error"]["message"]) == (500, "Internal error.")
    assert reply.headers["x-request-id"] == "r-1"
    log = json.loads(capsys.readouterr().err)
    assert (log["event"], log["request_id"], log["error"]) == ("request_error", "r-1", "ValueError")
    assert log["where"].startswith("test_http.py:")
    assert "private" not in str(log)


async def test_hanging_up_in_the_middle_of_a_body_is_no_error(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as running:
        address = httpx.URL(running.url)
        _, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: m\r\ncontent-length: 100\r\n\r\n{{".encode())
        await until(lambda: bool(running.http_tasks()))
        writer.close()
        await until(lambda: not running.http_tasks())
    assert "request_error" not in capsys.readouterr().err
    assert not caplog.records, caplog.text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_json_is_not_sent(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        dump({"logprob": value})


async def test_a_body_beyond_any_context_is_413() -> None:
    async with serving() as running:
        response = await running.http.post(CHAT, content=b" " * (17 << 20))
    assert response.status_code == 413


async def test_an_unknown_route_and_a_wrong_method_have_openais_shape() -> None:
    async with serving() as running:
        replies = [await running.http.get("/v1/nothing"), await running.http.get(CHAT)]
    assert [reply.status_code for reply in replies] == [404, 405]
    assert all(reply.json()["error"]["message"] for reply in replies)
    assert {reply.headers["content-type"] for reply in replies} == {"application/json"}
    assert replies[1].headers["allow"] == "POST"


async def test_a_prompt_that_is_too_long_says_both_counts() -> None:
    async with serving(config({"maxLength": 20})) as running:
        with pytest.raises(openai.BadRequestError) as caught:
            await running.client.chat.completions.create(model="m", messages=ask("word " * 25))
    assert caught.value.code == "context_length_exceeded"
    assert "25 tokens" in caught.value.message
    assert "20 tokens" in caught.value.message


async def test_an_answer_ends_where_the_context_does() -> None:
    async with serving(config({"maxLength": 20})) as running:
        answer = await running.client.chat.completions.create(model="m", messages=ask("fake:tokens=90 " + "word " * 11))
    assert answer.usage is not None
    assert (answer.choices[0].finish_reason, answer.usage.total_tokens) == ("length", 20)


async def test_without_a_key_v1_is_closed_and_probes_are_open() -> None:
    async with serving(api_keys=("secret-1", "secret-2"), key="secret-2") as running:
        await running.client.models.list()
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic secret-1"}):
            reply = await running.http.post(CHAT, json={"messages": HELLO}, headers=headers)
            assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
        assert (await running.http.get("/readyz")).status_code == 200


@pytest.mark.parametrize("key", ["clé-à", "ключ…", "日本"])
async def test_a_key_may_have_letters_beyond_ascii(key: str) -> None:
    async with serving(api_keys=("other", key)) as running:
        for given, status in ((key, 200), (f"{key}é", 401), ("é", 401)):
            headers = {b"authorization": f"Bearer {given}".encode()}
            assert (await running.http.get("/v1/models", headers=headers)).status_code == status


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_failure_before_the_first_token_is_a_plain_error(streamed: bool) -> None:
    """The header is sent only with the first token: a gateway may still try elsewhere."""
    async with serving() as running:
        reply = await running.http.post(CHAT, json={"messages": ask("fake:fail=0"), "stream": streamed})
    assert (reply.status_code, reply.json()["error"]["type"]) == (500, "server_error")


async def test_a_failure_after_the_first_token_is_an_error_event_and_the_answer_has_no_end() -> None:
    """A gateway, which reads no events, counts it as one that was cut off."""
    events: list[Any] = []
    async with serving() as running:
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await gather(events, running, messages=ask("fake:fail=2"))
        with pytest.raises(openai.APIError):
            async for _ in await running.client.chat.completions.create(
                model="m", messages=ask("fake:fail=2"), stream=True
            ):
                pass
        assert await running.metric("pilotboat:request_failures_total") == 2
    assert [sorted(event) for event in events[:-1]] == [sorted(events[0])] * (len(events) - 1)
    assert events[-1]["error"]["type"] == "server_error"


async def test_hanging_up_a_stream_cancels_it() -> None:
    async with serving() as running:
        body = {"messages": ask("fake:delay=0.005 fake:tokens=2000"), "stream": True}
        async with running.http.stream("POST", CHAT, json=body) as response:
            await anext(response.aiter_lines())
            assert running.host.scheduler.running == 1
        await until(lambda: running.host.scheduler.running == 0)
        assert await running.metric('vllm:request_success_total{finished_reason="abort"') == 1


async def test_hanging_up_before_a_whole_answer_cancels_it() -> None:
    async with serving() as running:
        waiting = asyncio.create_task(running.http.post(CHAT, json={"messages": ask(SLOW)}))
        await until(lambda: running.host.scheduler.running == 1)
        waiting.cancel()
        await until(lambda: running.host.scheduler.running == 0)


async def test_hanging_up_ends_every_choice() -> None:
    async with serving() as running:
        waiting = asyncio.create_task(running.http.post(CHAT, json={"messages": ask(SLOW), "n": 6}))
        await until(lambda: running.host.scheduler.running == 4 and running.host.scheduler.waiting == 2)
        waiting.cancel()
        await until(lambda: running.host.scheduler.running == running.host.scheduler.waiting == 0)


async def test_a_full_queue_is_429_with_retry_after() -> None:
    async with serving(config({"batchSize": 1}, {"maxQueuedRequests": 1})) as running:
        held = [asyncio.create_task(running.http.post(CHAT, json={"messages": ask(SLOW)})) for _ in range(2)]
        await until(lambda: running.host.scheduler.waiting == 1)
        reply = await running.http.post(CHAT, json={"messages": HELLO})
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
        assert reply.json()["error"]["code"] == "queue_full"
        assert await running.metric("vllm:num_requests_waiting") == 1
        never = await running.http.post(CHAT, json={"messages": HELLO, "n": 3})
        assert (never.status_code, never.json()["error"]["param"]) == (400, "n"), "no wait would help"
        assert await running.metric('vllm:admission_rejections_total{model_name="m",reason="queue_full"') == 1
        for task in held:
            task.cancel()


async def test_a_request_beyond_its_time_is_504_and_leaves_nothing() -> None:
    async with serving(config(service={"requestTimeout": "1s"})) as running:
        reply = await running.http.post(CHAT, json={"messages": ask(SLOW)})
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
        await until(lambda: running.host.scheduler.running == 0)


async def test_a_start_that_takes_longer_than_any_request_may_is_no_failure() -> None:
    settings = config(service={"requestTimeout": "0s"}, fake={"first": 0.05})
    async with serving(settings) as running:
        assert (await running.http.get("/readyz")).status_code == 200


async def test_drain_cuts_no_stream_and_takes_nothing_new() -> None:
    async with serving(config({"batchSize": 4}, {"maxQueuedRequests": 8})) as running:
        body: dict[str, Any] = {"messages": ask("fake:delay=0.002 fake:tokens=100"), "max_tokens": 100}
        streams = [asyncio.create_task(stream(running, **body)) for _ in range(8)]
        await until(lambda: running.host.scheduler.running == 4 and running.host.scheduler.waiting == 4)
        draining = asyncio.create_task(running.host.drain(60))
        await until(lambda: running.host.scheduler.waiting > 0)
        ready, live = await running.http.get("/readyz"), await running.http.get("/livez")
        refused = await running.http.post(CHAT, json={"messages": HELLO})
        await draining
        answers = await asyncio.gather(*streams)
    assert (ready.status_code, ready.json()["phase"], live.status_code) == (503, "draining", 200)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    for events in answers:
        assert events[-1] == "[DONE]"
        assert sum("content" in event["choices"][0]["delta"] for event in events[:-1]) == 1 + 100


async def test_drain_ends_what_outlives_its_grace() -> None:
    async with serving() as running:
        held = asyncio.create_task(running.http.post(CHAT, json={"messages": ask(SLOW)}))
        await until(lambda: running.host.scheduler.running == 1)
        await running.host.drain(0.01)
        assert (await held).status_code == 503


async def test_what_hangs_at_a_drain_is_asked_of_nobody_else_and_what_waits_is() -> None:
    hangs = config({"batchSize": 1}, {"maxQueuedRequests": 1}, {"hangRatio": 1.0})
    async with serving(hangs, stall_seconds=0.1) as running:
        begun = asyncio.create_task(running.http.post(CHAT, json={"messages": HELLO}))
        await until(lambda: running.host.scheduler.running == 1)
        waiting = asyncio.create_task(running.http.post(CHAT, json={"messages": HELLO}))
        await until(lambda: running.host.scheduler.waiting == 1)
        await running.host.drain(60)
        assert ((await begun).status_code, (await waiting).status_code) == (500, 503)
        assert await running.host.close()


class Deaf(FakeEngine):
    """An engine deep in native code: it hears nothing of an end."""

    def submit(self, request: GenerateRequest, emit: Emit) -> Cancel:
        super().submit(request, emit)
        return lambda: None

    def close(self) -> None:
        raise AssertionError("it would be waited for")


async def test_an_engine_that_lets_nothing_go_is_left_to_the_end_of_the_process() -> None:
    settings = config(fake={"hangRatio": 1.0})
    engine = Deaf(EngineSettings(Path("/none"), settings.inference, 1, lambda error: None, None, settings.engine.fake))
    host = EngineHost(settings, engine, time.monotonic(), 0.1)
    await host.start()
    begun = asyncio.create_task(anext(host.generate((GenerateRequest("r", 0.0, Sampling(0, 1), text="x"),))))
    await until(lambda: host.scheduler.running == 1)
    await host.drain(60)
    assert not await host.close(0.05)
    with pytest.raises(EngineFailed):
        await begun


async def test_what_a_broken_engine_never_began_may_be_asked_elsewhere() -> None:
    async with serving(config({"batchSize": 1})) as running:
        begun = asyncio.create_task(running.http.post(CHAT, json={"messages": ask(SLOW)}))
        await until(lambda: running.host.scheduler.running == 1)
        waiting = asyncio.create_task(running.http.post(CHAT, json={"messages": ask(SLOW)}))
        await until(lambda: running.host.scheduler.waiting == 1)
        running.host.broken(RuntimeError("no more"))
        assert ((await begun).status_code, (await waiting).status_code) == (500, 503)
        assert (await running.http.post(CHAT, json={"messages": HELLO})).status_code == 503


async def test_probes_tell_the_phase() -> None:
    async with serving(load=False) as running:
        before = {probe: await running.http.get(f"/{probe}") for probe in ("startupz", "readyz", "livez")}
        refused = await running.http.post(CHAT, json={"messages": HELLO})
        await running.host.start()
        after = {probe: await running.http.get(f"/{probe}") for probe in before}
    assert [reply.status_code for reply in before.values()] == [503, 503, 200]
    assert before["startupz"].json()["phase"] == "loading"
    assert refused.status_code == 503
    assert [reply.status_code for reply in after.values()] == [200, 200, 200]
    assert set(after["readyz"].json()["startup_seconds"]) == {"loading", "warming"}


async def test_liveness_fails_when_running_work_shows_no_sign_of_life() -> None:
    async with serving(stall_seconds=0.0) as running:
        assert (await running.http.get("/livez")).status_code == 200
        held = asyncio.create_task(running.http.post(CHAT, json={"messages": ask(SLOW)}))
        await until(lambda: running.host.scheduler.running == 1)
        assert (await running.http.get("/livez")).status_code == 503
        held.cancel()


async def test_requests_at_the_same_time_keep_their_own_sampling() -> None:
    bodies: list[dict[str, Any]] = [
        {"model": "m", "messages": HELLO, "temperature": temperature, "seed": seed}
        for temperature in (0.0, 0.5, 1.0)
        for seed in (1, 2)
    ]
    async with serving() as running:
        create = running.client.chat.completions.create
        alone = [(await create(**body)).choices[0].message.content for body in bodies]
        together = [a.choices[0].message.content for a in await asyncio.gather(*(create(**body) for body in bodies))]
    assert together == alone
    assert len(set(alone)) == 5, "greedy takes no seed; every other combination differs"


async def test_metrics_count_what_happened() -> None:
    async with serving() as running:
        await running.client.chat.completions.create(model="m", messages=HELLO, max_tokens=5)
        await running.client.completions.create(model="m", prompt="one two three", max_tokens=4)
        values = {
            name: await running.metric(name)
            for name in (
                "vllm:prompt_tokens_total",
                "vllm:generation_tokens_total",
                'vllm:request_success_total{finished_reason="length"',
                "vllm:time_to_first_token_seconds_count",
                "vllm:inter_token_latency_seconds_count",
                "vllm:e2e_request_latency_seconds_count",
            )
        }
        text = (await running.http.get("/metrics")).text
    assert list(values.values()) == [5, 9, 2, 2, 7, 2]
    assert 'pilotboat:time_to_first_token_quantile_seconds{model_name="m",quantile="0.99"}' in text
    assert 'pilotboat:startup_phase_seconds{model_name="m",phase="loading"}' in text


async def test_a_gauge_tells_what_runs() -> None:
    async with serving() as running:
        held = asyncio.create_task(running.http.post(CHAT, json={"messages": ask(SLOW)}))
        await until(lambda: running.host.scheduler.running == 1)
        assert await running.metric("vllm:num_requests_running") == 1
        held.cancel()
        await until(lambda: running.host.scheduler.running == 0)
        assert await running.metric("vllm:num_requests_running") == 0


async def test_a_client_that_connects_and_says_nothing_disturbs_nobody() -> None:
    async with serving() as running:
        address = httpx.URL(running.url)
        _, writer = await asyncio.open_connection(address.host, address.port)
        await running.client.models.list()
        writer.close()
