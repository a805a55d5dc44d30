"""The revision that a ModelDeployment's spec asks for: what goes into its pods, and the objects that make them.

Owns: what makes one revision differ from another. Must not know: other revisions, how many replicas there are to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..api import labels
from ..api.model_deployment import ModelDeploymentSpec
from ..api.recovery import Spread
from ..api.routing import LOAD_PORT, SERVER_PORT
from ..api.runtime import (
    MODEL_DIR,
    EngineConfig,
    FetchConfig,
    GpuConfig,
    ServedModelConfig,
    ServerConfig,
    ServiceConfig,
)
from . import artifact, build, pods, recovery, routes, sources
from .build import Raw
from .routes import SERVER
from .types import Manifest, Observed, PlanSettings


@dataclass(frozen=True)
class Target:
    """The revision the spec asks for: its hash and everything that goes into its pods."""

    revision: str
    config: dict[str, str]
    pod: dict[str, Any]
    user_labels: Mapping[str, str]
    user_annotations: Mapping[str, str]


def target(observed: Observed, spec: ModelDeploymentSpec, served: sources.Served, settings: PlanSettings) -> Target:
    """The revision of a spec with the model that it serves. A commit that has become known makes no other revision."""
    name = observed.parent["metadata"]["name"]
    config = {
        artifact.FETCH: _fetch_config(served.needs, settings),
        "server.json": _server_config(name, spec, served).to_json(),
    }
    secret = spec.service.api_key_secret_ref
    main = pods.Main(
        name=SERVER,
        image=spec.engine.image or settings.server_image,
        config="server.json",
        env=(sources.secret_env("PILOTBOAT_API_KEYS", secret),) if secret else (),
        extra=pods.server_extra(SERVER_PORT, LOAD_PORT),
    )
    pod = pods.template(main, served.needs, f"{name}-REVISION", spec.pod_template, spec.gpu, settings)
    pod["terminationGracePeriodSeconds"] = pods.GRACE_SECONDS
    user = spec.pod_template
    required = spec.zones.spread is Spread.REQUIRED
    spread = pods.spread({}, required) if required else spec.zones.spread
    parts = [pod, config, dict(user.labels), dict(user.annotations), spread]
    revision = build.digest(parts)[:8]
    pod["volumes"][0]["configMap"]["name"] = f"{name}-{revision}"
    if served.needs.from_hub and (commit := artifact.commit(observed, revision)):
        config[artifact.FETCH] = _fetch_config(served.needs.at(commit), settings)
    pod["topologySpreadConstraints"] = pods.spread(routes.selector(name, revision), required)
    return Target(revision, config, pod, user.labels, user.annotations)


def _fetch_config(needs: sources.Needs, settings: PlanSettings) -> str:
    cache = needs.kept.place if needs.kept else None
    return FetchConfig(items=list(needs.items), hub_endpoint=settings.hub_endpoint, cache=cache).to_json()


def _server_config(name: str, spec: ModelDeploymentSpec, served: sources.Served) -> ServerConfig:
    service = spec.service
    return ServerConfig(
        model=ServedModelConfig(path=str(MODEL_DIR), name=name, adapter=served.adapter),
        engine=EngineConfig(type=spec.engine.type, fake=spec.engine.fake),
        inference=spec.inference,
        service=ServiceConfig(
            port=SERVER_PORT,
            agent_port=LOAD_PORT,
            workers=service.workers,
            max_queued_requests=service.max_queued_requests,
            request_timeout=service.request_timeout,
        ),
        gpu=GpuConfig(count=spec.gpu.count) if spec.gpu else None,
    )


def config_map(parent: Raw, target: Target) -> Manifest:
    """The files of its pods."""
    name = f"{parent['metadata']['name']}-{target.revision}"
    body = {"data": target.config}
    return build.child(parent, SERVER, "v1", "ConfigMap", name, body, **{labels.REVISION: target.revision})


def deployment(parent: Raw, target: Target, replicas: int, extra: int) -> Manifest:
    """With its pods; `extra`: replicas in the place of lost ones."""
    name = parent["metadata"]["name"]
    ours = labels.child_labels(SERVER, name) | {labels.REVISION: target.revision}
    template: dict[str, Any] = {
        "metadata": {"labels": dict(target.user_labels) | ours},
        "spec": target.pod,
    }
    if target.user_annotations:
        template["metadata"]["annotations"] = dict(target.user_annotations)
    spec = {
        "replicas": replicas + extra,
        "revisionHistoryLimit": 1,
        "selector": {"matchLabels": routes.selector(name, target.revision)},
        "template": template,
    }
    full = f"{name}-{target.revision}"
    marks = {labels.REVISION: target.revision}
    body = {"spec": spec}
    return build.child(parent, SERVER, "apps/v1", "Deployment", full, body, recovery.annotated(extra), **marks)
