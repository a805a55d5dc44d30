"""Pod templates: what a server pod and a trainer pod look like under the `restricted` Pod Security level.

Owns: containers, volumes, probes, security contexts, and how the user's podTemplate is merged last.
Must not know: revisions, replicas, conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..api.pods import Gpu, PodTemplate
from ..api.runtime import CACHE_DIR, CONFIG_DIR
from . import caching
from .diagnose import FETCH
from .sources import Needs
from .types import PlanSettings

USER = 65532
"""The non-root user of every image of ours."""

GRACE_SECONDS = 90
"""Time for streams to end after SIGTERM; the server stops earlier when they have."""

LEAVE_SECONDS = 5
"""preStop: the pod still serves while its endpoint is taken out everywhere, so that no request meets a closed door."""

HUNG = {"terminationGracePeriodSeconds": LEAVE_SECONDS + 10}
"""Of a server that has failed its liveness probe there is nothing to wait for: its streams stand still."""

SHARED = ("cpu", "memory", "ephemeral-storage")
"""Resources that any container uses; a GPU is not needed to fetch."""

OUTWARD = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE")
"""The user's variables that fetch needs as well, in either case: how to get out of the cluster, and whom to trust."""

Json = dict[str, Any]
ANYWAY = {"whenUnsatisfiable": "ScheduleAnyway"}


@dataclass(frozen=True)
class Main:
    """The main container of a pod and what it adds to the pod."""

    name: str
    image: str
    config: str
    env: tuple[Json, ...] = ()
    mounts: tuple[Json, ...] = ()
    volumes: tuple[Json, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Ports, probes and lifecycle of the container."""


def template(
    main: Main, needs: Needs, config_map: str, user: PodTemplate, gpu: Gpu | None, settings: PlanSettings
) -> Json:
    """The pod spec: an init container that fetches, and the main container."""
    config = {"name": "config", "mountPath": str(CONFIG_DIR), "readOnly": True}
    work = [_mount("models", "/models"), _mount("data", "/data"), _mount("tmp", "/tmp")]
    fetch = _container(FETCH, settings.fetch_image, "fetch.json", settings)
    kept = [_mount(caching.VOLUME, str(CACHE_DIR))] if needs.kept else []
    fetch |= {"volumeMounts": [config, *work, *kept, *needs.mounts], **_env((*needs.env, *_outward(user)))}
    if inherited := _inherited(user):
        fetch["resources"] = inherited
    seen = [config, *read_only([*work, *kept]), *(needs.mounts if needs.in_place else ()), *main.mounts]
    container = _container(main.name, main.image, main.config, settings)
    container |= {"volumeMounts": seen, **_env(_merged_env(main.env, user)), **main.extra}
    if resources := _resources(user, gpu):
        container["resources"] = resources
    volumes: list[Json] = [
        {"name": "config", "configMap": {"name": config_map}},
        *({"name": name, "emptyDir": {}} for name in ("models", "data", "tmp")),
        *([needs.kept.volume] if needs.kept else []),
        *needs.volumes,
        *main.volumes,
    ]
    spec: Json = {"initContainers": [fetch], "containers": [container], "volumes": volumes, **security()}
    return spec | _placement(user, settings)


def plain(main: Main, config_map: str, resources: Mapping[str, Any], settings: PlanSettings) -> Json:
    """The pod spec of one container that needs no model: its configuration and /tmp."""
    config = {"name": "config", "mountPath": str(CONFIG_DIR), "readOnly": True}
    container = _container(main.name, main.image, main.config, settings)
    container |= {"volumeMounts": [config, _mount("tmp", "/tmp"), *main.mounts], **_env(main.env), **main.extra}
    container["resources"] = dict(resources)
    volumes = [{"name": "config", "configMap": {"name": config_map}}, {"name": "tmp", "emptyDir": {}}, *main.volumes]
    spec: Json = {"containers": [container], "volumes": volumes, **security()}
    return spec | _placement(PodTemplate(), settings)


def http_probe(path: str, **times: int) -> Json:
    """An HTTP probe of the server's port."""
    return {"httpGet": {"path": path, "port": "http"}, **times}


def server_extra(port: int, agent_port: int) -> Json:
    """Ports, probes and shutdown of a server container; a model may take half an hour to load."""
    return {
        "ports": [
            {"name": "http", "containerPort": port, "protocol": "TCP"},
            {"name": "agent", "containerPort": agent_port, "protocol": "TCP"},
        ],
        "startupProbe": http_probe("/startupz", periodSeconds=2, failureThreshold=900, timeoutSeconds=2),
        "readinessProbe": http_probe("/readyz", periodSeconds=2, failureThreshold=3, timeoutSeconds=2),
        "livenessProbe": http_probe("/livez", periodSeconds=10, failureThreshold=6, timeoutSeconds=5, **HUNG),
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_SECONDS}}},
    }


