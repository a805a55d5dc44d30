"""The fake engine: fixed words at a set pace, no model. For contract tests and rehearsals of rollouts.

The answer depends on the prompt and, where temperature is above 0, on the seed, and on nothing else. A prompt may hold
directives, `fake:tokens=50`, `fake:delay=0.01` (seconds a token), `fake:first=0.5` (seconds before the first token) and
`fake:fail=3` (break after so many tokens); `engine.fake` sets them for every prompt, and which requests go wrong.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import random
import re
import threading
from collections.abc import Iterator
from typing import Literal, NoReturn

from pilotboat.api.engines import FakeBehaviour

from ..errors import EngineFailed
from ..stops import StopMatcher
from ..types import Capabilities, Delta, Done, GenerateRequest, Prefill, TokenLogprob, TopToken
from .base import Cancel, Emit, EngineSettings, failed, no_reference, room, too_long

TEXT = "the pilot boat meets every ship beyond the bar and brings it safely into port before the tide turns"
PARAMETERS = frozenset({"seed", "logprobs", "echo"})
KNOWN, STRANGE = -0.5, -3.0
"""Logarithmic probabilities: of a word of its own, and of any other in a given answer."""
DIRECTIVE = re.compile(r"fake:(tokens|delay|first|fail)=(\d+(?:\.\d+)?)")
ANSWER_TOKENS = 16
Fate = Literal["answer", "fail", "hang"]


def fate(number: int, fail: float, hang: float) -> Fate:
    """What becomes of a request: of any number of them the shares are as exact as whole numbers can be.

    Number 0 is the server's own warm-up and is answered.
    """
    bad = _whole(number, fail + hang)
    if bad == _whole(number - 1, fail + hang) or not number:
        return "answer"
    share = fail / (fail + hang)
    return "fail" if _whole(bad, share) > _whole(bad - 1, share) else "hang"


def _whole(count: int, share: float) -> int:
    return math.floor(round(count * share, 6))


class FakeEngine:
    """Emits words from a thread of its own for each request."""

    def __init__(self, settings: EngineSettings) -> None:
        self._max_length = settings.inference.max_length
        self.slots = settings.inference.batch_size
        self.capabilities = Capabilities("fake", PARAMETERS)
        self._told = settings.fake or FakeBehaviour()
        self._words = (self._told.text or TEXT).split()
        self._numbers = itertools.count()

    def load(self) -> None:
        """Nothing to load; it may have been told to die here."""
        if self._told.exit_after == 0:
            _crash()

    def close(self) -> None:
        """Nothing to give back."""

    def submit(self, request: GenerateRequest, emit: Emit) -> Cancel:
        """A thread a request, which ends soon after it is cancelled."""
        cancelled, number = threading.Event(), next(self._numbers)
        if self._told.exit_after is not None and number > self._told.exit_after:
            _crash()
        run = threading.Thread(target=self._run_safely, args=(request, emit, cancelled, number), daemon=True)
        run.start()
        return cancelled.set

    def _run_safely(self, request: GenerateRequest, emit: Emit, cancelled: threading.Event, number: int) -> None:
        try:
            self._run(request, emit, cancelled, number)
        except Exception as error:  # nobody sees this thread end, and its slot would never be free
            emit(failed(EngineFailed(f"the fake engine broke: {type(error).__name__}")))

    def _run(self, request: GenerateRequest, emit: Emit, cancelled: threading.Event, number: int) -> None:
        prompt = _prompt(request)
        length = len(prompt.split()) or 1
        if length >= self._max_length:
            return emit(failed(too_long(request, length, self._max_length)))
        emit(Prefill(length))
        match fate(number, self._told.fail_ratio or 0, self._told.hang_ratio or 0):
            case "fail":
                return emit(failed(EngineFailed("the fake engine was told to fail this request")))
            case "hang":
                cancelled.wait()
                return emit(Done("cancelled", length, 0))
        if request.reference is not None:
            return self._recite(request.reference, request, length, emit)
        self._answer(request, emit, cancelled, random.Random(number))

    def _answer(self, request: GenerateRequest, emit: Emit, cancelled: threading.Event, draw: random.Random) -> None:
        prompt = _prompt(request)
        length = len(prompt.split()) or 1
        wishes, sigma = self._wishes(prompt), self._told.jitter or 0
        matcher, sent, end = StopMatcher(request.sampling.stop), 0, int(wishes["tokens"])
        limit = room(request, length, self._max_length)
        cancelled.wait(wishes["first"] * draw.lognormvariate(0, sigma))
        for word in _words(prompt, request, self._words):
            if cancelled.wait(wishes["delay"] * draw.lognormvariate(0, sigma)):
                return emit(Done("cancelled", length, sent))
            if sent == wishes.get("fail"):
                return emit(failed(EngineFailed("the fake engine was told to fail")))
            if matcher.stopped or sent >= min(end, limit):
                break
            sent += 1
            emit(Delta(matcher.feed(word), 1, _logprobs(word, request)))
        if rest := matcher.flush():
            emit(Delta(rest, 0))
        emit(Done("stop" if matcher.stopped or sent >= end else "length", length, sent))

    def _recite(self, reference: str, request: GenerateRequest, length: int, emit: Emit) -> None:
        words = re.findall(r"\s*\S+", reference)
        if not words:
            return emit(failed(no_reference(request)))
        whole = length + len(words)
        if whole >= self._max_length:
            return emit(failed(too_long(request, whole, self._max_length)))
        for word in words:
            known = KNOWN if word.strip() in self._words else STRANGE
            emit(Delta(word, 0, _logprobs(word, request, known)))
        emit(Done("length", whole, 0))

    def _wishes(self, prompt: str) -> dict[str, float]:
        told = self._told
        wishes = {"tokens": told.tokens or ANSWER_TOKENS, "delay": told.delay or 0, "first": told.first or 0}
        return wishes | {name: float(value) for name, value in DIRECTIVE.findall(prompt)}


def _crash() -> NoReturn:
    """As native code does it: no report, no farewell, whatever else is under way."""
    os._exit(1)


def _prompt(request: GenerateRequest) -> str:
    if request.messages is not None:
        return "\n".join(message["content"] for message in request.messages)
    return request.text if request.text is not None else " ".join(map(str, request.tokens or ()))


def _words(prompt: str, request: GenerateRequest, words: list[str]) -> Iterator[str]:
    """Endless words; drawn at random where temperature is above 0, in their own order where it is 0."""
    start = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big")
    seed = request.sampling.seed if request.sampling.seed is not None else random.getrandbits(32)
    draw = random.Random(f"{start} {seed} {request.sampling.temperature}")
    at = start % len(words)
    while True:
        yield words[at] + " "
        at = draw.randrange(len(words)) if request.sampling.temperature > 0 else (at + 1) % len(words)


def _logprobs(word: str, request: GenerateRequest, own: float = KNOWN) -> tuple[TokenLogprob, ...]:
    if request.sampling.logprobs is None:
        return ()
    others = [TopToken(f"{word}{rank}", -1.0 - rank, tuple(f"{word}{rank}".encode())) for rank in range(1, 20)]
    chosen = TopToken(word, own, tuple(word.encode()))
    return (TokenLogprob(chosen, (chosen, *others)[: request.sampling.logprobs]),)
