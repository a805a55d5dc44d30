"""The inference server: one OpenAI-compatible front over one scheduler over one engine.

Knows `pilotboat.api` (the config the operator writes) and nothing else of the operator. Libraries that are heavy to
import (torch, transformers, xllamacpp) are imported only inside the engine that needs them.
"""
