"""The Gateway API on a test's API server: its CRDs, taken from its Go module as the lab takes its programs.

Owns: which version, and how it is installed. Must not know: what is tested with it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab import build, crds

MODULE, VERSION = "sigs.k8s.io/gateway-api", "v1.6.1"
SUM = "h1:mock6phZbI6rvZerwrVNk7hVNymQgHo+6sJ81Ia7ftY="
OURS = ("gateways", "httproutes")
ALL = (*OURS, "gatewayclasses", "grpcroutes", "tlsroutes", "referencegrants", "backendtlspolicies")
"""Those that a controller of them all watches as well."""


def definitions(plurals: Sequence[str] = OURS) -> list[Path]:
    """Files in the module's cache."""
    standard = build.module(f"{MODULE}@{VERSION}", SUM) / "config" / "crd" / "standard"
    return [standard / f"gateway.networking.k8s.io_{plural}.yaml" for plural in plurals]


@contextmanager
def installed(kubeconfig: Path, plurals: Sequence[str] = OURS) -> Iterator[None]:
    """With the CRDs, which are gone afterwards."""
    files = definitions(plurals)
    try:
        crds.apply(kubeconfig, files)
        yield
    finally:
        crds.delete(kubeconfig, files)


def gateway_class(kubeconfig: Path, name: str, controller: str) -> None:
    """A class of Gateways; it goes with its CRD."""
    body = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": name}}
    kubectl = [str(build.ensure() / "kubectl"), f"--kubeconfig={kubeconfig}", "apply", "--server-side", "-f-"]
    told = json.dumps(body | {"spec": {"controllerName": controller}})
    subprocess.run(kubectl, input=told, text=True, check=True, capture_output=True)
