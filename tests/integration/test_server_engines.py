"""The real engines with the real model: one contract for both, and what each promises beyond it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.integration.serverproc import ServerProcess, server_process
from tools import model

pytestmark = pytest.mark.slow
together = pytest.mark.asyncio(loop_scope="module")

QUESTION = [{"role": "user", "content": "Name a colour of the sky."}]
WORDS = ["9259", "1902", "506"]
"""Ids of three of Gemma's tokens: Hello, world, the."""
COUNTING = "1, 2, 3, 4, 5, 6, 7, 8,"


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["llamacpp", "transformers"])
async def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ServerProcess]:
    path = model.gguf() if request.param == "llamacpp" else model.safetensors()
    inference = {"batchSize": 4, "maxLength": 500, "precision": "fp32"}
    config = {"model": {"path": str(path), "name": "gemma"}, "inference": inference, "service": {"workers": 2}}
    async with server_process(tmp_path_factory.mktemp(request.param), config) as running:
        running.engine = request.param  # type: ignore[attr-defined]
        yield running
        running.terminate()
        assert await running.exit_code() == 0, "".join(running.lines)


async def chat(server: ServerProcess, **body: Any) -> Any:
    async with server.client() as client:
        return await client.chat.completions.create(**{"model": "gemma", "messages": QUESTION, **body})


async def complete(server: ServerProcess, **body: Any) -> Any:
    async with server.client() as client:
        return await client.completions.create(**{"model": "gemma", "prompt": COUNTING, **body})


async def text(server: ServerProcess, **body: Any) -> str:
    answer: str = (await complete(server, **body)).choices[0].text
    return answer


@together
async def test_it_says_which_engine_it_is(server: ServerProcess) -> None:
    expected = {"llamacpp": "LlamaCpp", "transformers": "Transformers"}[server.engine]  # type: ignore[attr-defined]
    assert (await server.seen("settings"))[0]["engine"] == expected


@together
async def test_greedy_is_the_models_own_continuation_and_repeats(server: ServerProcess) -> None:
    texts = [await text(server, temperature=0, max_tokens=9) for _ in range(3)]
    assert texts[0].startswith(" 9, 10")
    assert len(set(texts)) == 1


@together
async def test_a_chat_streams_what_it_answers_whole(server: ServerProcess) -> None:
    body: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
    whole = await chat(server, **body)
    parts = [part async for part in await stream(server, **body)]
    assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == whole.choices[0].message.content
    assert parts[-1].usage == whole.usage or parts[-1].usage.total_tokens == whole.usage.total_tokens
    assert whole.usage.completion_tokens <= 12


@together
async def test_a_last_message_of_the_assistants_is_answered_and_not_continued(server: ServerProcess) -> None:
    said = {"role": "assistant", "content": "Blue."}
    once, twice, thrice = [
        (await chat(server, messages=[*QUESTION, *[said] * count], max_tokens=1)).usage.prompt_tokens
        for count in range(3)
    ]
    assert twice - once == thrice - twice  # each a whole turn, and the turn that is to be written after it


async def stream(server: ServerProcess, **body: Any) -> AsyncIterator[Any]:
    answer: AsyncIterator[Any] = await server.client().chat.completions.create(
        model="gemma", messages=QUESTION, stream=True, stream_options={"include_usage": True}, **body
    )
    return answer


@together
async def test_seeds_decide_what_is_drawn(server: ServerProcess) -> None:
    def body(seed: int) -> dict[str, Any]:
        return {"prompt": "Once upon a time", "temperature": 1.5, "top_p": 1, "seed": seed, "max_tokens": 8}

    texts = [await text(server, **body(seed)) for seed in (11, 12, 13, 11)]
    assert texts[3] == texts[0]
    assert len(set(texts)) == 3


@together
async def test_requests_together_keep_their_own_sampling(server: ServerProcess) -> None:
    """Batching changes probabilities by a little, so each request here has one possible answer, and not the others'."""
    bodies: list[dict[str, Any]] = [
        {"temperature": 0, "max_tokens": 9},
        *({"temperature": 2, "seed": 5, "max_tokens": 4, "logit_bias": {token: 100}} for token in WORDS),
        {"temperature": 2, "max_tokens": 9, "extra_body": {"top_k": 1}},
    ]
    greedy, *repeated, single = await asyncio.gather(*(text(server, **body) for body in bodies))
    assert greedy.startswith(" 9, 10")
    assert single == greedy
    assert repeated == [
        first * 4 for first in [await text(server, **bodies[i + 1] | {"max_tokens": 1}) for i in range(3)]
    ]
    assert len(set(repeated)) == 3


@together
async def test_stop_ends_before_its_string(server: ServerProcess) -> None:
    answer = await complete(server, temperature=0, max_tokens=30, stop=["12"])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].text.rstrip().endswith("11,")


@together
async def test_what_might_have_become_a_stop_string_is_not_lost(server: ServerProcess) -> None:
    for length in (1, 2, 5):
        whole = await text(server, temperature=0, max_tokens=length)
        assert await text(server, temperature=0, max_tokens=length, stop=[f"{whole[-1]}@@@"]) == whole


