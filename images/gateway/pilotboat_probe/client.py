"""One version of the model behind its own Service, over OpenAI's HTTP API.

Owns: requests, what of an answer counts as whole, and that the API key is said to nobody but the Service.
Must not know: why it is asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.http import HttpProcessingError

from pilotboat.api.probing import Endpoint

from .errors import InvalidConfig, KeyRefused, Unanswered, Unreachable, WrongAnswer

MAX_ANSWER = 8 << 20
"""Bytes of an answer: far above what the tokens that are asked for can take."""

MAX_WORDS = 200
"""Characters of a server's own words in a message of ours."""

LOOK_AGAIN = 0.5
"""Seconds between two tries of a Service that does not answer yet."""

STARTING = ("429", "500", "502", "503", "504", "unreachable", "timeout", "cut")
"""What a Service answers while its pods are not ready, or kube-proxy has not heard of them."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A whole answer. Without log-probabilities its tokens are its words."""

    text: str
    tokens: tuple[str, ...]
    logprobs: tuple[float, ...] | None
    prompt_tokens: int | None = None


@dataclass(frozen=True)
class Timing:
    """A streamed answer that came whole."""

    first_ms: float
    """From when the request was due to the first text (or to the end of an answer without)."""
    per_token_ms: float | None
    """Mean after the first token; None of an answer of one."""
    prompt_tokens: int | None


