"""What a spec comes to: its defaults filled in, and what it says in vain where its pods will run.

Owns: reading the spec for that. Must not know: conditions, pods.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..api.cache import Cache, CacheType
from ..api.engines import Device, EngineType
from ..api.finetune_job import FineTuneJobSpec
from ..api.model_deployment import ModelDeploymentSpec
from ..api.runtime import GPUS_VARIABLE
from . import sources


def effective(spec: ModelDeploymentSpec) -> dict[str, Any]:
    """The spec with every default filled in, save what the user gives whole, and what only the model's files tell."""
    filled = {key: value for key, value in spec.wire().items() if key not in ("podTemplate", "model")}
    if "max_length" not in spec.inference.model_fields_set:
        del filled["inference"]["maxLength"]
    if spec.model.cache.type is not CacheType.EPHEMERAL:
        filled["model"] = {"cache": _cache(spec.model.cache)}
    quality = spec.rollout.analysis.quality
    if quality and quality.equal is not None:
        filled["rollout"]["analysis"]["quality"]["minEqual"] = quality.equal
    return filled


def _cache(cache: Cache) -> dict[str, Any]:
    told = cache.wire() | {"keepFree": cache.kept_free}
    return told | {"seed": cache.seeds} if cache.type is CacheType.NODE else told


def engine(spec: ModelDeploymentSpec, files: Collection[str]) -> EngineType:
    """What Auto comes to for these files, by the server's own rule; still Auto where none of them is a model's."""
    if spec.engine.type is not EngineType.AUTO:
        return spec.engine.type
    gguf, safetensors = (any(name.endswith(suffix) for name in files) for suffix in (".gguf", ".safetensors"))
    if gguf and not (safetensors and spec.model.source.fine_tune_job):  # of a base with both an adapter takes these
        return EngineType.LLAMA_CPP
    return EngineType.TRANSFORMERS if safetensors else EngineType.AUTO


def unused(spec: ModelDeploymentSpec | None) -> str:
    """In words, or nothing. `cpuThreads` acts beside a GPU too."""
    return "; ".join(filter(None, (_fraction(spec), _idle(spec)))) if spec else ""


def untrained(spec: FineTuneJobSpec | None) -> str:
    """GPUs that the trainer will refuse, in words, or nothing: an image of the user's own may use them all."""
    if spec is None or spec.gpu is None or spec.gpu.count == 1 or spec.trainer.image is not None:
        return ""
    if any(entry.name == GPUS_VARIABLE for entry in spec.pod_template.env):
        return ""
    return (
        f"gpu.count: {spec.gpu.count} keeps the job from training: the trainer trains on one GPU; create the "
        "FineTuneJob anew with gpu.count 1"
    )


def _fraction(spec: ModelDeploymentSpec) -> str:
    """A GPU may also come by podTemplate."""
    if "gpu_memory_fraction" not in spec.inference.model_fields_set:
        return ""
    if _gpu(spec) and spec.inference.device is not Device.CPU:
        return ""
    return "inference.gpuMemoryFraction has no effect: the pods use no GPU"


def _gpu(spec: ModelDeploymentSpec) -> bool:
    """Whether the pods may have one; a runtime class, too, may bring it."""
    template = spec.pod_template
    extended = any("/" in name for name in template.resources.limits)
    return spec.gpu is not None or extended or template.runtime_class_name is not None


def _idle(spec: ModelDeploymentSpec) -> str:
    """GPUs that the engine will not use, which the server says too, and later. Fake uses none by its nature.

    An image of the user's own may be able to do what ours is not, and has the word itself.
    """
    if spec.gpu is None or spec.engine.type is EngineType.FAKE:
        return ""
    asked = f"gpu.count: {spec.gpu.count}"
    if spec.inference.device is Device.CPU:
        return f"{asked} is held and not used: inference.device is cpu"
    if spec.engine.image is not None:
        return ""
    kind = engine(spec, sources.named(spec.model))
    if kind is EngineType.LLAMA_CPP:
        return (
            f"{asked} needs a llama.cpp built for GPUs, or the server does not start: that of Pilotboat's own image is "
            "a build for CPUs. Give engine.image, serve safetensors, or leave gpu out"
        )
    if kind is EngineType.TRANSFORMERS and spec.gpu.count > 1:
        return f"{asked} keeps the server from starting: Transformers computes on one GPU; set gpu.count to 1"
    return ""
