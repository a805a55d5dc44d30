"""The transformers engine: safetensors on CPU or CUDA, requests batched step by step, each with its own sampling.

Owns the loop that prefills, decodes and emits; one thread, so the model and its cache need no locks. A PEFT adapter is
merged into the weights at load. Must not know: how a step is computed (`batch`) or a token is drawn (`sampling`).
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from typing import Any

from pilotboat.api.engines import Device

from ..errors import ApiError, EngineFailed, UnsupportedSetting
from ..stops import StopMatcher
from ..types import Capabilities, Delta, Done, FinishReason, GenerateRequest, Prefill, TokenLogprob
from .base import Cancel, Emit, EngineSettings, failed, room, too_long

PARAMETERS = frozenset(
    {"seed", "presence_penalty", "frequency_penalty", "logprobs", "logit_bias", "top_k", "min_p", "ignore_eos", "echo"}
)
PREFILL_TOKENS = 512
"""Tokens of a prompt read between two steps of the others: a long prompt then slows them, and does not stop them."""


@dataclass(eq=False)
class _Sequence:
    """One request on its way."""

    request: GenerateRequest
    emit: Emit
    cancelled: threading.Event = field(default_factory=threading.Event)
    prompt: list[int] = field(default_factory=list)
    read: int = 0
    """Prompt tokens in the cache."""
    cache: Any = None
    sampler: Any = None
    text: Any = None
    matcher: StopMatcher = field(default_factory=lambda: StopMatcher(()))
    last: int = 0
    """The token drawn last."""
    drawn: int = 0
    unsent: int = 0
    """Tokens whose text is still held back."""
    limit: int = 0

    @property
    def given(self) -> bool:
        """Its tokens are those of a given answer, and count as the caller's."""
        return self.request.reference is not None

    def send(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        """What has come since the last time."""
        self.emit(Delta(text, 0 if self.given else self.unsent, logprobs))
        self.unsent = 0

    def done(self, reason: FinishReason) -> None:
        """Send what was held back, and the end."""
        if reason != "cancelled" and not self.matcher.stopped:
            rest = self.matcher.feed(self.text.flush()) + self.matcher.flush()
            if rest or self.unsent:
                self.send(rest)
        own = 0 if self.given else self.drawn
        self.emit(Done(reason, len(self.prompt) + self.drawn - own, own))


class TransformersEngine:
    """One model, one loop."""

    def __init__(self, settings: EngineSettings) -> None:
        if settings.gpus > 1 and settings.inference.device is not Device.CPU:
            raise UnsupportedSetting(
                f"gpu.count: {settings.gpus} were asked for and Transformers computes on one GPU: set it to 1"
            )
        self._settings = settings
        self.slots = settings.inference.batch_size
        self.capabilities = Capabilities("transformers", PARAMETERS)
        self._inbox: queue.SimpleQueue[_Sequence | None] = queue.SimpleQueue()
        self._prefilling: list[_Sequence] = []
        self._rows: list[_Sequence] = []
        self._batch: Any = None
        self._tokenizer: Any = None
        self._end_tokens: frozenset[int] = frozenset()
        self._vocabulary = 0
        self._thread = threading.Thread(target=self._loop, name="transformers", daemon=True)

    def load(self) -> None:
        """Load weights and tokenizer, merge the adapter, start the loop."""
        from .batch import Batch
        from .loading import load_model
        from .text import Tokenizer

        model, device = load_model(self._settings)
        self._vocabulary = model.get_input_embeddings().weight.shape[0]
        self._tokenizer = Tokenizer(self._settings.path, self._vocabulary, self._settings.inference.max_length)
        ends = model.generation_config.eos_token_id
        known = ends if isinstance(ends, list) else [ends]
        self._end_tokens = frozenset(token for token in [*known, self._tokenizer.end_token] if token is not None)
        self._batch = Batch(model, device)
        self._thread.start()

    def close(self) -> None:
        """End the loop."""
        self._inbox.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, request: GenerateRequest, emit: Emit) -> Cancel:
        """The loop takes it up before its next step."""
        sequence = _Sequence(request, emit)
        self._inbox.put(sequence)
        return sequence.cancelled.set

    def _loop(self) -> None:
        try:
            while self._take_in():
                self._prefill()
                self._decode()
        except BaseException as error:  # nobody else sees this thread's errors: whoever waits must hear of it
            self._settings.on_fatal(error)
            for sequence in [*self._prefilling, *self._rows]:
                sequence.emit(failed(EngineFailed(f"the engine broke: {type(error).__name__}")))

    def _take_in(self) -> bool:
        """New requests; waits for one where there is nothing else to do. False: the loop is over."""
        idle = not self._prefilling and not self._rows
        while idle or not self._inbox.empty():
            sequence = self._inbox.get()
            if sequence is None:
                return False
            idle = not self._begin(sequence) and not self._prefilling and not self._rows
        return True

    def _begin(self, sequence: _Sequence) -> bool:
        """Tokenise; a request that cannot be answered ends here."""
        from .sampling import Recital, Sampler
        from .text import Detokenizer

        try:
            sequence.prompt = self._tokenizer.encode(sequence.request)
            reference = self._tokenizer.encode_reference(sequence.request)
            whole = len(sequence.prompt) + len(reference)
            if whole >= self._settings.inference.max_length:
                raise too_long(sequence.request, whole, self._settings.inference.max_length)
        except ApiError as error:
            sequence.emit(failed(error))
            return False
        except Exception as error:  # one prompt that a tokenizer chokes on must not end the engine
            sequence.emit(failed(EngineFailed(f"the prompt cannot be tokenised: {type(error).__name__}")))
            return False
        sampling = sequence.request.sampling
        if sequence.given:
            sequence.limit, sequence.sampler = len(reference), Recital(reference, sampling.logprobs)
        else:
            sequence.limit = room(sequence.request, len(sequence.prompt), self._settings.inference.max_length)
            sequence.sampler = Sampler(sampling, sorted(self._end_tokens), self._vocabulary)
        sequence.text = Detokenizer(self._tokenizer)
        sequence.matcher = StopMatcher(sampling.stop)
        sequence.cache = self._batch.new_cache()
        self._prefilling.append(sequence)
        return True

    def _prefill(self) -> None:
        """One piece of the prompt that came first."""
        if not self._prefilling:
            return
        sequence = self._prefilling[0]
        if sequence.cancelled.is_set():
            self._prefilling.remove(sequence)
            return sequence.done("cancelled")
        piece = sequence.prompt[sequence.read : sequence.read + PREFILL_TOKENS]
        logits = self._batch.prefill(sequence.cache, piece)
        sequence.read += len(piece)
        sequence.emit(Prefill(len(sequence.prompt)))
        if sequence.read == len(sequence.prompt):
            self._prefilling.remove(sequence)
            if not self._draw(sequence, logits):
                self._batch.join(sequence.cache)
                self._rows.append(sequence)
            sequence.cache = None

    def _decode(self) -> None:
        """One token for every row."""
        self._drop([row for row, sequence in enumerate(self._rows) if self._is_cancelled(sequence)])
        if not self._rows:
            return
        logits = self._batch.step([sequence.last for sequence in self._rows])
        self._drop([row for row, sequence in enumerate(self._rows) if self._draw(sequence, logits[row])])

    def _drop(self, rows: list[int]) -> None:
        self._batch.leave(rows)
        self._rows = [sequence for row, sequence in enumerate(self._rows) if row not in rows]

    def _is_cancelled(self, sequence: _Sequence) -> bool:
        if sequence.cancelled.is_set():
            sequence.done("cancelled")
            return True
        return False

    def _draw(self, sequence: _Sequence, logits: Any) -> bool:
        """The next token of one row; True where it was the last. What goes wrong here is this row's alone."""
        try:
            return self._next(sequence, logits)
        except ApiError as error:
            sequence.emit(failed(error))
        except Exception as error:  # the rows beside it are well
            sequence.emit(failed(EngineFailed(f"no token could be drawn: {type(error).__name__}")))
        return True

    def _next(self, sequence: _Sequence, logits: Any) -> bool:
        drawn = sequence.sampler.draw(logits)
        sequence.last = drawn.token
        sequence.drawn += 1
        if drawn.token in self._end_tokens and not sequence.request.sampling.ignore_eos and not sequence.given:
            sequence.done("stop")
            return True
        sequence.unsent += 1
        text = sequence.matcher.feed(sequence.text.add(drawn.token))
        logprobs = self._tokenizer.logprobs(drawn)
        if text or logprobs:
            sequence.send(text, logprobs)
        if sequence.matcher.stopped or sequence.drawn >= sequence.limit:
            sequence.done("stop" if sequence.matcher.stopped else "length")
            return True
        return False
