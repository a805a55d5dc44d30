"""The file of a rehearsal: which deployment, how far faults may reach, what load, and the faults.

Owns: the format, and one clear error for each mistake in it. Must not know: the cluster.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from ..api.base import BaseUrl, Model, ObjectName, Quantity, byte_count
from .errors import BadFile

MAX_FILE = 1 << 20

Seconds = Annotated[float, Field(ge=0, le=3600)]
Count = Annotated[int, Field(ge=0, le=1000)]
Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")]


def _sized(quantity: str | int) -> str | int:
    if not 0 < byte_count(quantity) <= 1 << 40:
        raise ValueError("must be between one byte and 1024Gi")
    return quantity


class Aim(Model):
    """The ModelDeployment."""

    namespace: ObjectName
    name: ObjectName


class Limit(Model):
    """How far any fault may reach; one that would reach further is refused before anything is done."""

    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    nodes: Annotated[int, Field(ge=0, le=100)] = 1
    zones: Annotated[int, Field(ge=0, le=1)] = 0
    seconds: Annotated[float, Field(gt=0, le=3600, description="How long a fault may stand.")] = 120


class Promise(Model):
    """What is promised of one fault; None: nothing."""

    lost: Annotated[Count | None, Field(description="Requests lost before their first token.")] = None
    cut: Annotated[Count | None, Field(description="Streams cut after their first token.")] = None
    traffic_seconds: Annotated[Seconds | None, Field(description="Until no request meets the fault any more.")] = None
    replacement_seconds: Annotated[Seconds | None, Field(description="From detection to a new pod.")] = None
    ready_seconds: Annotated[
        Seconds | None, Field(description="Until all replicas are ready, beyond the time the model takes to load.")
    ] = None


class Via(StrEnum):
    """How requests get to the Service."""

    SERVICE = "Service"
    PORT_FORWARD = "PortForward"


class ApiKey(Model):
    """Where the key lies; never the key."""

    file: Annotated[str | None, Field(min_length=1)] = None
    env: Annotated[str | None, Field(min_length=1)] = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("give exactly one of file, env")
        return self


class Load(Model):
    """Requests that are sent all the while."""

    requests_per_second: Annotated[float, Field(ge=0, le=200, description="Whole answers, begun at this rate.")] = 5
    streams: Annotated[int, Field(ge=0, le=200, description="Streamed answers, so many at any time.")] = 4
    prompt: Annotated[str, Field(min_length=1, max_length=32768)] = "Say hello."
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 32
    timeout: Annotated[float, Field(gt=0, le=600, description="Seconds without a byte before a request is lost.")] = 30
    slow_after: Annotated[
        float | None,
        Field(gt=0, le=600, description="Seconds to the first token; left out: 1 s above the P95 before the fault."),
    ] = None
    before: Annotated[float, Field(ge=2, le=600, description="Seconds of load before each fault.")] = 10
    after: Annotated[float, Field(ge=0, le=600, description="Seconds of load after the deployment is whole again.")] = 5
    url: BaseUrl | None = None
    via: Via | None = Field(None, description="Left out: the Service inside a cluster, a port-forward outside.")
    api_key: ApiKey | None = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.requests_per_second and not self.streams:
            raise ValueError("requestsPerSecond and streams must not both be 0: nothing would be measured")
        if self.url and self.via:
            raise ValueError("give url or via, not both")
        return self


class Control(Model):
    """A plain Deployment and its Service in the same namespace, to which the same is done."""

    deployment: ObjectName
    service: ObjectName
    model: Annotated[str | None, Field(min_length=1, description="Left out: the ModelDeployment's name.")] = None
    url: BaseUrl | None = None


class _Fault(Model):
    name: Name
    seconds: Annotated[float, Field(alias="for", gt=0, le=3600, description="How long it stands, or is watched.")] = 30
    promise: Promise = Field(default_factory=Promise)


class _OnPod(_Fault):
    pod: ObjectName | None = Field(None, description="Left out: the first ready one by name.")


class KillProcess(_OnPod):
    """SIGKILL to the process that runs the engine, or to one HTTP worker, from inside the container."""

    kind: Literal["killProcess"]
    process: Literal["engine", "worker"] = "engine"


class DeletePod(_OnPod):
    """As `kubectl delete pod` does it, with the grace period given."""

    kind: Literal["deletePod"]
    grace_seconds: Annotated[int | None, Field(ge=0, le=3600)] = None


class SlowModel(_OnPod):
    """The engine's process is stopped and continued, ten times a second, or stopped whole."""

    kind: Literal["slowModel"]
    share: Annotated[float, Field(gt=0, le=1, description="Share of the time it is stopped; 1: it hangs.")] = 1


