"""The engines, behind one interface (`base`). Importing this package imports none of them."""

from __future__ import annotations

from pilotboat.api.engines import EngineType

from .base import Engine, EngineSettings


def create(kind: EngineType, settings: EngineSettings) -> Engine:
    """The engine of a kind, not loaded yet; its libraries are imported by `load`."""
    if kind is EngineType.LLAMA_CPP:
        from .llamacpp import LlamaCppEngine

        return LlamaCppEngine(settings)
    if kind is EngineType.TRANSFORMERS:
        from .transformers import TransformersEngine

        return TransformersEngine(settings)
    from .fake import FakeEngine

    return FakeEngine(settings)
