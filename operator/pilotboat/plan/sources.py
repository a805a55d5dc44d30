"""Turns sources in a spec into what the fetch container does, what pods mount, and which objects must exist.

Owns: the step from ModelSource, BaseSource and DatasetSource to FetchItem, volumes and environment.
Must not know: revisions, rollouts, conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from ..api.finetune_job import Artifact, Base, Dataset, Resolved
from ..api.model_deployment import ServedModel
from ..api.reasons import Reason
from ..api.runtime import ADAPTER_DIR, DATASET_DIR, MODEL_DIR, SOURCES_DIR, FetchItem, Local
from ..api.sources import BaseSource, ConfigMapKey, DatasetSource, HuggingFace, ModelSource, Pvc, SecretKey
from . import build, caching
from .build import Raw, dig
from .caching import Kept
from .outcome import Cause
from .types import Ref

MODEL = "model"
"""Name of the item that is served, or over which an adapter is."""

_Repository = TypeVar("_Repository", ModelSource, BaseSource, DatasetSource, FetchItem)
"""What may be a hub's repository."""


@dataclass(frozen=True)
class Needs:
    """What fetching takes: items in order, volumes to mount under /sources, secret environment."""

    items: tuple[FetchItem, ...] = ()
    volumes: tuple[dict[str, Any], ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()
    env: tuple[dict[str, Any], ...] = ()
    in_place: bool = False
    """Whether the main container needs the mounts too, because the files were linked and not copied."""
    kept: Kept | None = None
    """Where what comes over a network outlives the pod."""

    def __add__(self, other: Needs) -> Needs:
        return Needs(
            self.items + other.items,
            self.volumes + other.volumes,
            self.mounts + other.mounts,
            self.env + other.env,
            self.in_place or other.in_place,
            self.kept or other.kept,
        )

    @property
    def remote(self) -> bool:
        """Whether any of it comes over a network."""
        return any(item.local is None for item in self.items)

    @property
    def from_hub(self) -> bool:
        """Whether the model is a hub's."""
        return any(item.name == MODEL and item.hugging_face for item in self.items)

    def at(self, commit: str) -> Needs:
        """The same with a hub's model at that commit."""
        return replace(self, items=tuple(_at(item, commit) if item.name == MODEL else item for item in self.items))


@dataclass(frozen=True)
class Served:
    """A model to serve: what to fetch, and the adapter folder where there is one."""

    needs: Needs
    adapter: str | None = None


def references(namespace: str, source: ModelSource | BaseSource | DatasetSource) -> tuple[Ref, ...]:
    """The objects a source names."""
    _, chosen = source.chosen()
    if isinstance(chosen, Pvc):
        return (build.claim(namespace, chosen.claim_name),)
    if isinstance(chosen, ConfigMapKey):
        return (build.config_map(namespace, chosen.name),)
    if isinstance(source, ModelSource) and source.fine_tune_job:
        return (build.fine_tune_job(namespace, source.fine_tune_job.name),)
    return ()


def missing(known: Mapping[Ref, Raw | None], wanted: tuple[Ref, ...]) -> Cause | None:
    """The first wanted object that does not exist, as a cause."""
    reasons = {
        "ConfigMap": Reason.CONFIG_MAP_NOT_FOUND,
        "PersistentVolumeClaim": Reason.CLAIM_NOT_FOUND,
        "FineTuneJob": Reason.FINE_TUNE_JOB_NOT_FOUND,
    }
    for ref in wanted:
        if known.get(ref) is None:
            return Cause(reasons[ref.kind], f"{ref.kind} {ref.name} does not exist in namespace {ref.namespace}")
    return None


def of_model(namespace: str, model: ServedModel) -> tuple[Ref, ...]:
    """The objects that a model to serve names."""
    return (*references(namespace, model.source), *caching.references(namespace, model.cache))


def served(model: ServedModel, namespace: str, known: Mapping[Ref, Raw | None]) -> Served | Cause:
    """What serving this model takes, or why it cannot be served yet."""
    if gone := missing(known, of_model(namespace, model)):
        return gone
    if model.source.fine_tune_job:
        job = known[build.fine_tune_job(namespace, model.source.fine_tune_job.name)]
        found = _tuned(job or {})
    else:
        found = Served(_needs(MODEL, str(MODEL_DIR), model.source, dict(model.digests)))
    if isinstance(found, Cause) or not found.needs.remote:
        return found
    return replace(found, needs=replace(found.needs, kept=caching.kept(model.cache)))


def base(spec: Base, commit: str | None = None) -> Needs:
    """What fetching a job's base model takes, at the commit that an earlier pod of the job found."""
    return _needs("base", str(MODEL_DIR), _at(spec.source, commit), dict(spec.digests))


def dataset(spec: Dataset, commit: str | None = None) -> Needs:
    """What fetching a job's data set takes, likewise; `sha256` pins the file where the source has one file."""
    source = _at(spec.source, commit)
    return _needs("dataset", str(DATASET_DIR), source, {}, repo_type="dataset", sha256=spec.sha256)


def missing_key(spec: Dataset, namespace: str, known: Mapping[Ref, Raw | None]) -> Cause | None:
    """Says so where the ConfigMap is there and its key is not."""
    source = spec.source.config_map
    if not source:
        return None
    raw = known.get(build.config_map(namespace, source.name)) or {}
    if source.key in (raw.get("data") or {}) or source.key in (raw.get("binaryData") or {}):
        return None
    return Cause(Reason.CONFIG_MAP_NOT_FOUND, f"ConfigMap {source.name} has no key {source.key}")


def describe(source: ModelSource | BaseSource) -> str:
    """A source in a few characters, for a printer column."""
    kind, chosen = source.chosen()
    if kind == "huggingFace":
        return str(chosen.repo)
    if kind == "http":
        return _file_name(chosen.urls[0])[:80]
    return f"ftj/{chosen.name}" if kind == "fineTuneJob" else f"pvc/{chosen.claim_name}/{chosen.path or ''}".rstrip("/")


def named(model: ServedModel) -> list[str]:
    """Files that the spec itself names, as names, paths or globs; what the source has besides only fetch will tell."""
    source, found = model.source, list(model.digests)
    if source.hugging_face:
        found += source.hugging_face.files or []
    if source.http:
        found.append(_file_name(source.http.urls[0]))
    if source.pvc and source.pvc.path:
        found.append(source.pvc.path)
    return found


def _tuned(job: Raw) -> Served | Cause:
    """Base and adapter (or the tuned model itself) of a complete FineTuneJob."""
    name = dig(job, "metadata", "name")
    conditions = {c["type"]: c["status"] for c in dig(job, "status", "conditions") or ()}
    if conditions.get("Failed") == "True":
        return Cause(Reason.FINE_TUNE_JOB_FAILED, f"FineTuneJob {name} failed: {dig(job, 'status', 'message') or ''}")
    output = dig(job, "status", "output")
    if conditions.get("Complete") != "True" or not output:
        return Cause(Reason.WAITING_FOR_FINE_TUNE_JOB, f"FineTuneJob {name} is not complete yet")
    try:
        return _artifact(job, Artifact.model_validate(output))
    except ValidationError as error:
        return Cause(
            Reason.FINE_TUNE_JOB_FAILED, f"FineTuneJob {name} has no usable record: {error.errors()[0]['msg']}"
        )


def _artifact(job: Raw, artifact: Artifact) -> Served:
    """The tuned model itself, or the base it was tuned from with the adapter over it. Raises ValidationError."""
    item = Pvc(claim_name=artifact.claim_name, path=artifact.path)
    name, place = (MODEL, MODEL_DIR) if artifact.type == "Model" else ("adapter", ADAPTER_DIR)
    made = _needs(name, str(place), ModelSource(pvc=item), artifact.digests, copy=True, whole=artifact.files_sha256)
    return Served(made) if name == MODEL else Served(_pinned(job) + made, adapter=str(ADAPTER_DIR))


def _pinned(job: Raw) -> Needs:
    """The job's base model at the revision and with the digests it was trained on."""
    spec = Base.model_validate(dig(job, "spec", "base"))
    known = Resolved.model_validate(dig(job, "status", "base") or {})
    return _needs(MODEL, str(MODEL_DIR), _at(spec.source, known.revision), {**spec.digests, **known.digests})


def _at(source: _Repository, commit: str | None) -> _Repository:
    """A hub's repository at a commit; any other source as it is."""
    if source.hugging_face is None or commit is None:
        return source
    return source.model_copy(update={"hugging_face": source.hugging_face.model_copy(update={"revision": commit})})


def _needs(
    name: str,
    destination: str,
    source: ModelSource | BaseSource | DatasetSource,
    digests: dict[str, str],
    repo_type: str = "model",
    sha256: str | None = None,
    copy: bool = False,
    whole: str | None = None,
) -> Needs:
    """One fetch item with what it mounts and the secret it reads."""
    kind, chosen = source.chosen()
    pinned = dict(digests)
    if sha256:
        pinned[_only_file(chosen)] = sha256
    common: dict[str, Any] = {
        "name": name,
        "destination": destination,
        "repo_type": repo_type,
        "digests": pinned,
        "files_sha256": whole,
    }
    if isinstance(chosen, HuggingFace):
        return _hub(common, chosen)
    if kind == "http":
        return Needs(items=(FetchItem(**common, http=chosen),))
    volume, path = _mounted(name, chosen)
    link = isinstance(chosen, Pvc) and not copy
    root = str(SOURCES_DIR / name)
    mount = {"name": f"source-{name}", "mountPath": root, "readOnly": True}
    item = FetchItem(**common, local=Local(path=path, root=root), copy_files=not link)
    return Needs(items=(item,), volumes=(volume,), mounts=(mount,), in_place=link)


def _hub(common: dict[str, Any], chosen: HuggingFace) -> Needs:
    variable = f"HF_TOKEN_{common['name'].upper()}"
    secret = chosen.token_secret_ref
    item = FetchItem(**common, hugging_face=chosen, token_env=variable)
    return Needs(items=(item,), env=(secret_env(variable, secret),) if secret else ())


def secret_env(variable: str, secret: SecretKey) -> dict[str, Any]:
    """A variable whose value kubelet takes from a Secret."""
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}


def _mounted(name: str, chosen: Pvc | ConfigMapKey) -> tuple[dict[str, Any], str]:
    """The volume for a local source, and the path of the file or folder inside the pod."""
    root = SOURCES_DIR / name
    if isinstance(chosen, Pvc):
        volume = {"persistentVolumeClaim": {"claimName": chosen.claim_name, "readOnly": True}}
        return {"name": f"source-{name}", **volume}, str(root / chosen.path if chosen.path else root)
    items = [{"key": chosen.key, "path": chosen.key}]
    return {"name": f"source-{name}", "configMap": {"name": chosen.name, "items": items}}, str(root / chosen.key)


def _only_file(chosen: Any) -> str:
    """The file that a data set's sha256 is about."""
    if isinstance(chosen, ConfigMapKey):
        return chosen.key
    if isinstance(chosen, Pvc):
        return PurePosixPath(chosen.path or "").name
    if isinstance(chosen, HuggingFace):
        return (chosen.files or [""])[0]
    return _file_name(chosen.urls[0])


def _file_name(url: str) -> str:
    """The name that fetch gives to a file; what follows the path may be a signature and is nobody's business."""
    return PurePosixPath(unquote(urlsplit(url).path)).name