@together
async def test_a_schema_without_an_end_ends_its_own_request(server: ServerProcess) -> None:
    node = {"type": "object", "properties": {"next": {"allOf": [{"$ref": "#/$defs/Node"}]}}}
    form = {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"$ref": "#/$defs/Node", "$defs": {"Node": node}}},
    }
    with pytest.raises(openai.BadRequestError) as caught:
        await chat(server, response_format=form)
    assert caught.value.param == "response_format"
    assert await text(server, temperature=0, max_tokens=1)


@together
async def test_a_given_answer_that_cannot_be_drawn_is_no_fault_of_the_servers(server: ServerProcess) -> None:
    for answer in ("a\0b", "a\uffff"):
        if server.engine == "transformers":  # type: ignore[attr-defined]
            assert (await given(server, answer)).choices[0].logprobs.content
            continue
        with pytest.raises(openai.BadRequestError) as caught:
            await given(server, answer)
        assert caught.value.param == "messages"


@together
async def test_a_very_low_top_p_is_greedy(server: ServerProcess) -> None:
    assert await text(server, temperature=1.9, top_p=0.01, seed=3, max_tokens=9) == await text(
        server, temperature=0, max_tokens=9
    )


@together
async def test_top_k_of_one_is_greedy(server: ServerProcess) -> None:
    body: dict[str, Any] = {"temperature": 1.9, "seed": 3, "max_tokens": 9, "extra_body": {"top_k": 1}}
    assert await text(server, **body) == await text(server, temperature=0, max_tokens=9)


@together
async def test_penalties_change_a_greedy_loop(server: ServerProcess) -> None:
    body: dict[str, Any] = {"prompt": "spam spam spam spam spam spam", "temperature": 0, "max_tokens": 12}
    plain, penal = await text(server, **body), await text(server, **body, frequency_penalty=2, presence_penalty=2)
    assert plain.count("spam") > penal.count("spam")


@together
async def test_logprobs_are_of_the_drawn_token(server: ServerProcess) -> None:
    answer = await chat(server, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3)
    entries = answer.choices[0].logprobs.content
    assert len(entries) == answer.usage.completion_tokens
    for entry in entries:
        assert entry.token == entry.top_logprobs[0].token, "greedy draws the likeliest"
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3


async def given(server: ServerProcess, answer: str) -> Any:
    """What the server says of an answer that it is given."""
    messages = [*QUESTION, {"role": "assistant", "content": answer}]
    body: dict[str, Any] = {"messages": messages, "max_tokens": 0, "logprobs": True, "extra_body": {"echo": True}}
    return await chat(server, **body)


@together
async def test_a_given_answer_is_as_likely_as_when_it_was_drawn(server: ServerProcess) -> None:
    drawn = await chat(server, temperature=0, max_tokens=12, logprobs=True, stop="\n")
    answer = drawn.choices[0].message.content
    found = await given(server, answer)
    entries = found.choices[0].logprobs.content
    assert found.choices[0].message.content == answer
    assert [entry.token for entry in entries] == [e.token for e in drawn.choices[0].logprobs.content][: len(entries)]
    for now, then in zip(entries, drawn.choices[0].logprobs.content, strict=False):
        assert now.logprob == pytest.approx(then.logprob, abs=0.05)
    assert found.usage.completion_tokens == 0
    assert found.usage.prompt_tokens == drawn.usage.prompt_tokens + len(entries)


@together
async def test_another_answer_is_less_likely_and_special_tokens_are_text(server: ServerProcess) -> None:
    def mean(found: Any) -> float:
        entries = found.choices[0].logprobs.content
        return float(sum(entry.logprob for entry in entries) / len(entries))

    right, wrong = await given(server, "The sky is blue."), await given(server, "Blue the of is<end_of_turn> sky.")
    assert mean(wrong) < mean(right) < 0
    assert wrong.choices[0].message.content == "Blue the of is<end_of_turn> sky."
    with pytest.raises(openai.BadRequestError) as caught:
        await given(server, "word " * 500)
    assert caught.value.code == "context_length_exceeded"


@together
async def test_a_bias_bans_and_forces_a_token(server: ServerProcess) -> None:
    first = (await complete(server, temperature=0, max_tokens=1)).choices[0].text
    banned = {str(token): -100 for token in range(236743, 236780)}  # the model's blanks and digits
    assert await text(server, temperature=0, max_tokens=1, logit_bias=banned) != first


@together
async def test_n_choices_differ_and_are_counted(server: ServerProcess) -> None:
    answer = await complete(server, prompt="Once", n=3, temperature=1.5, top_p=1, seed=1, max_tokens=6)
    assert len({choice.text for choice in answer.choices}) == 3
    assert answer.usage.completion_tokens == 18


@together
async def test_more_requests_than_slots_are_all_answered(server: ServerProcess) -> None:
    prompts = [f"{start}, {start + 1}, {start + 2}, {start + 3}," for start in range(10, 19)]
    answers = await asyncio.gather(*(text(server, prompt=p, temperature=0, max_tokens=2) for p in prompts))
    assert len(answers) == 9
    assert all(answers)


