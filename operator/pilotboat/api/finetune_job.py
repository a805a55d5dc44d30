"""FineTuneJob: one fine-tuning, from a base model and a data set to a published adapter or model.

Owns: the spec and status types. Must not know: how training is done.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from .base import Image, Model, ObjectName, Quantity, Sha256, Status, cel, validations
from .conditions import Conditions
from .pods import Gpu, PodTemplate
from .sources import BaseSource, DatasetSource, Digests


class DatasetFormat(StrEnum):
    """Shape of a data set's lines (JSONL)."""

    AUTO = "Auto"
    MESSAGES = "Messages"
    PROMPT_COMPLETION = "PromptCompletion"
    ALPACA = "Alpaca"
    TEXT = "Text"


class MethodType(StrEnum):
    """What is trained."""

    LORA = "LoRA"
    FULL = "Full"


class TrainingPrecision(StrEnum):
    """Number format of training; Auto takes bf16 on a GPU that has it (else fp16) and on a CPU with AMX, else fp32."""

    AUTO = "Auto"
    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


class AccessMode(StrEnum):
    """Access mode of the volume the operator makes."""

    RWO = "ReadWriteOnce"
    RWX = "ReadWriteMany"


class Base(Model):
    """The base model and, optionally, the digests it must have."""

    source: BaseSource
    digests: Digests = Field(default_factory=dict)


_ONE_HUB_FILE = (
    "has(self.source.huggingFace.files) && size(self.source.huggingFace.files) == 1"
    " && !self.source.huggingFace.files[0].matches(r'[*?\\[]')"
)
_PIN_RULE = cel(
    "!has(self.sha256) || has(self.source.http) || has(self.source.configMap)"
    " || (has(self.source.pvc) && has(self.source.pvc.path))"
    f" || (has(self.source.huggingFace) && {_ONE_HUB_FILE})",
    "sha256 is of one file: name it by pvc.path, or by a single entry of huggingFace.files without wildcards",
)


class Dataset(Model, json_schema_extra=validations(_PIN_RULE)):
    """The training data: JSON lines, one example a line."""

    source: DatasetSource
    format: DatasetFormat = DatasetFormat.AUTO
    sha256: Sha256 | None = Field(None, description="Digest the file must have.")

    @model_validator(mode="after")
    def _one_file_is_pinned(self) -> Self:
        pvc, hub = self.source.pvc, self.source.hugging_face
        files = (hub.files or []) if hub else []
        unnamed = pvc.path is None if pvc else hub is not None and (len(files) != 1 or bool(set("*?[") & set(files[0])))
        if self.sha256 and unnamed:
            raise ValueError(_PIN_RULE["message"])
        return self


