"""GPUs that were asked for are used, or the server does not start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilotboat.api.engines import EngineType, FakeBehaviour, Inference
from pilotboat_server import engines
from pilotboat_server.engines.base import EngineSettings, on_gpu
from pilotboat_server.errors import UnsupportedSetting


def settings(device: str, gpus: int) -> EngineSettings:
    inference = Inference.model_validate({"device": device})
    return EngineSettings(Path("/none"), inference, 1, lambda error: None, fake=FakeBehaviour(), gpus=gpus)


@pytest.mark.parametrize(
    ("device", "asked", "seen", "used"),
    [
        ("auto", 0, False, False),
        ("auto", 0, True, True),
        ("auto", 1, True, True),
        ("auto", 2, True, True),
        ("cuda", 0, True, True),
        ("cuda", 1, True, True),
        ("cpu", 0, True, False),
        ("cpu", 1, False, False),
        ("cpu", 1, True, False),
    ],
)
def test_a_gpu_is_used_where_one_is_seen_and_the_cpu_was_not_asked_for(
    device: str, asked: int, seen: bool, used: bool
) -> None:
    assert on_gpu(settings(device, asked), seen, "it sees none") is used


@pytest.mark.parametrize(
    ("device", "asked", "field"),
    [("auto", 1, "gpu.count: 1"), ("auto", 4, "gpu.count: 4"), ("cuda", 0, "inference.device: cuda")],
)
def test_a_gpu_that_was_asked_for_and_is_not_seen_ends_the_start(device: str, asked: int, field: str) -> None:
    with pytest.raises(UnsupportedSetting) as caught:
        on_gpu(settings(device, asked), False, "llama.cpp sees no GPU")
    assert str(caught.value).startswith(field)
    assert "llama.cpp sees no GPU" in str(caught.value)
    assert "inference.device: cpu" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "device", "gpus", "refused"),
    [
        (EngineType.TRANSFORMERS, "auto", 1, False),
        (EngineType.TRANSFORMERS, "auto", 2, True),
        (EngineType.TRANSFORMERS, "cuda", 2, True),
        (EngineType.TRANSFORMERS, "cpu", 2, False),
        (EngineType.LLAMA_CPP, "auto", 2, False),
        (EngineType.FAKE, "auto", 2, False),
    ],
)
def test_more_gpus_than_the_engine_computes_on_end_the_start(
    kind: EngineType, device: str, gpus: int, refused: bool
) -> None:
    made: Any = settings(device, gpus)
    if not refused:
        engines.create(kind, made).close()
        return
    with pytest.raises(UnsupportedSetting, match=r"gpu\.count: .* set it to 1"):
        engines.create(kind, made)


def test_the_fake_engine_loads_whatever_it_was_given() -> None:
    engine = engines.create(EngineType.FAKE, settings("auto", 2))
    engine.load()
    engine.close()