@asynccontextmanager
async def session(key: str | None, limit: float) -> AsyncIterator[aiohttp.ClientSession]:
    """Connections with the API key. Each request has one of its own: a Service spreads connections over its pods."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    limits = aiohttp.ClientTimeout(total=limit)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=limits) as opened:
        yield opened


def first_key(keys: str | None) -> str | None:
    """The first line of PILOTBOAT_API_KEYS. Raises InvalidConfig, which does not say what the key is."""
    lines = [line.strip() for line in (keys or "").splitlines() if line.strip()]
    if lines and not (lines[0].isascii() and lines[0].isprintable()):
        raise InvalidConfig("the first API key has characters that no HTTP header may have")
    return lines[0] if lines else None


class Version:
    """Stable or canary."""

    def __init__(self, http: aiohttp.ClientSession, role: str, endpoint: Endpoint, model: str) -> None:
        self._http, self._url, self._model = http, endpoint.url.rstrip("/"), model
        self.role, self.revision = role, endpoint.revision
        self._logprobs = True

    def __str__(self) -> str:
        return f"{self.role} {self.revision} at {self._url}"

    async def reach(self, seconds: float) -> None:
        """Wait until the Service answers. Raises Unreachable, KeyRefused or WrongAnswer."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while True:
            try:
                async with asyncio.timeout_at(until), self._sent("GET", "/v1/models") as response:
                    listed = _parsed(await _body(response))
                break
            except (Unanswered, TimeoutError) as error:
                self._raise_where_hopeless(error)
                if clock() + LOOK_AGAIN >= until:
                    raise Unreachable(f"{self}: no answer within {seconds:.0f} s: {_said(error)}") from None
            await asyncio.sleep(LOOK_AGAIN)
        if not isinstance(listed.get("data"), list):
            raise WrongAnswer(f"{self}: /v1/models does not list models")

    def _raise_where_hopeless(self, error: Exception) -> None:
        kind = getattr(error, "kind", "timeout")
        if kind in ("401", "403"):
            raise KeyRefused(f"{self}: the API key is not accepted ({kind})") from None
        if kind not in STARTING:
            raise WrongAnswer(f"{self}: GET /v1/models: {error}") from None

    async def whole(self, prompt: str, max_tokens: int) -> Answer:
        """The greedy answer, with log-probabilities where the version offers them. Raises Unanswered."""
        if self._logprobs:
            try:
                return await self._whole(prompt, max_tokens, {"logprobs": True})
            except Unanswered as error:
                if error.kind != "400" or "logprobs" not in str(error):
                    raise
                self._logprobs = False
        return await self._whole(prompt, max_tokens, {})

    async def given(self, prompt: str, answer: str) -> Answer:
        """How likely the version holds this answer, which comes back with log-probabilities. Raises Unanswered."""
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        asked = {"model": self._model, "messages": messages, "max_tokens": 0, "logprobs": True, "echo": True}
        told = await self._answered(asked)
        if not told.logprobs or told.text != answer:
            raise Unanswered("invalid", "200, and not the answer that was given with each token's probability")
        return told

    async def _whole(self, prompt: str, max_tokens: int, more: Json) -> Answer:
        return await self._answered(self._chat(prompt, max_tokens) | more)

    async def _answered(self, asked: Json) -> Answer:
        async with self._sent("POST", "/v1/chat/completions", asked) as response:
            return _answer(_parsed(await _body(response)))

    async def stream(self, prompt: str, max_tokens: int, due: float) -> Timing:
        """The times of a streamed answer; `due` is on the event loop's clock. Raises Unanswered."""
        clock = asyncio.get_running_loop().time
        asked = self._chat(prompt, max_tokens) | {"stream": True, "stream_options": {"include_usage": True}}
        first: float | None = None
        last, chunks, usage = due, 0, Json()
        async with self._sent("POST", "/v1/chat/completions", asked) as response:
            async for chunk in _events(response):
                if _has_text(chunk):
                    last, chunks = clock(), chunks + 1
                    first = last if first is None else first
                usage = chunk.get("usage") or usage
        tokens = _count(usage, "completion_tokens") or chunks
        first = clock() if first is None else first
        per_token = (last - first) * 1000 / (tokens - 1) if tokens > 1 else None
        return Timing((first - due) * 1000, per_token, _count(usage, "prompt_tokens"))

    def _chat(self, prompt: str, max_tokens: int) -> Json:
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 0,
        }

    @asynccontextmanager
    async def _sent(self, method: str, path: str, body: Json | None = None) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response of 200; everything else is Unanswered, and so is what goes wrong while it is read."""
        try:
            # A redirect would carry the key to whoever it names.
            async with self._http.request(method, self._url + path, json=body, allow_redirects=False) as response:
                if response.status != 200:
                    raise Unanswered(str(response.status), await self._words(response))
                yield response
        except TimeoutError:
            raise Unanswered("timeout", "no whole answer in time") from None
        except aiohttp.ClientConnectionError as error:
            # A connection that was made and then closed is a server that gave up on the request.
            kind = "unreachable" if isinstance(error, aiohttp.ClientConnectorError) else "cut"
            raise Unanswered(kind, _said(error)) from None
        except aiohttp.ClientPayloadError:
            raise Unanswered("cut", "the connection ended before the answer did") from None
        except (aiohttp.ClientError, HttpProcessingError, ValueError) as error:
            raise Unanswered("invalid", f"no HTTP that can be read ({type(error).__name__})") from None

    async def _words(self, response: aiohttp.ClientResponse) -> str:
        """What the server says of a refusal; nothing where it is about the key, which it may quote."""
        status = response.status
        if status in (401, 403):
            return str(status)
        try:
            said = json.loads(await _body(response))["error"]["message"]
        except (ValueError, LookupError, TypeError, Unanswered):
            return str(status)
        return f"{status}: {self._without_key(str(said))[:MAX_WORDS]}"

    def _without_key(self, said: str) -> str:
        key = self._http.headers.get("Authorization", "").removeprefix("Bearer ")
        return said.replace(key, "(the API key)") if key else said


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > MAX_ANSWER:
            raise Unanswered("invalid", f"an answer of more than {MAX_ANSWER} bytes")
    return bytes(body)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Json]:
    """The chunks of a stream, up to its `[DONE]`; one that ends without is cut."""
    size = 0
    async for line in response.content:
        size += len(line)
        if size > MAX_ANSWER:
            raise Unanswered("invalid", f"an answer of more than {MAX_ANSWER} bytes")
        data = line.strip().removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
        if data == b"[DONE]":
            return
        if data:
            chunk = _parsed(data)
            if "error" in chunk:
                raise Unanswered("cut", "an error after the first token")
            yield chunk
    kind, words = ("cut", "the stream ended without [DONE]") if size else ("invalid", "an answer without a byte")
    raise Unanswered(kind, words)


def _parsed(data: bytes) -> Json:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise Unanswered("invalid", "200 with a body that is no JSON object")
    return parsed


def _has_text(chunk: Json) -> bool:
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        raise Unanswered("invalid", "a chunk without choices")
    deltas = [choice.get("delta") for choice in choices if isinstance(choice, dict)]
    return any(isinstance(delta, dict) and delta.get("content") for delta in deltas)


def _answer(body: Json) -> Answer:
    try:
        choice = body["choices"][0]
        text = choice["message"]["content"] or ""
        entries = (choice.get("logprobs") or {}).get("content") or []
        scored = [(str(entry["token"]), float(entry["logprob"])) for entry in entries]
    except (LookupError, TypeError, ValueError, AttributeError):
        raise Unanswered("invalid", "200 without a choice that has a message") from None
    if not isinstance(text, str):
        raise Unanswered("invalid", "200 with a content that is no text")
    count = _count(body.get("usage"), "prompt_tokens")
    if not scored:
        return Answer(text, tuple(text.split()), None, count)
    tokens, logprobs = zip(*scored, strict=True)
    return Answer(text, tokens, logprobs, count)


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value > 0 else None


def _said(error: BaseException) -> str:
    return str(error)[:MAX_WORDS] or type(error).__name__
