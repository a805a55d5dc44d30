"""The llama.cpp engine: GGUF files on CPU or GPU, with llama.cpp's own continuous batching (through xllamacpp).

Owns the translation of a request into llama.cpp's server request and of its chunks into events. llama.cpp's HTTP
listener cannot be switched off; it is put on a socket in a private folder, behind a random key, and only tokenises.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pilotboat.api.engines import Precision

from ..errors import NOT_FINITE, ApiError, BadRequest, EngineFailed, InvalidModel, UnsupportedSetting
from ..stops import StopMatcher
from ..types import Capabilities, Delta, Done, FinishReason, GenerateRequest, Prefill, TokenLogprob, TopToken
from .base import Cancel, Emit, EngineSettings, failed, no_reference, on_gpu, prompt_field, room, too_long
from .recital import Listener, exactly

PARAMETERS = frozenset(
    {"seed", "presence_penalty", "frequency_penalty", "logprobs", "logit_bias", "top_k", "min_p", "ignore_eos", "echo"}
)
FORMATS = frozenset({"text", "json_object", "json_schema"})
SAMPLERS = ["penalties", "temperature", "top_k", "top_p", "min_p"]
"""OpenAI's and transformers' order: top_p acts on probabilities that temperature has already shaped."""
CACHE_TYPES = {
    Precision.BF16: "GGML_TYPE_BF16",
    Precision.FP16: "GGML_TYPE_F16",
    Precision.FP32: "GGML_TYPE_F32",
}
RANDOM_SEED = 0xFFFFFFFF
NO_WAY_ON = "empty grammar stack"
"""In llama.cpp's words, where the grammar of a given answer lets none of its tokens through."""
CHECKPOINTS = 4
"""Copies of a sliding window kept for each slot; llama.cpp's default of 32 can take more memory than the weights."""

NO_GPU = (
    "llama.cpp sees no GPU: PyPI's build is for CPUs; take an image (engine.image) whose llama.cpp is built for GPUs, "
    "serve safetensors"
)


class LlamaCppEngine:
    """One llama.cpp server in this process; a thread of ours waits on each running request."""

    def __init__(self, settings: EngineSettings) -> None:
        if settings.adapter is not None:
            raise UnsupportedSetting(
                "model.adapter: LlamaCpp cannot apply a PEFT adapter; serve the base as safetensors with Transformers"
            )
        self._settings = settings
        self.slots = settings.inference.batch_size
        self.capabilities = Capabilities("llamacpp", PARAMETERS, FORMATS)
        self._server: Any = None
        self._listener: Listener  # known once the model is loaded
        self._cleanup = ExitStack()
        self._threads = ThreadPoolExecutor(self.slots, thread_name_prefix="llamacpp")

    def load(self) -> None:
        """Load the file; llama.cpp's own warm-up run is part of it."""
        import xllamacpp

        folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="pilotboat-llamacpp-"))
        self._listener = Listener(Path(folder) / "llama.sock", secrets.token_hex(16))
        params = self._params(xllamacpp)
        try:
            self._server = xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            raise InvalidModel(
                f"llama.cpp cannot load {self._settings.path}: it is cut off, damaged, or of a kind not known; "
                f"the lines above say which ({error})"
            ) from error

    def close(self) -> None:
        """Stops llama.cpp's threads and removes its socket."""
        self._threads.shutdown()
        self._server = None
        self._cleanup.close()

    def submit(self, request: GenerateRequest, emit: Emit) -> Cancel:
        """llama.cpp calls back from the thread that waits; it is told to stop by the callback's answer."""
        call = Call(request, emit, self._settings.inference.max_length)
        self._threads.submit(self._run, call)
        return call.cancelled.set

    def _run(self, call: Call) -> None:
        request = call.request
        handle = self._server.handle_completions if request.messages is None else self._server.handle_chat_completions
        try:
            wish = body(request, self._settings.inference.max_length)
            if request.reference is not None:
                given = self._listener.tokens(request.reference)
                if not given:
                    raise no_reference(request)
                wish |= {"grammar": exactly(given), "max_tokens": len(given)}
                call.given = len(given)
            handle(wish, call.on_chunk)
            call.finish()
        except ApiError as error:
            call.emit(failed(error))
        except ValueError as error:  # llama.cpp refuses what it parses before it starts: a schema, a template's wish
            call.emit(failed(BadRequest(str(error), _refused_field(request))))
        except Exception as error:  # whatever else the C++ side throws must not leave the caller waiting
            call.emit(failed(EngineFailed(f"llama.cpp: {error}")))

    def _params(self, xllamacpp: Any) -> Any:
        """Every setting, and nothing that grows without bound in a pod with a memory limit."""
        inference = self._settings.inference
        params = xllamacpp.CommonParams()
        params.model.path = str(self._settings.path)
        params.n_parallel = self.slots
        params.n_ctx = inference.max_length * self.slots
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._settings.threads
        params.cache_type_k = params.cache_type_v = getattr(xllamacpp.ggml_type, CACHE_TYPES[inference.precision])
        params.cache_ram_mib = 0
        params.n_ctx_checkpoints = CHECKPOINTS
        params.verbosity = 1
        params.hostnames = [str(self._listener.path)]
        params.api_keys = [self._listener.key]
        params.n_threads_http = 1
        # A last message of the assistant's is over: OpenAI answers it with another.
        params.ui = params.endpoint_slots = params.prefill_assistant = False
        template = self._settings.path.with_name("chat_template.jinja")
        if template.is_file():
            params.chat_template = template.read_text(encoding="utf-8")
        self._place(xllamacpp, params)
        return params

    def _place(self, xllamacpp: Any, params: Any) -> None:
        """CPU: no layer leaves it. GPU: llama.cpp fits as many layers as gpuMemoryFraction leaves room for."""
        kind = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_GPU
        gpus = [device for device in xllamacpp.get_device_info() if device["type"] == kind]
        if not on_gpu(self._settings, bool(gpus), NO_GPU):
            params.n_gpu_layers = 0
            params.fit_params = False
            return
        params.fit_params = True
        fraction = self._settings.inference.gpu_memory_fraction
        params.fit_params_target = [max(0, int(gpu["memory_free"] - fraction * gpu["memory_total"])) for gpu in gpus]