def spread(selector: Mapping[str, str], required: bool) -> list[Json]:
    """Replicas over zones, and within a zone over nodes. A zone whose nodes are all lost, cordoned or short of disk
    need not have as many as others: it can take none, and whoever is made then would wait for it."""
    zone = {"whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": "Honor"} if required else ANYWAY
    return [
        {"maxSkew": 1, "topologyKey": key, "labelSelector": {"matchLabels": dict(selector)}, **how}
        for key, how in (("topology.kubernetes.io/zone", zone), ("kubernetes.io/hostname", ANYWAY))
    ]


def _container(name: str, image: str, config: str, settings: PlanSettings) -> Json:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["--config", str(CONFIG_DIR / config)],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": contained(),
    }


def contained() -> Json:
    """The security context of every container of ours."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def security() -> Json:
    """What every pod of ours says of its user, its token and its environment."""
    identity = {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}
    return {
        "securityContext": {**identity, "seccompProfile": {"type": "RuntimeDefault"}},
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }


def _placement(user: PodTemplate, settings: PlanSettings) -> Json:
    """Everything of the user's template that is about the pod, left out where unset."""
    secrets = [{"name": name} for name in settings.image_pull_secrets] + [s.wire() for s in user.image_pull_secrets]
    wanted: Json = {
        "nodeSelector": dict(user.node_selector),
        "tolerations": [toleration.wire() for toleration in user.tolerations],
        "affinity": user.affinity.wire() if user.affinity else None,
        "imagePullSecrets": secrets,
        "serviceAccountName": user.service_account_name,
        "priorityClassName": user.priority_class_name,
        "runtimeClassName": user.runtime_class_name,
    }
    return {key: value for key, value in wanted.items() if value}


def _resources(user: PodTemplate, gpu: Gpu | None) -> Json:
    """The user's resources with the GPUs in limits; Kubernetes copies limits of extended resources to requests."""
    limits: Json = {gpu.resource_name: str(gpu.count)} if gpu else {}
    limits |= {key: str(value) for key, value in user.resources.limits.items()}
    requests = {key: str(value) for key, value in user.resources.requests.items()}
    return {key: value for key, value in (("requests", requests), ("limits", limits)) if value}


def _inherited(user: PodTemplate) -> Json:
    """For fetch, which runs before the main container: as much of what all containers share, and so no more in all.

    A pod's request is the larger of the two; a quota that asks for limits asks for those of every container.
    """
    given = {"requests": user.resources.requests, "limits": user.resources.limits}
    shared = {what: {key: str(amount[key]) for key in SHARED if key in amount} for what, amount in given.items()}
    return {what: amounts for what, amounts in shared.items() if amounts}


def _outward(user: PodTemplate) -> list[Json]:
    return [entry.wire() for entry in user.env if entry.name.upper() in OUTWARD]


def _merged_env(ours: Sequence[Json], user: PodTemplate) -> tuple[Json, ...]:
    named = {entry["name"]: entry for entry in ours}
    named |= {entry.name: entry.wire() for entry in user.env}
    return tuple(named.values())


def _env(env: Sequence[Json]) -> Json:
    return {"env": list(env)} if env else {}


def _mount(name: str, path: str) -> Json:
    return {"name": name, "mountPath": path}


def read_only(mounts: Sequence[Json]) -> list[Json]:
    """Models and data are only read by the main container; /tmp it may write."""
    return [mount if mount["name"] == "tmp" else mount | {"readOnly": True} for mount in mounts]