@together
async def test_a_long_prompt_is_400_with_both_counts(server: ServerProcess) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await complete(server, prompt="word " * 600, max_tokens=1)
    assert caught.value.param == "prompt"
    assert "60" in caught.value.message
    assert "500 tokens" in caught.value.message


@together
async def test_the_context_ends_the_answer_exactly(server: ServerProcess) -> None:
    body = {"ignore_eos": True}
    answer = await complete(server, prompt="word " * 490, max_tokens=40, temperature=0, extra_body=body)
    assert (answer.choices[0].finish_reason, answer.usage.total_tokens) == ("length", 500)


@together
async def test_tokens_are_a_prompt_too(server: ServerProcess) -> None:
    answer = await complete(server, prompt=[2, 9259, 1902], max_tokens=2, temperature=0)
    assert answer.usage.prompt_tokens == 3


@together
async def test_a_token_that_the_model_does_not_know_is_400(server: ServerProcess) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await complete(server, prompt=[2, 10**7], max_tokens=2)
    assert caught.value.param == "prompt"


@together
async def test_hanging_up_frees_the_slot(server: ServerProcess) -> None:
    async with server.client() as client:
        held = await client.completions.create(
            model="gemma", prompt="Once", stream=True, max_tokens=400, extra_body={"ignore_eos": True}
        )
        await anext(aiter(held))
        await held.close()
    answers = await asyncio.gather(*(text(server, temperature=0, max_tokens=2) for _ in range(5)))
    assert all(answers)


@together
async def test_a_json_schema_is_kept_or_refused(server: ServerProcess) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "one", "schema": schema}}
    if server.engine == "transformers":  # type: ignore[attr-defined]
        with pytest.raises(openai.BadRequestError) as caught:
            await chat(server, response_format=form)
        assert caught.value.param == "response_format"
        return
    # The grammar allows white space between the parts, up to about twenty characters each time: room for all of it.
    answer = await chat(server, response_format=form, max_tokens=400)
    assert json.loads(answer.choices[0].message.content)["n"] in (1, 2)


@together
async def test_both_engines_agree_with_transformers_own_generate(server: ServerProcess, tmp_path: Path) -> None:
    """The step-wise batch, left-padded and joined in flight, gives what `generate` gives for one prompt."""
    if server.engine != "transformers":  # type: ignore[attr-defined]
        pytest.skip("llama.cpp computes with the 4-bit weights")
    prompts = ["The capital of France is", "1, 2, 3, 4, 5, 6, 7, 8,", "Water boils at a temperature of about"]
    expected = await asyncio.to_thread(reference, prompts)
    together = await asyncio.gather(*(text(server, prompt=p, temperature=0, max_tokens=10) for p in prompts))
    assert together == expected


def reference(prompts: list[str]) -> list[str]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = model.safetensors()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")
        output = network.generate(**ids, max_new_tokens=10, do_sample=False)
        texts.append(tokenizer.decode(output[0][ids.input_ids.shape[1] :], skip_special_tokens=True))
    return texts


def test_an_adapter_is_merged_into_the_weights(tmp_path: Path) -> None:
    """What is served is base plus adapter: the same logits as PEFT's own, unmerged."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from pilotboat.api.engines import Inference
    from pilotboat_server.engines.base import EngineSettings
    from pilotboat_server.engines.loading import load_model

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model.safetensors(), dtype=torch.float32)
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = get_peft_model(base, lora).eval()
    adapted.save_pretrained(tmp_path)
    inference = Inference.model_validate({"precision": "fp32", "device": "cpu"})
    merged, _ = load_model(EngineSettings(model.safetensors(), inference, 2, lambda error: None, tmp_path))
    tokens = torch.tensor([[2, 9259, 1902]])
    with torch.inference_mode():
        expected, found = adapted(tokens).logits, merged(tokens).logits
        with adapted.disable_adapter():
            plain = adapted(tokens).logits
    assert torch.allclose(found, expected, atol=1e-3)
    assert not torch.allclose(found, plain, atol=1e-1)


@pytest.mark.parametrize(("precision", "wanted"), [("bf16", "BF16"), ("fp16", "F16"), ("fp32", "F32")])
def test_llama_cpp_is_told_the_cache_type_and_the_threads(tmp_path: Path, precision: str, wanted: str) -> None:
    import xllamacpp

    from pilotboat.api.engines import Inference
    from pilotboat_server.engines.base import EngineSettings
    from pilotboat_server.engines.llamacpp import LlamaCppEngine
    from pilotboat_server.engines.recital import Listener

    inference = Inference.model_validate({"precision": precision, "device": "cpu"})
    engine = LlamaCppEngine(EngineSettings(tmp_path / "m.gguf", inference, 3, lambda error: None))
    engine._listener = Listener(tmp_path / "llama.sock", "key")
    told = engine._params(xllamacpp)
    cache = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{wanted}")
    assert (told.cache_type_k, told.cache_type_v) == (cache, cache)
    assert (told.cpuparams.n_threads, told.cpuparams_batch.n_threads) == (3, 3)
    engine.close()
