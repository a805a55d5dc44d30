"""Seeds: a pod on every node that replicas may be on, which brings the model there and keeps it from being evicted.

Owns: the DaemonSets, and what is told of them. Must not know: how files are kept (images/fetch), how replicas shift.

So a replica that has to be made elsewhere, after a node or a zone is lost, finds its model where it lands. A seed is
made from a revision's own pods, with its configuration, and has neither GPU nor port; it bears neither the server's
component nor a revision, as a probe's pod does not. Seeds begin when a replica has fetched the model: by then it is
known that it can be had, and at which commit, and not every node tries what fails.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..api import conditions as kinds
from ..api import labels
from ..api.cache import CacheStatus
from ..api.conditions import Condition
from ..api.model_deployment import ModelDeploymentSpec
from ..api.reasons import Reason
from . import build, caching, diagnose, outcome, pods
from .build import Raw, dig
from .outcome import Cause
from .types import Manifest, Observed, Ref

SEED = "seed"
GRACE_SECONDS = 5
VOLUMES = ("config", "models", "tmp", caching.VOLUME)
FETCHING = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}
"""What is read and written is the page cache's, which gives way."""
HOLDING = {"requests": {"cpu": "1m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}
PLACEMENT = ("nodeSelector", "tolerations", "imagePullSecrets", "serviceAccountName")
"""Of a replica's pod. Not its priority: a seed is worth nobody's place."""


@dataclass(frozen=True)
class Seeds:
    """How far the model of a revision has come."""

    nodes: int = 0
    seeded: int = 0
    cause: Cause | None = None
    """What keeps it from a node."""

    @property
    def everywhere(self) -> bool:
        """Whether a replica finds it wherever it may land."""
        return self.cause is None


def manifests(
    observed: Observed,
    spec: ModelDeploymentSpec,
    revision: str,
    pod: Mapping[str, Any],
    replicas: int,
    fetched: bool,
) -> tuple[Manifest, ...]:
    """The seeds of the revision that is asked for, with `pod` as its pods' spec; none while all its replicas are taken
    back, nor before one has `fetched` the model."""
    if not (_on_nodes(spec, pod) and (replicas or not spec.wanted)):
        return ()
    there = build.named(observed.children, "DaemonSet", _name(observed.parent, revision))
    if there is None and not fetched:
        return ()
    return (_daemon_set(observed.parent, spec, revision, pod),)


def surplus(observed: Observed, kept: Collection[str]) -> tuple[Ref, ...]:
    """Seeds of revisions other than these."""
    names = {_name(observed.parent, revision) for revision in kept}
    there = build.of_kind(observed.children, "DaemonSet")
    return tuple(Ref.of(raw) for raw in there if raw["metadata"]["name"] not in names)


def look(
    observed: Observed, spec: ModelDeploymentSpec, revision: str | None, pod: Mapping[str, Any] | None = None
) -> Seeds | None:
    """How far they are; None where none are asked for. `pod`: the revision's, where its Deployment is not to tell."""
    live = build.named(observed.children, "Deployment", f"{observed.parent['metadata']['name']}-{revision}")
    if revision is None or not _on_nodes(spec, pod or dig(live, "spec", "template", "spec")):
        return None
    made = build.named(observed.children, "DaemonSet", _name(observed.parent, revision))
    if made is None:
        return Seeds(cause=Cause(Reason.SEEDING, "a replica fetches the model first"))
    nodes, seeded = (dig(made, "status", key) or 0 for key in ("desiredNumberScheduled", "numberReady"))
    known = dig(made, "status", "observedGeneration") == dig(made, "metadata", "generation")
    if known and nodes and seeded >= nodes:
        return Seeds(nodes, seeded)
    return Seeds(nodes, seeded, _why(observed, revision, nodes, seeded))


def condition(seeds: Seeds | None, generation: int) -> list[Condition]:
    """CacheSeeded, where seeds are asked for."""
    if seeds is None:
        return []
    words = f"all {seeds.nodes} nodes that replicas may be on have the model"
    return [outcome.told(generation, kinds.CACHE_SEEDED, seeds.everywhere, seeds.cause, Reason.SEEDED, words)]


def status(seeds: Seeds | None) -> CacheStatus | None:
    """The same as figures."""
    return CacheStatus(nodes=seeds.nodes, seeded=seeds.seeded) if seeds else None


def _on_nodes(spec: ModelDeploymentSpec, pod: Raw | None) -> bool:
    """Whether seeds are asked for, and these pods have a cache on each node: those of an earlier revision may have
    none, or a claim that is shared, which is not to be mounted on all nodes."""
    volume = next((each for each in dig(pod, "volumes") or () if each["name"] == caching.VOLUME), None)
    claim, cache = dig(volume, "persistentVolumeClaim", "claimName"), spec.model.cache
    return cache.seeds and volume is not None and (claim is None or claim == cache.claim_name)


def _why(observed: Observed, revision: str, nodes: int, seeded: int) -> Cause:
    told = f"{seeded} of {nodes} nodes that replicas may be on have the model"
    mine = [pod for pod in observed.pods if dig(pod, "metadata", "labels", labels.SEED) == revision]
    for pod in mine:
        if (found := diagnose.cause([pod])) and found.fault:
            return Cause(found.reason, f"{told}; node {dig(pod, 'spec', 'nodeName') or 'none yet'}: {found.message}")
    return Cause(Reason.SEEDING, told)


def _name(parent: Raw, revision: str) -> str:
    return f"{parent['metadata']['name']}-{revision}-{SEED}"


def _daemon_set(parent: Raw, spec: ModelDeploymentSpec, revision: str, pod: Mapping[str, Any]) -> Manifest:
    ours = labels.child_labels(SEED, parent["metadata"]["name"]) | {labels.SEED: revision}
    body = {
        "revisionHistoryLimit": 0,
        "selector": {"matchLabels": {key: ours[key] for key in (labels.INSTANCE, labels.COMPONENT, labels.SEED)}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}},
        "template": {"metadata": {"labels": ours}, "spec": _pod(spec, pod)},
    }
    full = _name(parent, revision)
    return build.child(parent, SEED, "apps/v1", "DaemonSet", full, {"spec": body}, **{labels.SEED: revision})


def _pod(spec: ModelDeploymentSpec, pod: Mapping[str, Any]) -> dict[str, Any]:
    """A replica's pod without its server: what fetches in it fetches, and then another of that image waits."""
    init = pod["initContainers"][0]
    mounts = [mount for mount in init["volumeMounts"] if mount["name"] in VOLUMES]
    # What is local to a replica, such as an adapter on a claim, may be mounted by no other node.
    fetch = init | {"args": [*init["args"], "--only-cached"], "volumeMounts": mounts, "resources": FETCHING}
    hold = {key: value for key, value in init.items() if key != "env"}
    hold |= {"name": SEED, "args": [*init["args"], "--hold"], "resources": HOLDING}
    hold["volumeMounts"] = pods.read_only(mounts)
    made = {
        "initContainers": [fetch],
        "containers": [hold],
        "volumes": [volume for volume in pod["volumes"] if volume["name"] in VOLUMES],
        **pods.security(),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        **{key: pod[key] for key in PLACEMENT if key in pod},
    }
    if spec.gpu:  # nodes with GPUs often take only who asks for one; some clusters add this to pods that do
        bears = {"key": spec.gpu.resource_name, "operator": "Exists"}
        made["tolerations"] = [*made.get("tolerations", ()), bears]
    if chosen := dig(pod, "affinity", "nodeAffinity"):
        made["affinity"] = {"nodeAffinity": chosen}
    return made