def body(request: GenerateRequest, max_length: int) -> dict[str, Any]:
    """llama.cpp's server request."""
    sampling = request.sampling
    data: dict[str, Any] = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        "timings_per_token": True,
        "reasoning_format": "none",
        "samplers": SAMPLERS,
        "max_tokens": room(request, 1, max_length),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k if sampling.temperature > 0 else 1,  # greedy: no need to sort the vocabulary
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repeat_last_n": max_length,
        "seed": RANDOM_SEED if sampling.seed is None else sampling.seed % RANDOM_SEED,
        "logit_bias": [[token, bias] for token, bias in sampling.logit_bias.items()],
        "ignore_eos": sampling.ignore_eos,
    }
    if request.messages is not None:
        data["messages"] = [dict(message) for message in request.messages]
    else:
        data["prompt"] = request.text if request.text is not None else list(request.tokens or ())
    if sampling.response_format is not None:
        data["response_format"] = dict(sampling.response_format)
    return data | _logprobs_wish(request)


def _logprobs_wish(request: GenerateRequest) -> dict[str, Any]:
    wanted = request.sampling.logprobs
    if wanted is None:
        return {}
    if request.messages is None:
        return {"logprobs": max(1, wanted)}
    return {"logprobs": True, "top_logprobs": max(1, wanted)}