class Lora(Model):
    """Low-rank adaptation (arXiv 2106.09685)."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[int, Field(ge=1, le=4096)] = 32
    target_modules: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=128)]], Field(min_length=1, max_length=64)
    ] = Field(default_factory=lambda: ["q_proj", "v_proj"])
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1


MAX_ATTEMPTS = 10
_LORA_RULE = cel("!has(self.lora) || !has(self.type) || self.type == 'LoRA'", "lora goes with type LoRA only")
_LENGTH_RULE = cel("!has(self.epochs) || !has(self.maxSteps)", "give epochs or maxSteps, not both")
_CLAIM_RULE = cel(
    "!has(self.claimName) || (!has(self.size) && !has(self.accessMode) && !has(self.storageClassName))",
    "claimName names an existing claim: size, accessMode and storageClassName do not go with it",
)


class Method(Model, json_schema_extra=validations(_LORA_RULE)):
    """How the model is fine-tuned."""

    type: MethodType = MethodType.LORA
    lora: Lora | None = None

    @model_validator(mode="after")
    def _lora_goes_with_lora(self) -> Self:
        if self.lora and self.type != MethodType.LORA:
            raise ValueError(_LORA_RULE["message"])
        return self


class Training(Model, json_schema_extra=validations(_LENGTH_RULE)):
    """The training run. Give epochs or maxSteps; 1 epoch when neither is given."""

    epochs: Annotated[float | None, Field(gt=0, le=1000)] = None
    max_steps: Annotated[int | None, Field(ge=1, le=10_000_000)] = None
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-4
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 4
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=4096)] = 1
    max_length: Annotated[int, Field(ge=8, le=1048576, description="Tokens of an example; longer ones are cut.")] = 512
    packing: bool = False
    precision: TrainingPrecision = TrainingPrecision.AUTO
    seed: Annotated[int, Field(ge=0, le=4294967295)] = 42

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.epochs is not None and self.max_steps is not None:
            raise ValueError(_LENGTH_RULE["message"])
        return self


class Claim(Model, json_schema_extra=validations(_CLAIM_RULE)):
    """A volume: an existing claim, or one the operator makes, which goes with the job."""

    claim_name: ObjectName | None = None
    size: Quantity | None = None
    access_mode: AccessMode | None = None
    storage_class_name: ObjectName | None = None

    @model_validator(mode="after")
    def _existing_or_new(self) -> Self:
        if self.claim_name and any(x is not None for x in (self.size, self.access_mode, self.storage_class_name)):
            raise ValueError(_CLAIM_RULE["message"])
        return self


class Checkpoints(Model):
    """How often the run is saved, how many saves are kept, and where."""

    every_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    keep: Annotated[int, Field(ge=1, le=100)] = 2
    volume: Claim | None = Field(None, description="A volume of their own; without it they are on the output's.")


class Output(Model):
    """Where the result goes, and the checkpoints that have no volume of their own."""

    pvc: Claim = Field(default_factory=Claim)


def _immutable(field: str) -> dict[str, str]:
    absent = f"!has(self.{field}) && !has(oldSelf.{field})"
    same = f"has(self.{field}) && has(oldSelf.{field}) && self.{field} == oldSelf.{field}"
    return cel(f"({absent}) || ({same})", f"{field} cannot change after creation: create a new FineTuneJob")


_FROZEN = [
    _immutable(field)
    for field in (
        *("base", "dataset", "method", "training", "checkpoints"),
        *("output", "gpu", "trainer", "podTemplate", "backoffLimit"),
    )
]


class Trainer(Model):
    """What runs the training."""

    image: Image | None = Field(None, description="Trainer image instead of the operator's.")


class FineTuneJobSpec(Model, json_schema_extra=validations(*_FROZEN)):
    """A base model, a data set, a method and where the result goes."""

    base: Base
    dataset: Dataset
    method: Method = Field(default_factory=Method)
    training: Training = Field(default_factory=Training)
    checkpoints: Checkpoints = Field(default_factory=Checkpoints)
    output: Output = Field(default_factory=Output)
    trainer: Trainer = Field(default_factory=Trainer)
    gpu: Gpu | None = None
    suspend: bool = False
    backoff_limit: Annotated[int, Field(ge=0, le=100)] = 3
    active_deadline_seconds: Annotated[int | None, Field(ge=1, le=31_536_000)] = None
    pod_template: PodTemplate = Field(default_factory=PodTemplate)


class Metric(Status):
    """One metric as KEP-2779 writes it: both are strings of at most 64 characters."""

    name: str
    value: str


class TrainerStatus(Status):
    """Progress, byte-compatible with Kubeflow's KEP-2779."""

    progress_percentage: int | None = None
    estimated_remaining_seconds: int | None = None
    metrics: list[Metric] = Field(default_factory=list)
    last_updated_time: str | None = None


class Checkpoint(Status):
    """A checkpoint that a restarted trainer can continue from."""

    step: int
    path: str
    time: str | None = None


class Progress(Status):
    """Progress in typed fields; loss is a string because status must compare exactly."""

    epoch: str | None = None
    step: int | None = None
    total_steps: int | None = None
    tokens_seen: int | None = None
    loss: str | None = None
    last_checkpoint: Checkpoint | None = None
    pod: str | None = None
    """Which pod tells this."""
    writer: int | None = None
    """The pod's number among those that wrote the job's checkpoints: of two, the higher one is believed."""
    resumed_from_step: int | None = None
    """The step of the checkpoint that this pod began with; absent where it began anew."""


class Attempt(Status):
    """One pod that trained, or tried to."""

    pod: str
    node: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    reason: str | None = None
    """How it ended; absent while it has not."""
    message: str | None = None


class Artifact(Status):
    """What the job published, with everything needed to serve it."""

    type: str
    claim_name: str
    path: str
    digests: dict[str, str] = Field(default_factory=dict)
    files_sha256: str | None = None


class Resolved(Status):
    """An input as it was resolved when the job ran."""

    revision: str | None = None
    digests: dict[str, str] = Field(default_factory=dict)


class FineTuneJobStatus(Status):
    """What is true of a FineTuneJob. `trainerStatus` and `progress` have a writer of their own."""

    observed_generation: int | None = None
    phase: str | None = None
    message: str | None = None
    conditions: Conditions = Field(default_factory=list)
    start_time: str | None = None
    completion_time: str | None = None
    restarts: int | None = None
    """Failures that count towards backoffLimit, those of earlier Jobs too."""
    attempts: Annotated[list[Attempt], Field(max_length=MAX_ATTEMPTS)] = Field(default_factory=list)
    trainer_status: TrainerStatus | None = None
    progress: Progress | None = None
    base: Resolved | None = None
    dataset: Resolved | None = None
    output: Artifact | None = None
    result: Annotated[
        dict[str, Any] | None, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
    ] = None
    effective: Annotated[
        dict[str, Any] | None, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
    ] = None
