"""What passes between the operator and a pod: config files one way, termination reports and progress the other.

Owns: FetchConfig, ServerConfig, TrainerConfig, TerminationReport. Must not know: how either side uses them.
The operator writes these with `to_json`; the image reads them with `load`, so both validate with one model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from .base import ConfigFile, Duration, Model, Sha256, Status, Url
from .engines import EngineType, FakeBehaviour, Inference
from .finetune_job import Checkpoints, DatasetFormat, Method, Progress, TrainerStatus, Training
from .sources import Digests, Http, HuggingFace

CONFIG_DIR = PurePosixPath("/etc/pilotboat")
MODEL_DIR = PurePosixPath("/models/model")
ADAPTER_DIR = PurePosixPath("/models/adapter")
DATASET_DIR = PurePosixPath("/data/dataset")
SOURCES_DIR = PurePosixPath("/sources")
CACHE_DIR = PurePosixPath("/cache")
"""Where the volume is mounted that outlives pods: fetch writes it, all others only read."""
OUTPUT_DIR = PurePosixPath("/output")
CHECKPOINT_DIR = PurePosixPath("/checkpoints")
MANIFEST = "MANIFEST.json"
READY_MARKER = "READY"
TERMINATION_LOG = "/dev/termination-log"
MAX_REPORT = 4096
"""Bytes of a termination message that kubelet keeps."""

MESSAGE_CUTS = (1024, 256, 64)
"""Characters of a report's message that are tried in turn; one may take twelve bytes."""

GPUS_VARIABLE = "PILOTBOAT_GPUS"
"""How many GPUs a trainer was given, where it was given any. Not in trainer.json: that is written anew under a running
Job, and an older image refuses fields that it does not know."""

EXIT_BAD_INPUT = 64
"""Exit code for input that no retry can mend (EX_USAGE): the Job fails at once."""
EXIT_SUPERSEDED = 75
"""Exit code of a trainer that another pod of its job has replaced (EX_TEMPFAIL): neither success nor failure."""
EXIT_TERMINATED = 143
"""Exit code after SIGTERM before the end: never success."""


