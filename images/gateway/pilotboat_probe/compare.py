"""How alike the greedy answers of two runs are. Pure.

Owns: the measures, and which differences are shown. Must not know: who answered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile

from pilotboat.api.probing import Agreement, Difference, PerplexityResult, Reference

from .client import Answer

Pair = tuple[Answer | None, Answer | None]
MAX_EXAMPLES = 3
CONTEXT = 30
"""Characters shown of where two answers are still the same."""
MAX_WORST = 80
"""Characters shown of a prompt."""
IMPOSSIBLE = -50.0
"""The least that a logarithmic probability counts as."""
BROKEN = Answer("", (), ())
"""Of a version whose engine fails at the tokens that were given: it holds none of them likely."""


@dataclass(frozen=True)
class _Told:
    """A reference that both know: logarithmic probabilities of the whole answer, and its tokens as stable counts."""

    prompt: str
    stable: float
    canary: float
    tokens: int
    broken: bool
    """The canary's engine failed at it."""

    @property
    def gap(self) -> float:
        """By how much less likely the canary holds it, a token."""
        return round((self.stable - self.canary) / self.tokens, 4)


def agreement(pairs: Iterable[Pair]) -> Agreement:
    """Of the prompts that both answered, and how many only the first did."""
    pairs = list(pairs)
    both = [(one, other) for one, other in pairs if one is not None and other is not None]
    scores = [score for one, other in both for score in _scored(one, other)]
    return Agreement(
        answered=len(both),
        unanswered=sum(one is not None and other is None for one, other in pairs),
        exact=sum(one.text == other.text for one, other in both),
        prefix=_mean([_prefix(one, other) for one, other in both]) or 0.0,
        similarity=_mean([_similarity(one, other) for one, other in both]) or 0.0,
        log_likelihood=_mean(scores),
        compared_tokens=len(scores),
    )


def likeness(references: Sequence[Reference], pairs: Sequence[Pair]) -> PerplexityResult:
    """How likely stable and canary hold given answers, of those that both were asked about.

    Where their tokens are not the same, both are measured by the number of stable's, and an answer counts as no less
    likely than were each of these impossible.
    """
    known = [told for reference, pair in zip(references, pairs, strict=True) if (told := _told(reference, pair))]
    tokens = sum(each.tokens for each in known)
    return PerplexityResult(
        references=len(references),
        stable=_perplexity(sum(each.stable for each in known), tokens),
        canary=_perplexity(sum(each.canary for each in known), tokens),
        gaps=[each.gap for each in known],
        canary_failed=sum(each.broken for each in known),
        worst=max(((each.gap, each.prompt) for each in known), default=(0.0, ""))[1][:MAX_WORST],
    )


def examples(prompts: Sequence[str], pairs: Sequence[Pair]) -> list[Difference]:
    """The answers that part the earliest, from shortly before they do."""
    parted = [(prompt, *pair) for prompt, pair in zip(prompts, pairs, strict=True) if all(pair)]
    found = [(_common(one.text, other.text), prompt, one, other) for prompt, one, other in parted if one and other]
    unlike = sorted((entry for entry in found if entry[2].text != entry[3].text), key=lambda entry: entry[0])
    return [
        Difference(prompt=prompt, stable=_from(one.text, at), canary=_from(other.text, at))
        for at, prompt, one, other in unlike[:MAX_EXAMPLES]
    ]


def _from(text: str, at: int) -> str:
    start = max(at - CONTEXT, 0)
    return ("…" if start else "") + text[start:]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _prefix(one: Answer, other: Answer) -> float:
    if one.text == other.text:  # the same text, though one of the two may have been cut into words for want of tokens
        return 1.0
    one_tokens, other_tokens = _comparable(one, other)
    return _common(one_tokens, other_tokens) / max(len(one_tokens), len(other_tokens), 1)


def _similarity(one: Answer, other: Answer) -> float:
    if one.text == other.text:
        return 1.0
    return SequenceMatcher(None, *_comparable(one, other), autojunk=False).ratio()


def _comparable(one: Answer, other: Answer) -> tuple[Sequence[str], Sequence[str]]:
    """Tokens where both have them, else words of both."""
    if (one.logprobs is None) == (other.logprobs is None):
        return one.tokens, other.tokens
    return one.text.split(), other.text.split()


def _scored(one: Answer, other: Answer) -> list[float]:
    """Differences of log-probabilities over the common beginning: the same tokens after the same text."""
    if one.logprobs is None or other.logprobs is None:
        return []
    shared = _common(one.tokens, other.tokens)
    pairs = zip(one.logprobs[:shared], other.logprobs[:shared], strict=True)
    return [after - before for before, after in pairs if math.isfinite(after) and math.isfinite(before)]


def _told(reference: Reference, pair: Pair) -> _Told | None:
    stable, canary = pair
    if stable is None or canary is None or not stable.logprobs or not (canary.logprobs or canary is BROKEN):
        return None
    tokens, broken = len(stable.logprobs), canary is BROKEN
    worst = IMPOSSIBLE * tokens
    scored = worst if broken else max(_sum(canary.logprobs or ()), worst)
    return _Told(reference.prompt, _sum(stable.logprobs), scored, tokens, broken)


def _sum(logprobs: Sequence[float]) -> float:
    return sum(map(_counted, logprobs))


def _counted(logprob: float) -> float:
    """A token that is called impossible is only very unlikely: one of them must not decide alone. So is one of which
    no number is told, as by weights that were broken (NaN)."""
    return min(logprob, 0.0) if IMPOSSIBLE < logprob < math.inf else IMPOSSIBLE


def _perplexity(total: float, tokens: int) -> float | None:
    return round(math.exp(-total / tokens), 4) if tokens else None


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
