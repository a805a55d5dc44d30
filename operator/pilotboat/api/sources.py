"""Where models and data sets come from: one union type per purpose.

Owns: the source types. Must not know: how a source is fetched (images/fetch does).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from .base import PRINTABLE, BaseUrl, Key, Model, ObjectName, OneOf, RelativePath, Sha256, Url

Repo = Annotated[
    str, StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?$")
]
Glob = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=rf"^{PRINTABLE}+$")]
Digests = Annotated[dict[Annotated[str, StringConstraints(max_length=512)], Sha256], Field(max_length=512)]


class SecretKey(Model):
    """A key of a Secret in the same namespace."""

    name: ObjectName
    key: Key = "token"


class HuggingFace(Model):
    """A repository of a Hugging Face hub, or of a mirror that speaks its API."""

    repo: Repo = Field(description="Repository id, such as google/gemma-3-270m-it.")
    revision: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_./-]+$")] = Field(
        "main", description="Branch, tag or commit; resolved once to a commit, which status records."
    )
    files: Annotated[list[Glob], Field(min_length=1, max_length=64)] | None = Field(
        None, description="Globs of the files to fetch; all allowed file types when left out."
    )
    token_secret_ref: SecretKey | None = Field(None, description="Secret with the hub token, for gated repositories.")
    endpoint: BaseUrl | None = Field(None, description="Mirror to use instead of the operator's default endpoint.")


class Http(Model):
    """One file over HTTP(S), known by its digest; further URLs are mirrors, tried in order."""

    urls: Annotated[list[Url], Field(min_length=1, max_length=8)]
    sha256: Sha256


class Pvc(Model):
    """A file or folder on a PersistentVolumeClaim in the same namespace, mounted read-only."""

    claim_name: ObjectName
    path: RelativePath | None = Field(None, description="Relative path in the volume; its root when left out.")


class ConfigMapKey(Model):
    """One key of a ConfigMap in the same namespace: enough for a small data set (1 MiB at most)."""

    name: ObjectName
    key: Key


class FineTuneJobRef(Model):
    """What a FineTuneJob of the same namespace produced, with the base model it was trained on."""

    name: ObjectName


class ModelSource(OneOf):
    """Where a model comes from: exactly one of these."""

    hugging_face: HuggingFace | None = None
    http: Http | None = None
    pvc: Pvc | None = None
    fine_tune_job: FineTuneJobRef | None = None


class BaseSource(OneOf):
    """Where the base model of a fine-tuning comes from: exactly one of these."""

    hugging_face: HuggingFace | None = None
    http: Http | None = None
    pvc: Pvc | None = None


class DatasetSource(OneOf):
    """Where a data set comes from: exactly one of these."""

    hugging_face: HuggingFace | None = None
    http: Http | None = None
    pvc: Pvc | None = None
    config_map: ConfigMapKey | None = None
