"""A length that nobody asked for is lowered to the model's own; one that was asked for is left to be judged."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.engines import EngineType, Inference
from pilotboat_server import context
from pilotboat_server.modelfiles import ModelFiles


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(*pairs: tuple[str, bytes]) -> bytes:
    """A header; each value with its kind before it."""
    body = b"".join(text(key) + value for key, value in pairs)
    return struct.pack("<4sIQQ", b"GGUF", 3, 0, len(pairs)) + body


NAME = ("general.name", struct.pack("<I", 8) + text("m"))
TAGS = ("general.tags", struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"))
LENGTH = ("gemma3.context_length", struct.pack("<II", 4, 512))
LONG = ("llama.context_length", struct.pack("<IQ", 10, 131072))


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (gguf(NAME, TAGS, LENGTH), 512),
        (gguf(LONG, NAME), 131072),
        (gguf(NAME), None),
        (gguf(NAME, LENGTH)[:-2], None),
        (gguf(("x", struct.pack("<I", 77)), LENGTH), None),
        (gguf(("x.context_length", struct.pack("<II", 4, 0))), None),
        (b"GGUF", None),
        (b"", None),
    ],
)
def test_a_gguf_file_says_its_length_or_nothing(tmp_path: Path, data: bytes, length: int | None) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    assert context.length(path) == length


@given(st.binary(max_size=200))
def test_no_file_stops_the_start_here(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "m.gguf"
    path.write_bytes(b"GGUF\3\0\0\0" + data)
    context.length(path)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"text_config": {"max_position_embeddings": 640}, "max_position_embeddings": 9}, 640),
        ({}, None),
        ({"max_position_embeddings": "many"}, None),
        ([], None),
    ],
)
def test_a_folder_says_its_length_or_nothing(tmp_path: Path, config: Any, length: int | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert context.length(tmp_path) == length


@pytest.mark.parametrize(
    ("given_length", "model", "comes_to"),
    [(None, 512, 512), (None, 8192, 2048), (None, None, 2048), (1024, 512, 1024), (2048, 512, 2048), (100, 512, 100)],
)
def test_only_a_default_is_lowered(tmp_path: Path, given_length: int | None, model: int | None, comes_to: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": model} if model else {}))
    inference = Inference.model_validate({"maxLength": given_length} if given_length else {})
    assert context.fitted(inference, ModelFiles(EngineType.TRANSFORMERS, tmp_path)).max_length == comes_to
