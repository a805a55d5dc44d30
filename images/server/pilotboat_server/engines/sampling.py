"""Drawing one token from one row of logits, by one request's own parameters and its own random numbers.

Owns the order of what acts: penalties and biases, temperature, top_k, top_p, min_p (transformers' and OpenAI's order).
Must not know: models, batches, text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import NOT_FINITE, EngineFailed
from ..types import Sampling

NUCLEUS = 1024
"""Candidates looked at first for top_p: sorting a vocabulary of 262,144 costs more than the small model's own step."""

UNLIKELIEST = -9999.0
"""In place of minus infinity, which is no JSON: what OpenAI and vLLM say of a token that cannot be."""

Tensor = Any


@dataclass(frozen=True)
class Drawn:
    """A token; where asked for, its logarithmic probability and those of the likeliest, before any parameter acted."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """The state of one request's sampling: its generator, and how often it drew each token."""

    def __init__(self, sampling: Sampling, end_tokens: Sequence[int], vocabulary: int) -> None:
        self._sampling = sampling
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed % 2**63)
        self._counts: Counter[int] = Counter()
        bias = {token: value for token, value in sampling.logit_bias.items() if token < vocabulary}
        if sampling.ignore_eos:
            bias |= dict.fromkeys(end_tokens, -math.inf)
        self._bias = _row(bias)

    def draw(self, logits: Tensor) -> Drawn:
        """The next token; `logits` is one row, which is not changed. Raises EngineFailed where they are no numbers."""
        check(logits)
        scores = self._penalised(logits.float())
        token = int(scores.argmax()) if self._sampling.temperature == 0 else self._random(scores)
        self._counts[token] += 1
        return _with_logprobs(token, logits, self._sampling.logprobs)

    def _penalised(self, scores: Tensor) -> Tensor:
        sampling = self._sampling
        penalties = sampling.presence_penalty or sampling.frequency_penalty
        penal = {
            token: -sampling.presence_penalty - sampling.frequency_penalty * count
            for token, count in (self._counts.items() if penalties else ())
        }
        changes = [_row(penal), self._bias]
        if not any(len(tokens) for tokens, _ in changes):
            return scores
        scores = scores.clone()
        for tokens, values in changes:
            scores[tokens.to(scores.device)] += values.to(scores.device)
        return scores

    def _random(self, scores: Tensor) -> int:
        sampling = self._sampling
        scaled = scores / sampling.temperature
        logprobs, tokens = candidates(scaled, sampling.top_k, sampling.top_p)
        if sampling.min_p > 0:
            keep = logprobs >= logprobs[0] + math.log(sampling.min_p)
            logprobs, tokens = logprobs[keep], tokens[keep]
        choice = torch.multinomial(torch.softmax(logprobs, -1).cpu(), 1, generator=self._generator)
        return int(tokens[int(choice)])


def _row(changes: Mapping[int, float]) -> tuple[Tensor, Tensor]:
    """Tokens, and what is added to their logits: one step for all of them, for every row waits for it."""
    return torch.tensor(list(changes), dtype=torch.long), torch.tensor(list(changes.values()), dtype=torch.float)


class Recital:
    """Draws the tokens of a given answer, whatever the logits say: for their probabilities."""

    def __init__(self, tokens: Sequence[int], logprobs: int | None) -> None:
        self._tokens, self._logprobs = iter(tokens), logprobs

    def draw(self, logits: Tensor) -> Drawn:
        """The answer's next token. Raises EngineFailed where the logits are no numbers."""
        check(logits)
        return _with_logprobs(next(self._tokens), logits, self._logprobs)


def check(logits: Tensor) -> None:
    """Raises EngineFailed for NaN and infinity. Minus infinity is a token that the model rules out, and fine."""
    if not math.isfinite(float(logits.max())):  # the largest is NaN where any is
        raise EngineFailed(
            "The model computes no numbers (NaN or infinity): its weights are damaged, "
            "or inference.precision is too narrow for them.",
            code=NOT_FINITE,
        )


def _with_logprobs(token: int, logits: Tensor, wanted: int | None) -> Drawn:
    if wanted is None:
        return Drawn(token)
    raw = torch.log_softmax(logits.float(), -1)
    top = raw.topk(wanted) if wanted else None
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True) if top else ()
    likeliest = tuple((other, max(logprob, UNLIKELIEST)) for other, logprob in pairs)
    return Drawn(token, max(float(raw[token]), UNLIKELIEST), likeliest)


def candidates(scores: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """Logarithmic probabilities, best first, and their tokens: the top_k likeliest, of these the nucleus of top_p."""
    size = scores.shape[-1]
    if top_k:
        values, tokens = scores.topk(min(top_k, size))
        return _nucleus(torch.log_softmax(values, -1), tokens, top_p)
    if top_p >= 1:
        logprobs, tokens = torch.log_softmax(scores, -1), torch.arange(size, device=scores.device)
        best = int(logprobs.argmax())  # min_p compares with the first
        return _swapped(logprobs, best), _swapped(tokens, best)
    total = scores.logsumexp(-1)
    values, tokens = scores.topk(min(NUCLEUS, size))
    if float((values - total).exp().sum()) < top_p:
        values, tokens = scores.sort(descending=True)
    return _nucleus(values - total, tokens, top_p)


def _swapped(row: Tensor, best: int) -> Tensor:
    row = row.clone()
    row[0], row[best] = row[best].clone(), row[0].clone()
    return row


def _nucleus(logprobs: Tensor, tokens: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The smallest number of the likeliest that together have at least top_p."""
    before = logprobs.exp().cumsum(-1) - logprobs.exp()
    keep = max(1, int((before < top_p).sum()))
    return logprobs[:keep], tokens[:keep]