class Call:
    """One running request: turns llama.cpp's chunks into events.

    Stop strings are sought here: llama.cpp never tells what it holds back for one when max_tokens ends the answer.
    """

    def __init__(self, request: GenerateRequest, emit: Emit, max_length: int) -> None:
        self.request = request
        self.emit = emit
        self.cancelled = threading.Event()
        self.given: int | None = None
        """Tokens of the given answer, which count as the caller's."""
        self._max_length = max_length
        self._matcher = StopMatcher(request.sampling.stop)
        self._end: FinishReason | None = None
        self._error: ApiError | None = None
        self._stop = False
        self._prompt = self._tokens = self._unsent = self._cached = 0

    def on_chunk(self, chunk: dict[str, Any]) -> bool:
        """Called for every chunk; True tells llama.cpp to stop."""
        if self.cancelled.is_set():
            self._end, self._stop = "cancelled", True
        elif "error" in chunk:
            self._fail(self._translate(chunk["error"]))
        elif "prompt_progress" in chunk:
            self._on_progress(chunk["prompt_progress"])
        else:
            self._on_text(chunk)
        return self._stop

    def finish(self) -> None:
        """The last event, once llama.cpp has let go of the request."""
        if self._error is None and self._end != "cancelled" and (rest := self._matcher.flush()):
            self._send(rest, ())
        if self._error is not None:
            self.emit(failed(self._error))
        elif self._end is None:
            self.emit(failed(EngineFailed("llama.cpp ended the answer without a reason")))
        elif self.given is None or self._end == "cancelled":
            self.emit(Done(self._end, self._prompt, self._tokens, self._cached))
        elif self._tokens != self.given:
            self.emit(failed(EngineFailed(f"llama.cpp ended after {self._tokens} of {self.given} given tokens")))
        else:
            self.emit(Done(self._end, self._prompt + self.given, 0, self._cached))

    def _fail(self, error: ApiError) -> None:
        self._error, self._stop = error, True

    def _on_progress(self, progress: dict[str, int]) -> None:
        total = progress["total"] + (self.given or 0)
        if total >= self._max_length:  # llama.cpp rounds its context up, so this is ours to see
            return self._fail(too_long(self.request, total, self._max_length))
        self._prompt, self._cached = progress["total"], progress["cache"]
        self.emit(Prefill(total))

    def _on_text(self, chunk: dict[str, Any]) -> None:
        self._count(chunk)
        for choice in chunk.get("choices", ()):
            text = self._matcher.feed(choice.get("text") or choice.get("delta", {}).get("content") or "")
            entries = _logprobs(choice, self.request)
            if any(entry.chosen.logprob is None for entry in entries):  # null is C++'s JSON for NaN
                return self._fail(EngineFailed("llama.cpp: the model computes no numbers", code=NOT_FINITE))
            if text or entries:
                self._send(text, entries)
            self._end = choice.get("finish_reason") or self._end
        if self._matcher.stopped:
            self._end, self._stop = "stop", True
        if usage := chunk.get("usage"):
            self._prompt, self._tokens = usage["prompt_tokens"], usage["completion_tokens"]
            self._cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)

    def _send(self, text: str, entries: tuple[TokenLogprob, ...]) -> None:
        self.emit(Delta(text, self._unsent if self.given is None else 0, entries))
        self._unsent = 0

    def _count(self, chunk: dict[str, Any]) -> None:
        """Tokens since the last text: it can be held back, so that a chunk stands for none or for several."""
        total: int = chunk.get("timings", {}).get("predicted_n", self._tokens)
        self._unsent += total - self._tokens
        self._tokens = total
        if self._prompt + self._tokens >= self._max_length:
            self._end, self._stop = "length", True

    def _translate(self, error: dict[str, Any]) -> ApiError:
        message = str(error.get("message", "unknown error"))
        if error.get("type") == "exceed_context_size_error":
            return too_long(self.request, int(error.get("n_prompt_tokens", 0)), self._max_length)
        if int(error.get("code", 500)) == 400:
            return BadRequest(message, _refused_field(self.request))
        if self.given is not None and NO_WAY_ON in message:
            return BadRequest(
                "The given answer has a character that llama.cpp draws under no grammar: "
                "NUL, or one that this model spells in several tokens.",
                prompt_field(self.request),
            )
        return EngineFailed(f"llama.cpp: {message}")


def _refused_field(request: GenerateRequest) -> str:
    """What llama.cpp's word of a bad request is about: a schema where there is one, for it says no more."""
    return "response_format" if request.sampling.response_format else prompt_field(request)


def _logprobs(choice: dict[str, Any], request: GenerateRequest) -> tuple[TokenLogprob, ...]:
    wanted = request.sampling.logprobs
    content = (choice.get("logprobs") or {}).get("content") or ()
    if wanted is None:
        return ()
    return tuple(TokenLogprob(_top(entry), tuple(map(_top, entry["top_logprobs"][:wanted]))) for entry in content)


def _top(entry: dict[str, Any]) -> TopToken:
    return TopToken(entry["token"], entry["logprob"], tuple(entry["bytes"]))
