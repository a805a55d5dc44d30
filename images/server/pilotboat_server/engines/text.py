"""Between text and tokens, with a transformers tokenizer: prompts in, answers out piece by piece.

Owns chat templates' use and incremental decoding. Must not know: models, batches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import BadRequest, InvalidModel
from ..types import GenerateRequest, TokenLogprob, TopToken
from . import pieces
from .base import no_reference, prompt_field, too_long
from .sampling import Drawn

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""For models without a template of their own: what llama.cpp does, so that both engines ask alike."""
INCOMPLETE = "�"


class Tokenizer:
    """A transformers tokenizer, as this server uses it; prompts of `max_length` tokens or more are not for it."""

    def __init__(self, path: Path, vocabulary: int, max_length: int) -> None:
        from transformers import AutoTokenizer

        try:
            self._inner: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise InvalidModel(f"the tokenizer in {path} cannot be loaded: {error}") from error
        decoder = getattr(getattr(self._inner, "backend_tokenizer", None), "decoder", None)
        self._read = pieces.reader(decoder.__getstate__()) if decoder is not None else None
        self._template = self._inner.chat_template or CHATML
        self._vocabulary = vocabulary
        self._max_length = max_length
        self._longest = max(map(len, self._inner.get_vocab()), default=0) if self._read else None
        """Characters that one token can spell, where the names of tokens say so."""

    @property
    def end_token(self) -> int | None:
        """The end of a text."""
        token: int | None = self._inner.eos_token_id
        return token

    def encode(self, request: GenerateRequest) -> list[int]:
        """The prompt's tokens. Raises BadRequest."""
        if request.messages is not None:
            ids = self._ids(request, self._render(request), add_special_tokens=False)
        elif request.text is not None:
            ids = self._ids(request, request.text)
        else:
            ids = list(request.tokens or ())
        if not ids or max(ids) >= self._vocabulary:
            raise BadRequest("The prompt has no tokens, or one that the model does not know.", prompt_field(request))
        return ids

    def encode_reference(self, request: GenerateRequest) -> list[int]:
        """The given answer's tokens, where there is one; what looks like a special token is text. Raises BadRequest."""
        if request.reference is None:
            return []
        ids = self._ids(request, request.reference, add_special_tokens=False, split_special_tokens=True)
        if not ids:  # a tokenizer may strip blanks
            raise no_reference(request)
        return ids

    def _ids(self, request: GenerateRequest, text: str, **options: bool) -> list[int]:
        """A text of megabytes takes seconds, in which nobody's answer goes on: not where it can never fit."""
        least = -(-len(text) // self._longest) if self._longest else 0
        if least >= self._max_length:
            raise too_long(request, f"at least {least}", self._max_length)
        return list(self._inner(text, **options).input_ids)

    def _render(self, request: GenerateRequest) -> str:
        from jinja2 import TemplateError

        messages = [dict(message) for message in request.messages or ()]
        try:
            text: str = self._inner.apply_chat_template(
                messages, chat_template=self._template, tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise BadRequest(f"The model's chat template refuses these messages: {error}", "messages") from error
        return text

    def decode(self, tokens: list[int], special: bool = False) -> str:
        """Their text, without special tokens unless these are asked for."""
        text: str = self._inner.decode(tokens, skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        return text

    def logprobs(self, drawn: Drawn) -> tuple[TokenLogprob, ...]:
        """The drawn token and its alternatives, as text; nothing where none were asked for."""
        if drawn.logprob is None:
            return ()
        top = tuple(self._top(token, logprob) for token, logprob in drawn.top)
        return (TokenLogprob(self._top(drawn.token, drawn.logprob), top),)

    def _top(self, token: int, logprob: float) -> TopToken:
        """Its text is made of its bytes, not the other way round: those of a whole answer are the answer."""
        name = self._inner.convert_ids_to_tokens(token)
        if self._read is None or name is None:
            raw = self.decode([token], special=True).encode("utf-8", "replace")
        else:
            raw = self._read(name)
        return TopToken(raw.decode("utf-8", "replace"), logprob, tuple(raw))


class Detokenizer:
    """Text of a growing answer: a piece comes only once its last character is whole.

    A token's text can depend on the one before it, so each piece is the difference between two decodings that begin at
    the same token.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._start = self._shown = 0

    def add(self, token: int, final: bool = False) -> str:
        """The text that this token completes."""
        self._tokens.append(token)
        return self._piece(final)

    def flush(self) -> str:
        """What was held back, at the end of the answer."""
        return self._piece(final=True)

    def _piece(self, final: bool) -> str:
        before = self._tokenizer.decode(self._tokens[self._start : self._shown])
        after = self._tokenizer.decode(self._tokens[self._start :])
        if len(after) <= len(before) or (after.endswith(INCOMPLETE) and not final):
            return ""
        self._start, self._shown = self._shown, len(self._tokens)
        return after[len(before) :]
