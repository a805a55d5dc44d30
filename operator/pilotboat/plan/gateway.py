"""The planner of a namespace's gateway: two replicas of HAProxy with its agent, and what they need to run.

Owns: the gateway's own objects. Must not know: routes and shares (routes.py), how the gateway works (images/gateway).

Its parent is no object of the API: the engine makes it up of those ModelDeployments of a namespace that use a gateway,
and the planner's status is kept by the engine for them to tell. Every object has an ownerReference to them, so that
the garbage collector ends the gateway with the last of them even where no operator runs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ..api import labels
from ..api.routing import AGENT_PORT
from . import build, diagnose, outcome, pods
from .build import Raw, dig
from .outcome import Cause
from .pods import Json
from .types import Manifest, Observed, Plan, PlanSettings, Questions, Ref

COMPONENT = "gateway"
REPLICAS, MOST = 2, 3
"""At least, and at most: one a zone, so that most callers have one in their own."""

LEFT_AFTER = 15
"""Seconds on a node that is not heard of, after which another gateway is made."""

DIRECTORY = "/run/gateway"
"""Shared by the two containers of a pod: HAProxy's configuration and its runtime socket."""

LEAVE_SECONDS = 15
"""preStop: a gateway goes on serving while its endpoint is taken out everywhere."""

GRACE_SECONDS = 615
"""For a gateway to end: that, and ten minutes for streams under way, which is a request's longest time by default."""

TOKEN_SECONDS = 3607
"""Life of the agent's token; kubelet renews it at 80 %."""

_SELECTOR = {labels.INSTANCE: labels.GATEWAY, labels.COMPONENT: COMPONENT}


class GatewayPlanner:
    """See Planner. The parent's `spec.owners` are the ModelDeployments that own the gateway: name and uid of each."""

    def references(self, parent: Raw) -> tuple[Ref, ...]:
        """None: it needs nothing that it does not own."""
        return ()

    def wants_evidence(self, parent: Raw) -> bool:
        """Never: a gateway judges nothing."""
        return False

    def asks(self, parent: Raw) -> Questions | None:
        """Nothing."""
        return None

    def plan(self, observed: Observed, settings: PlanSettings, now: datetime) -> Plan:
        """The gateway whole, or nothing of it where nobody uses it."""
        parent = observed.parent
        if not parent["spec"]["owners"]:
            return Plan(delete=tuple(Ref.of(child) for child in observed.children), status={})
        cause = _trouble(observed)
        told = {"reason": str(cause.reason), "message": cause.message} if cause else {}
        zones = {node.zone for node in observed.nodes.values() if node.zone}
        count = min(MOST, max(REPLICAS, len(zones)))
        return Plan(apply=tuple(_objects(parent, count, settings)), status=told)


def _trouble(observed: Observed) -> Cause | None:
    """What somebody should mend for the gateway to be up; what only needs time is not told."""
    if refused := outcome.refused(observed.rejected):
        return refused
    for deployment in build.of_kind(observed.children, "Deployment"):
        if not dig(deployment, "status", "availableReplicas"):
            found = outcome.not_created(deployment) or diagnose.cause(observed.pods)
            return found if found and found.fault else None
    return None


def _objects(parent: Raw, count: int, settings: PlanSettings) -> list[Manifest]:
    namespace = parent["metadata"]["namespace"]
    account = {"kind": "ServiceAccount", "name": labels.GATEWAY, "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": labels.GATEWAY}
    budget = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": _SELECTOR},
    }
    return [
        _object(parent, "v1", "ServiceAccount", {"automountServiceAccountToken": False}),
        _object(parent, "rbac.authorization.k8s.io/v1", "Role", {"rules": _rules()}),
        _object(parent, "rbac.authorization.k8s.io/v1", "RoleBinding", {"roleRef": role, "subjects": [account]}),
        _object(parent, "apps/v1", "Deployment", {"spec": _deployment(count, settings)}),
        _object(parent, "policy/v1", "PodDisruptionBudget", {"spec": budget}),
    ]


def _object(parent: Raw, api_version: str, kind: str, body: Raw) -> Manifest:
    meta = {
        "name": labels.GATEWAY,
        "namespace": parent["metadata"]["namespace"],
        "labels": labels.child_labels(COMPONENT, labels.GATEWAY),
        "ownerReferences": [
            {"apiVersion": labels.API_VERSION, "kind": "ModelDeployment", "name": owner["name"], "uid": owner["uid"]}
            for owner in parent["spec"]["owners"]
        ],
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, **body}


def _rules() -> list[Json]:
    """What the agent reads: routes, and who serves a revision."""
    verbs = ["get", "list", "watch"]
    return [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
    ]


def _deployment(count: int, settings: PlanSettings) -> Json:
    """A gateway is only taken away when another is ready in its place."""
    return {
        "replicas": count,
        "revisionHistoryLimit": 1,
        "selector": {"matchLabels": _SELECTOR},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {"labels": labels.child_labels(COMPONENT, labels.GATEWAY) | {labels.SERVING: labels.SERVES}},
            "spec": _pod(settings),
        },
    }


def _pod(settings: PlanSettings) -> Json:
    token = {
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]
    }
    secrets = [{"name": name} for name in settings.image_pull_secrets]
    return {
        "serviceAccountName": labels.GATEWAY,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [_container("haproxy", settings), _agent(settings)],
        "volumes": [
            {"name": "run", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "token", "projected": token},
        ],
        "tolerations": [_leaves(f"node.kubernetes.io/{key}") for key in ("not-ready", "unreachable")],
        "topologySpreadConstraints": pods.spread(_SELECTOR, required=False),
        **pods.security(),
        **({"imagePullSecrets": secrets} if secrets else {}),
    }


def _leaves(taint: str) -> Json:
    return {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": LEFT_AFTER}


def _container(name: str, settings: PlanSettings) -> Json:
    """Ready while HAProxy runs and is steered, as the agent says. Callers reach it, so only the agent has a token."""
    fields: dict[str, Any] = {
        "name": name,
        "image": settings.gateway_image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": [name],
        "env": [
            {"name": "PILOTBOAT_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "PILOTBOAT_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "PILOTBOAT_GATEWAY_DIR", "value": DIRECTORY},
        ],
        "volumeMounts": [{"name": "run", "mountPath": DIRECTORY}, {"name": "tmp", "mountPath": "/tmp"}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "readinessProbe": _probe("/readyz", periodSeconds=2, timeoutSeconds=2, failureThreshold=3),
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_SECONDS}}},
        "securityContext": pods.contained(),
    }
    return fields


def _agent(settings: PlanSettings) -> Json:
    """What watches the API server and drives HAProxy. HAProxy itself is never ended for a slow answer."""
    made = _container("agent", settings)
    account = {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}
    return made | {
        "volumeMounts": [*made["volumeMounts"], account],
        "ports": [{"name": "agent", "containerPort": AGENT_PORT, "protocol": "TCP"}],
        "livenessProbe": _probe("/livez", periodSeconds=10, timeoutSeconds=5, failureThreshold=6),
    }


def _probe(path: str, **times: int) -> Json:
    """Of the agent, by number: HAProxy's container has no port of that name."""
    return {"httpGet": {"path": path, "port": AGENT_PORT}, **times}
