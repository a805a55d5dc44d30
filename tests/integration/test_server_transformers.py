"""The Transformers engine over a tiny model: what goes wrong with one request, or with the model, and who is told."""

from __future__ import annotations

import asyncio
import queue
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from pilotboat.api.engines import Inference
from pilotboat.api.runtime import ServerConfig
from pilotboat_server.engines.base import EngineSettings
from pilotboat_server.engines.loading import load_model
from pilotboat_server.engines.sampling import UNLIKELIEST, Drawn, Recital, Sampler
from pilotboat_server.engines.text import Tokenizer
from pilotboat_server.engines.transformers import TransformersEngine
from pilotboat_server.errors import NOT_FINITE, ApiError, BadRequest, EngineFailed, InvalidModel, Unavailable
from pilotboat_server.host import EngineHost
from pilotboat_server.params import COLDEST
from pilotboat_server.types import Delta, Done, Event, Failed, GenerateRequest, Sampling
from standins import tiny

GREEDY = Sampling(temperature=0, top_p=1, max_tokens=4, ignore_eos=True)
INFERENCE = {"precision": "fp32", "device": "cpu", "maxLength": 256, "batchSize": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("tiny"))


def engine_for(path: Path) -> TransformersEngine:
    """Not loaded yet; one that breaks ends no process here."""
    return TransformersEngine(EngineSettings(path, Inference.model_validate(INFERENCE), 1, lambda error: None))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[TransformersEngine]:
    loaded = engine_for(folder)
    loaded.load()
    yield loaded
    loaded.close()


class Asked:
    """One request under way."""

    def __init__(self, engine: TransformersEngine, sampling: Sampling = GREEDY, **request: Any) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        given = GenerateRequest("r", 0.0, sampling, **{"text": "hello", **request})
        self.cancel = engine.submit(given, self._events.put)

    def next(self) -> Event:
        return self._events.get(timeout=60)

    def end(self) -> Done | Failed:
        while not isinstance(event := self.next(), Done | Failed):
            pass
        return event


def error(event: Event) -> ApiError:
    assert isinstance(event, Failed), event
    return ApiError.from_wire(list(event.error))


@pytest.mark.parametrize(
    ("precision", "wanted"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_weights_and_threads_are_as_the_settings_say(folder: Path, precision: str, wanted: torch.dtype) -> None:
    inference = Inference.model_validate(INFERENCE | {"precision": precision})
    loaded, _ = load_model(EngineSettings(folder, inference, 3, lambda error: None))
    assert {weight.dtype for weight in loaded.parameters()} == {wanted}
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)  # as the engine that others here share has it


def test_what_one_row_cannot_draw_ends_that_row_alone(engine: TransformersEngine) -> None:
    """A temperature this low is 0 at the front; whatever else a draw may stumble over is met here like it."""
    beside = Asked(engine, Sampling(0, 1, max_tokens=200, ignore_eos=True))
    while not isinstance(beside.next(), Delta):
        pass
    bad = Asked(engine, Sampling(temperature=1e-40, top_p=1, max_tokens=4)).end()
    assert isinstance(error(bad), EngineFailed)
    assert beside.end() == Done("length", 5, 200)
    assert isinstance(Asked(engine).end(), Done), "and the engine goes on"


def test_a_given_answer_without_tokens_is_the_callers_error(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    shutil.copytree(folder, tmp_path / "strips")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.normalizer = normalizers.Strip()
    tokenizer.save_pretrained(tmp_path / "strips")
    engine = engine_for(tmp_path / "strips")
    engine.load()
    try:
        refused = error(Asked(engine, Sampling(0, 1, logprobs=0), reference="  ").end())
        assert (refused.status, refused.param) == (400, "prompt")
        assert isinstance(Asked(engine).end(), Done)
    finally:
        engine.close()


async def test_a_model_that_computes_no_numbers_never_becomes_ready(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "nan")
    weights = load_file(broken / "model.safetensors")
    norm = next(name for name in weights if name.endswith("model.norm.weight"))
    weights[norm] = weights[norm] * float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    config = ServerConfig.model_validate({"model": {"path": str(broken)}, "inference": INFERENCE})
    host = EngineHost(config, engine_for(broken), time.monotonic(), 300)
    with pytest.raises(InvalidModel, match="no numbers"):
        await host.start()
    assert not (await host.health()).passes("readyz")
    await host.close()


async def test_an_engine_that_breaks_ends_what_ran_and_sends_elsewhere_what_waited(folder: Path) -> None:
    breaks, loop = threading.Event(), asyncio.get_running_loop()

    def at_each_step(*_: Any) -> None:
        if breaks.is_set():
            raise RuntimeError("the device is lost")

    def on_fatal(error: BaseException) -> None:
        loop.call_soon_threadsafe(host.broken, error)

    settings = Inference.model_validate(INFERENCE | {"batchSize": 1})
    config = ServerConfig.model_validate({"model": {"path": str(folder)}, "inference": settings.wire()})
    host = EngineHost(config, TransformersEngine(EngineSettings(folder, settings, 1, on_fatal)), time.monotonic(), 300)
    endless = GenerateRequest("r", 0.0, Sampling(0, 1, ignore_eos=True), text="hello")
    await host.start()
    with torch.nn.modules.module.register_module_forward_pre_hook(at_each_step):
        ran, waited = (asyncio.create_task(drained(host.generate((endless,)))) for _ in range(2))
        while not host.scheduler.waiting:  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.01)
        breaks.set()
        with pytest.raises(EngineFailed):
            await ran
        with pytest.raises(Unavailable):
            await waited


async def drained(events: AsyncIterator[tuple[int, Event]]) -> None:
    async for _ in events:
        pass


def saved(folder: Path, inner: Any, max_length: int = 2**31) -> Tokenizer:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=inner).save_pretrained(folder)
    return Tokenizer(folder, 2**31, max_length)


