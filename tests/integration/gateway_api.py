"""The Gateway API on a test's API server: its CRDs, taken from its Go module as the lab takes its programs.

Owns: which version, and how it is installed. Must not know: what is tested with it.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import build
from lab.layout import cache

MODULE, VERSION = "sigs.k8s.io/gateway-api", "v1.4.0"
SUM = "h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ="


def crds() -> list[Path]:
    """The files of Gateway and HTTPRoute, in the module's cache."""
    go = build.find_go(cache() / "logs" / "gateway-api.log")
    with tempfile.TemporaryDirectory() as folder:
        command = [go, "mod", "download", "-json", f"{MODULE}@{VERSION}"]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    module = json.loads(done.stdout)
    assert module["Sum"] == SUM, "the module is not the one that was chosen"
    standard = Path(module["Dir"]) / "config" / "crd" / "standard"
    return [standard / f"gateway.networking.k8s.io_{plural}.yaml" for plural in ("gateways", "httproutes")]


@contextmanager
def installed(kubeconfig: Path) -> Iterator[None]:
    """With the CRDs, which are gone afterwards."""
    files = [f"--filename={path}" for path in crds()]
    kubectl = [str(build.ensure() / "kubectl"), f"--kubeconfig={kubeconfig}"]
    subprocess.run([*kubectl, "apply", "--server-side", *files], check=True, capture_output=True)
    try:
        wait = ["wait", "--for=condition=Established", "--timeout=60s"]
        subprocess.run([*kubectl, *wait, *files], check=True, capture_output=True)
        yield
    finally:
        subprocess.run([*kubectl, "delete", "--ignore-not-found", *files], check=True, capture_output=True)