class FullDisk(_OnPod):
    """The pod's /tmp is filled."""

    kind: Literal["fullDisk"]
    bytes: Annotated[Quantity, AfterValidator(_sized)]


def _without_nul(word: str) -> str:
    if "\0" in word:
        raise ValueError("no program can be given a NUL byte")
    return word


Word = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_without_nul)]
Command = Annotated[list[Word], Field(min_length=1, max_length=64)]


class _Cut(_Fault):
    cut: Command
    heal: Command


class CutNode(_Cut):
    """A command of the user's cuts a node off; another heals it. `{node}` and `{zone}` stand for their names."""

    kind: Literal["cutNode"]
    node: ObjectName | None = Field(None, description="Left out: that of the first ready pod by name.")


class CutZone(_Cut):
    """As CutNode, for a whole zone: the command sees to all of its nodes."""

    kind: Literal["cutZone"]
    zone: Annotated[str | None, Field(min_length=1, max_length=63)] = None


Fault = Annotated[KillProcess | DeletePod | SlowModel | FullDisk | CutNode | CutZone, Field(discriminator="kind")]
OnPod = KillProcess | DeletePod | SlowModel | FullDisk
Cut = CutNode | CutZone


class Rehearsal(Model):
    """The whole file."""

    deployment: Aim
    limit: Limit = Field(default_factory=Limit)
    wait: Annotated[float, Field(gt=0, le=7200, description="Seconds until the deployment must be whole again.")] = 300
    load: Load = Field(default_factory=Load)
    control: Control | None = None
    faults: Annotated[list[Fault], Field(min_length=1, max_length=50)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for number, fault in enumerate(self.faults):
            if fault.seconds > self.limit.seconds:
                raise ValueError(
                    f"faults.{number}.for is {fault.seconds:g}, above limit.seconds {self.limit.seconds:g}"
                )
        if self.control and (self.load.url is None) != (self.control.url is None):
            raise ValueError("load.url and control.url go together: both are asked the same way")
        if self.control and self.load.via is Via.PORT_FORWARD:
            raise ValueError("a control is reached by its Service, which a port-forward goes round: see load.via")
        return self


def load(path: Path) -> Rehearsal:
    """The file. Raises BadFile."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise BadFile(f"{path}: larger than {MAX_FILE} bytes, which no rehearsal is")
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"{path}: not UTF-8 text") from error


class _Loader(yaml.SafeLoader):
    """YAML with two mistakes told that the library takes in silence, or does not tell as mistakes of the file."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node, keys = super().compose_mapping_node(anchor), set[str]()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in keys:  # the last one would have won
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: {key.value} stands twice")
            keys.add(key.value)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError, LookupError, AttributeError) as error:  # 2024-02-30, and the like
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: not what it looks like: {error}") from error


def parse(text: str, told: str = "file") -> Rehearsal:
    """The file's text. Raises BadFile."""
    try:
        raw = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise BadFile(f"{told}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise BadFile(f"{told}: nested more deeply than any rehearsal is") from error
    if not isinstance(raw, dict):
        raise BadFile(f"{told}: a rehearsal has the fields deployment, limit, load and faults; see docs/rehearsal.md")
    try:
        return Rehearsal.model_validate(raw)
    except ValidationError as error:
        raise BadFile(f"{told}: {_explained(error)}") from error


def _explained(error: ValidationError) -> str:
    """Every mistake by its field, as the file writes it."""
    details = error.errors(include_url=False, include_input=False)
    return "; ".join(_said(entry["loc"], entry["msg"]) for entry in details)


KINDS = frozenset({"killProcess", "deletePod", "slowModel", "fullDisk", "cutNode", "cutZone"})


def _said(place: tuple[Any, ...], message: str) -> str:
    """Without the tag that pydantic puts after a fault's number."""
    parts = [str(part) for at, part in enumerate(place) if not (at == 2 and place[0] == "faults" and part in KINDS)]
    field, words = ".".join(parts), message.removeprefix("Value error, ")
    return f"{field}: {words}" if field else words
