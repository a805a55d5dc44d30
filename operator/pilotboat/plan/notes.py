"""What a spec comes to: its defaults filled in, and what it says in vain where its pods will run.

Owns: reading the spec for that. Must not know: conditions, pods.
"""

from __future__ import annotations

from typing import Any

from ..api.model_deployment import Device, EngineType, ModelDeploymentSpec


def effective(spec: ModelDeploymentSpec) -> dict[str, Any]:
    """The spec with every default filled in, save what the user gives whole, and what only the model's files tell."""
    filled = {key: value for key, value in spec.wire().items() if key not in ("podTemplate", "model")}
    if "max_length" not in spec.inference.model_fields_set:
        del filled["inference"]["maxLength"]
    return filled


def engine(spec: ModelDeploymentSpec, files: dict[str, str]) -> str:
    """What Auto comes to for these files, by the server's own rule."""
    if spec.engine.type is not EngineType.AUTO:
        return spec.engine.type
    gguf = any(name.endswith(".gguf") for name in files)
    return EngineType.LLAMA_CPP if gguf else EngineType.TRANSFORMERS


def unused(spec: ModelDeploymentSpec | None) -> str:
    """In words, or nothing. A GPU may also come by podTemplate; `cpuThreads` acts beside a GPU too."""
    if spec is None or "gpu_memory_fraction" not in spec.inference.model_fields_set:
        return ""
    if _gpu(spec) and spec.inference.device is not Device.CPU:
        return ""
    return "inference.gpuMemoryFraction has no effect: the pods use no GPU"


def _gpu(spec: ModelDeploymentSpec) -> bool:
    """Whether the pods may have one; a runtime class, too, may bring it."""
    template = spec.pod_template
    extended = any("/" in name for name in template.resources.limits)
    return spec.gpu is not None or extended or template.runtime_class_name is not None
