"""The kinds the engine reads and writes, and how their URLs are made.

Owns: the table. Must not know: what any of them is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from pilotboat.api import labels


@dataclass(frozen=True)
class Kind:
    """One kind of object."""

    api_version: str
    kind: str
    plural: str

    @property
    def group(self) -> str:
        """API group; empty for core."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """Version without the group."""
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of a collection, an object or a subresource."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        parts += ["namespaces", quote(namespace, safe="")] if namespace else []
        parts += [self.plural]
        parts += [quote(name, safe="")] if name else []
        parts += [subresource] if subresource else []
        return "/".join(parts)


class Key(NamedTuple):
    """A parent, as the queue knows it."""

    plural: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.plural}/{self.namespace}/{self.name}"


MODEL_DEPLOYMENT = Kind(labels.API_VERSION, "ModelDeployment", "modeldeployments")
FINE_TUNE_JOB = Kind(labels.API_VERSION, "FineTuneJob", "finetunejobs")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
DAEMON_SET = Kind("apps/v1", "DaemonSet", "daemonsets")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
PDB = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
JOB = Kind("batch/v1", "Job", "jobs")
PVC = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
POD = Kind("v1", "Pod", "pods")
SECRET = Kind("v1", "Secret", "secrets")
EVENT = Kind("v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
NODE = Kind("v1", "Node", "nodes")
GATEWAY = Kind("gateway.networking.k8s.io/v1", "Gateway", "gateways")
DNS_ENDPOINT = Kind("externaldns.k8s.io/v1alpha1", "DNSEndpoint", "dnsendpoints")

PARENTS = (MODEL_DEPLOYMENT, FINE_TUNE_JOB)
CHILDREN = (DEPLOYMENT, DAEMON_SET, SERVICE, CONFIG_MAP, PDB, JOB, PVC, SERVICE_ACCOUNT, ROLE, ROLE_BINDING)
GATEWAY_PARTS = (DEPLOYMENT, PDB, ROLE, ROLE_BINDING, SERVICE_ACCOUNT)
"""What a namespace's gateway consists of, one of each."""
OPTIONAL = (HTTP_ROUTE, GATEWAY, DNS_ENDPOINT)
"""Kinds that a cluster need not have, so they are looked up where they are named, and never watched."""
CLUSTERED = (NODE,)
"""Kinds without a namespace: watched whole, whatever namespaces are."""
DISPENSABLE = (DAEMON_SET,)
"""Kinds that few ask for: an operator that may not see them, its ClusterRole being of before, serves the others."""
WATCHED = (*PARENTS, *CHILDREN, POD, *CLUSTERED)
SELECTOR = f"{labels.MANAGED_BY}={labels.MANAGER}"
"""Server-side selector of every watch and LIST of children and pods."""

BY_PLURAL = {kind.plural: kind for kind in WATCHED}
_BY_GVK = {(kind.api_version, kind.kind): kind for kind in (*WATCHED, *OPTIONAL, SECRET, EVENT, LEASE)}


def kind_of(api_version: str, kind: str) -> Kind:
    """The Kind of a manifest or a Ref; KeyError where a plan names one we do not handle."""
    return _BY_GVK[api_version, kind]


def selector_of(kind: Kind) -> str | None:
    """Parents and nodes are watched whole, all others by label."""
    return None if kind in (*PARENTS, *CLUSTERED) else SELECTOR