def of_bytes() -> Any:
    """As GPT-2's, Llama 3's and Qwen's."""
    words = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(["hello world the pilot boat"] * 5, words)
    return inner


def of_blanks() -> Any:
    """As Llama 2's, Mistral's and Gemma's: bytes of what is in no word, and `decode` drops a blank at the start."""
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "h", "e", "l", "o", "▁h", "el", "lo", "▁hel"]
    vocabulary = {name: number for number, name in enumerate([*names, "▁hello"])}
    merges = [("▁", "h"), ("e", "l"), ("l", "o"), ("▁h", "el"), ("▁hel", "lo")]
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    inner.normalizer = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    inner.decoder = decoders.Sequence(steps)
    return inner


@pytest.fixture(scope="module", params=[of_bytes, of_blanks])
def inner(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture(scope="module")
def tokenizer(inner: Any, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return saved(tmp_path_factory.mktemp("tokenizer"), inner)


@pytest.fixture(scope="module")
def short(inner: Any, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Of prompts of fewer than 20 tokens."""
    return saved(tmp_path_factory.mktemp("short"), inner, 20)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), min_size=1))
@example(" hello hello")
@example("h€llo 🙂")
def test_the_bytes_of_an_answers_tokens_are_the_answers(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(GenerateRequest("r", 0.0, GREEDY, text=text))
    said = [entry.chosen for token in tokens for entry in tokenizer.logprobs(Drawn(token, -1.0))]
    assert b"".join(bytes(token.bytes) for token in said) == text.encode()
    assert all(token.token == bytes(token.bytes).decode("utf-8", "replace") for token in said)


@given(st.text(st.sampled_from([" hello", "h", "€", " ", "hello"]).flatmap(st.sampled_from), min_size=1))
@example(" hello" * 19)
@example("hello world the pilot boat" * 3)
def test_a_text_is_refused_unread_only_where_it_has_too_many_tokens(
    tokenizer: Tokenizer, short: Tokenizer, text: str
) -> None:
    prompt = GenerateRequest("r", 0.0, GREEDY, text=text)
    if len(ids := tokenizer.encode(prompt)) < 20:
        assert short.encode(prompt) == ids


@pytest.mark.parametrize("read", [Tokenizer.encode, Tokenizer.encode_reference])
def test_what_can_never_fit_is_refused_unread(
    short: Tokenizer, read: Callable[[Tokenizer, GenerateRequest], list[int]]
) -> None:
    request = GenerateRequest("r", 0.0, GREEDY, text="a" * 500_000, reference="a" * 500_000)
    with pytest.raises(BadRequest, match=r"at least [0-9]{5,} tokens") as caught:
        read(short, request)
    assert (caught.value.param, caught.value.code) == ("prompt", "context_length_exceeded")


def test_where_the_names_say_nothing_the_text_has_to_do(tmp_path: Path) -> None:
    inner = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "say": 1, "##ing": 2}, unk_token="[UNK]"))
    inner.decoder = decoders.WordPiece()
    (entry,) = saved(tmp_path, inner).logprobs(Drawn(1, -1.0))
    assert (entry.chosen.token, bytes(entry.chosen.bytes)) == ("say", b"say")


ROWS = st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=40)


@given(ROWS, st.floats(COLDEST, 2), st.floats(0, 1, exclude_min=True), st.floats(0, 1), st.integers(0, 50))
def test_any_wish_that_the_front_lets_through_draws_a_token(
    row: list[float], temperature: float, top_p: float, min_p: float, top_k: int
) -> None:
    wish = Sampling(temperature, top_p, top_k=top_k, min_p=min_p, logprobs=1)
    drawn = Sampler(wish, [], len(row)).draw(torch.tensor(row))
    assert 0 <= drawn.token < len(row)


@given(ROWS, st.data(), st.sampled_from([float("nan"), float("inf")]))
def test_a_row_that_is_no_numbers_is_never_drawn_from(row: list[float], data: st.DataObject, bad: float) -> None:
    row[data.draw(st.integers(0, len(row) - 1))] = bad
    for drawer in (Sampler(GREEDY, [], len(row)), Recital([0], 1)):
        with pytest.raises(EngineFailed) as caught:
            drawer.draw(torch.tensor(row))
        assert caught.value.code == NOT_FINITE


def test_a_token_that_the_model_rules_out_has_a_probability_that_json_can_say() -> None:
    drawn = Recital([1], 2).draw(torch.tensor([0.0, float("-inf")]))
    assert (drawn.logprob, drawn.top) == (UNLIKELIEST, ((0, 0.0), (1, UNLIKELIEST)))


def test_a_bias_of_the_whole_vocabulary_costs_one_step() -> None:
    vocabulary = 200_000
    bias = {token: -float(token % 7) for token in range(1, vocabulary)}
    sampler = Sampler(Sampling(0, 1, logit_bias=bias, frequency_penalty=1), (), vocabulary)
    row = torch.zeros(vocabulary)
    began = time.process_time()
    drawn = [sampler.draw(row).token for _ in range(5)]
    assert time.process_time() - began < 2, "token by token it takes seconds a row"
    assert sorted(drawn) == [0, 7, 14, 21, 28]
