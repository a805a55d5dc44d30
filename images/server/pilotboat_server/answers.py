"""From events to OpenAI's response bodies and stream chunks. Must not know: HTTP, the scheduler, engines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .params import Work
from .types import Delta, Done, TokenLogprob, TopToken

Json = dict[str, Any]


@dataclass
class Choice:
    """One answer as it grows."""

    parts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    done: Done | None = None

    def add(self, delta: Delta) -> None:
        """More text."""
        self.parts.append(delta.text)
        self.logprobs.extend(delta.logprobs)


class Answer:
    """The response to one HTTP request: whole, or chunk by chunk."""

    def __init__(self, work: Work, model: str) -> None:
        self._work = work
        self._model = model
        self._created = int(time.time())
        self.choices = [Choice() for _ in work.requests]
        self._introduced: set[int] = set()
        self._offsets = [0] * len(self.choices)
        """Characters of each choice's tokens that were sent."""

    def whole(self) -> Json:
        """The body of a response that is not streamed."""
        choices = [self._whole_choice(index, choice) for index, choice in enumerate(self.choices)]
        kind = "chat.completion" if self._work.chat else "text_completion"
        return {**self._frame(kind, choices), "usage": self.usage()}

    def chunks(self, index: int, event: Delta | Done) -> Iterator[Json]:
        """Stream chunks for one event of one choice; text that is still held back makes none."""
        if isinstance(event, Delta) and not event.text and not event.logprobs:
            return
        if self._work.chat and index not in self._introduced:
            self._introduced.add(index)
            yield self._chunk(index, {"delta": {"role": "assistant", "content": ""}})
        if isinstance(event, Delta):
            text: Json = {"delta": {"content": event.text}} if self._work.chat else {"text": event.text}
            if event.logprobs:
                text["logprobs"] = self._logprobs(index, list(event.logprobs))
            yield self._chunk(index, text)
        else:
            end: Json = {"delta": {}} if self._work.chat else {"text": ""}
            yield self._chunk(index, end | {"finish_reason": event.finish_reason})

    def usage_chunk(self) -> Json:
        """The last chunk of a stream that includes usage: no choice, all counts."""
        return {**self._frame(self._chunk_kind, []), "usage": self.usage()}

    def usage(self) -> Json:
        """Tokens of all choices; a prompt counts once, however many answers it got."""
        ends = [choice.done for choice in self.choices if choice.done]
        first = {index // self._work.count: end for index, end in reversed(list(enumerate(ends)))}
        prompt = sum(end.prompt_tokens for end in first.values())
        completion = sum(end.completion_tokens for end in ends)
        cached = sum(end.cached_tokens for end in first.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self._work.chat else "text_completion"

    def _frame(self, kind: str, choices: list[Json]) -> Json:
        frame = {"id": self._work.id, "object": kind, "created": self._created, "model": self._model}
        return {**frame, "choices": choices}

    def _chunk(self, index: int, content: Json) -> Json:
        choice = {"index": index, "logprobs": None, "finish_reason": None} | content
        chunk = self._frame(self._chunk_kind, [choice])
        return chunk | {"usage": None} if self._work.include_usage else chunk

    def _whole_choice(self, index: int, choice: Choice) -> Json:
        text = "".join(choice.parts)
        wanted = self._work.requests[index].sampling.logprobs is not None
        body: Json = {"index": index, "finish_reason": choice.done.finish_reason if choice.done else None}
        body["logprobs"] = self._logprobs(index, choice.logprobs) if wanted else None
        if not self._work.chat:
            return body | {"text": text}
        return body | {"message": {"role": "assistant", "content": text, "refusal": None}}

    def _logprobs(self, index: int, entries: list[TokenLogprob]) -> Json:
        if self._work.chat:
            return chat_logprobs(entries)
        start = self._offsets[index]
        self._offsets[index] += sum(len(entry.chosen.token) for entry in entries)
        return completion_logprobs(entries, start)


def chat_logprobs(entries: list[TokenLogprob]) -> Json:
    """The newer form: one object a token."""
    content = [{**_token(entry.chosen), "top_logprobs": [_token(top) for top in entry.top]} for entry in entries]
    return {"content": content, "refusal": None}


def completion_logprobs(entries: list[TokenLogprob], start: int = 0) -> Json:
    """The older form: parallel lists. `text_offset` counts from the start of the answer, of which `start` was sent."""
    offsets, at = [], start
    for entry in entries:
        offsets.append(at)
        at += len(entry.chosen.token)
    return {
        "tokens": [entry.chosen.token for entry in entries],
        "token_logprobs": [entry.chosen.logprob for entry in entries],
        "top_logprobs": [{top.token: top.logprob for top in entry.top} for entry in entries],
        "text_offset": offsets,
    }


def _token(token: TopToken) -> Json:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.bytes)}
