"""A token's own bytes: a tokenizer's `decode` knows only texts, and half a character, or a blank at the start, is none.

Owns how the names in a vocabulary are read, which the tokenizer's decoder tells. Must not know: transformers, requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

Read = Callable[[str], bytes]
BLANK = "▁"
"""SentencePiece's."""
BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_PRINTED = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS = tuple(byte for byte in range(0x100) if byte not in _PRINTED)
BYTES = {chr(byte): byte for byte in _PRINTED} | {chr(0x100 + at): byte for at, byte in enumerate(_OTHERS)}
"""GPT-2's alphabet: each byte is written as one character that can be seen."""


def reader(decoder: str) -> Read | None:
    """How to read a name, by the decoder's JSON; None where only `decode` knows."""
    steps = _steps(json.loads(decoder))
    if any(step["type"] == "ByteLevel" for step in steps):
        return _of_bytes
    return _of_blanks if any(BLANK in json.dumps(step, ensure_ascii=False) for step in steps) else None


def _steps(decoder: Any) -> list[dict[str, Any]]:
    return [step for inner in decoder["decoders"] for step in _steps(inner)] if "decoders" in decoder else [decoder]


def _of_bytes(name: str) -> bytes:
    """Added tokens may stand there as they are."""
    return bytes(BYTES[letter] for letter in name) if BYTES.keys() >= set(name) else name.encode("utf-8", "replace")


def _of_blanks(name: str) -> bytes:
    match = BYTE_TOKEN.fullmatch(name)
    return bytes([int(match[1], 16)]) if match else name.replace(BLANK, " ").encode("utf-8", "replace")