def files_digest(digests: Mapping[str, str]) -> str:
    """One SHA-256 for a whole folder, made from its files' names and digests."""
    listing = "".join(f"{name}\0{digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(listing.encode()).hexdigest()


class Local(Model):
    """A file or folder that kubelet mounted (a PVC or a ConfigMap): `path` is absolute."""

    path: str
    root: str | None = None
    """Where the volume is mounted: no link may lead out of it. `path`, or a file's folder, when None."""


class FetchItem(Model):
    """One thing to fetch: exactly one of huggingFace, http and local. It lands in the folder `destination`."""

    name: str
    destination: str
    hugging_face: HuggingFace | None = None
    repo_type: Literal["model", "dataset"] = "model"
    http: Http | None = None
    local: Local | None = None
    digests: Digests = Field(default_factory=dict)
    """Relative file name to SHA-256: every file named must exist and match."""
    files_sha256: Sha256 | None = None
    """`files_digest` of all files together: none may be missing, added or changed."""
    token_env: str = "HF_TOKEN"
    """Environment variable with this item's hub token; it may be unset."""
    copy_files: bool = True
    """False: a local source is only verified in place and linked, not copied."""


class FetchCache(Model):
    """A folder that outlives pods, for what comes over a network: kept by its digest, verified each time it is used."""

    path: str
    size: Annotated[int, Field(ge=1)] | None = None
    """Bytes at most; None: what the volume has."""
    keep_free: Annotated[int, Field(ge=0, le=90)] = 0
    """Per cent of the volume that stay free: a node whose disk fills up evicts its pods."""


class FetchConfig(ConfigFile):
    """`fetch.json`. Hub tokens come from the environment (`token_env`)."""

    items: Annotated[list[FetchItem], Field(min_length=1)]
    hub_endpoint: Url | None = None
    """Endpoint used where an item names none; the library's own default when None."""
    patience: Annotated[int, Field(ge=0)] | None = None
    """Seconds without progress in which fetch itself goes on trying, where nobody would start it again. None: a few
    attempts, and the waiting is left to kubelet."""
    cache: FetchCache | None = None
    """Where items of a hub or of an address are kept; None: nowhere. What is local is not kept a second time."""


class FetchedItem(Status):
    """What one item turned out to be."""

    revision: str | None = None
    digests: dict[str, str] = Field(default_factory=dict)
    """Relative file name to SHA-256; left out beyond what fits a termination message."""
    manifest_sha256: str | None = None
    bytes: int | None = None
    cached: int | None = None
    """Bytes of these that the cache had; None where there is none."""


class FetchResult(Status):
    """`result` of the fetch container's TerminationReport: item name to what it turned out to be."""

    items: dict[str, FetchedItem] = Field(default_factory=dict)


class ServedModelConfig(Model):
    """What the server loads: a GGUF file, or a folder with one or with safetensors; and a PEFT adapter over it."""

    path: str
    name: str = Field("model", description="Name of the model in the API.")
    adapter: str | None = Field(None, description="Folder of a PEFT adapter, applied to every request.")


class EngineConfig(Model):
    """Which engine runs the model."""

    type: EngineType = EngineType.AUTO
    fake: FakeBehaviour | None = None


class GpuConfig(Model):
    """GPUs that were given for this model: an engine that cannot use them does not start, unless the device is cpu."""

    count: Annotated[int, Field(ge=1)] = 1


class ServiceConfig(Model):
    """Where the server listens and how much it takes on. API keys come from the variable PILOTBOAT_API_KEYS."""

    host: str = "0.0.0.0"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    agent_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of HAProxy's agent check; 0: none."""
    workers: Annotated[int, Field(ge=1, le=64)] = 4
    max_queued_requests: Annotated[int, Field(ge=0, le=100000)] = 64
    request_timeout: Duration = "10m"


class ServerConfig(ConfigFile):
    """`server.json`, or a YAML file of the user's own: the same server runs without Kubernetes."""

    model: ServedModelConfig
    engine: EngineConfig = Field(default_factory=EngineConfig)
    inference: Inference = Field(default_factory=Inference)
    service: ServiceConfig = Field(default_factory=ServiceConfig)
    gpu: GpuConfig | None = None

    def wire(self) -> dict[str, Any]:
        """Without a `maxLength` that nobody gave: that one the server lowers to what the model can do."""
        data = super().wire()
        if "max_length" not in self.inference.model_fields_set:
            del data["inference"]["maxLength"]
        return data


class TrainerData(Model):
    """The training data as fetched: a folder (or file) with JSONL."""

    path: str
    format: DatasetFormat = DatasetFormat.AUTO


class TrainerConfig(ConfigFile):
    """`trainer.json`."""

    job: str
    base: str
    dataset: TrainerData
    method: Method = Field(default_factory=Method)
    training: Training = Field(default_factory=Training)
    checkpoints: Checkpoints = Field(default_factory=Checkpoints)
    output: str
    """Folder of this job on the output volume: adapter or model, checkpoints, tensorboard, report.json."""
    checkpoint_folder: str | None = None
    """Folder of this job on the checkpoints' own volume; in `output` where there is none."""
    cpu_threads: int | None = None


def _finite(value: float | None) -> float | None:
    """JSON has no NaN, and the API server refuses a status with one."""
    return value if value is None or math.isfinite(value) else None


class TrainerResult(Status):
    """`result` of a trainer's TerminationReport."""

    type: Literal["Adapter", "Model"]
    path: str
    """Relative to the output volume's root."""
    digests: dict[str, str]
    """Left out beyond what fits a termination message; `files_sha256` then stands for them."""
    files_sha256: str | None = None
    steps: int
    train_loss: Annotated[float | None, AfterValidator(_finite)] = None
    trainable_parameters: int
    total_parameters: int
    examples: int
    left_out: int = 0
    """Examples of the data set that were not trained on, since nothing of their answers is within maxLength."""
    dataset_sha256: str
    restarts: int = 0
    seconds: Annotated[float | None, AfterValidator(_finite)] = None

    @property
    def trained_on(self) -> str:
        """`12 examples`, or of how many."""
        if not self.left_out:
            return f"{self.examples} examples"
        few = "only " if self.left_out > self.examples else ""
        why = f"{self.left_out} left out: no answer within maxLength"
        return f"{few}{self.examples} of {self.examples + self.left_out} examples ({why})"


class TerminationReport(Status):
    """What a container says as it ends, in its termination message."""

    pilotboat: Literal[1] = 1
    reason: str
    message: str = ""
    result: dict[str, Any] = Field(default_factory=dict)

    def to_message(self) -> str:
        """JSON that fits kubelet's limit: the message is cut first, then the result is left out."""
        for result in (self.result, {}):
            for length in (len(self.message), *MESSAGE_CUTS):
                body = {"pilotboat": 1, "reason": self.reason[:64], "message": self.message[:length], "result": result}
                text = json.dumps(body, separators=(",", ":"), default=str)
                if len(text) <= MAX_REPORT:  # all of it is ASCII
                    return text
        raise AssertionError("the shortest of these fits")

    @classmethod
    def parse(cls, message: str | None) -> TerminationReport | None:
        """The report in a termination message, or None where the message is log lines or empty."""
        if not message or '"pilotboat"' not in message:
            return None
        try:
            return cls.model_validate_json(message.strip())
        except ValueError:  # cut off, or somebody else's JSON: then it is shown as text
            return None


class ProgressPost(Status):
    """Body of a progress POST: KEP-2779's trainerStatus, and our typed progress beside it."""

    trainer_status: TrainerStatus | None = None
    progress: Progress | None = None
