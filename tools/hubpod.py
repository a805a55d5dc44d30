"""A hub inside a cluster: a pod that serves model files under the Hugging Face hub's API, where no hub is reached.

Owns: the pod, its Service and the upload. Must not know: which model it is, nor how the hub's API looks
(tests/standins/hub.py does).
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.host import ROOT
from tools.kube import Cluster
from tools.steps import Step, StepFailed

STANDIN = ROOT / "tests" / "standins" / "hub.py"
PORT = 8000
LABELS = {"app.kubernetes.io/name": "demo-hub"}
UNPACK = "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('/data', filter='data')"
SKIPPED = (".verified", ".html", ".md", ".partial")


def start(
    cluster: Cluster,
    image: str,
    repos: Mapping[str, Sequence[Path]],
    shown: Step,
    node: str | None = None,
    gated: tuple[str, str] | None = None,
    secret: str | None = None,
) -> None:
    """The pod, ready, with every repository's files uploaded; paths are files or folders, laid out flat.

    `node`: where it is to be, for those who break others. `gated`: a repository that wants a token, and that token.
    `secret`: what the image is pulled with."""
    for manifest in _manifests(image, node, gated, secret):
        cluster.apply(json.dumps(manifest))
    cluster.run("rollout", "status", "deployment/hub", "--timeout=180s")
    marker = _marker(repos)
    if _has(cluster, marker):
        return
    _upload(cluster, repos, marker, shown)


def _manifests(image: str, node: str | None, gated: tuple[str, str] | None, secret: str | None) -> list[dict[str, Any]]:
    code = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "hub"},
        "data": {"hub.py": STANDIN.read_text()},
    }
    container: dict[str, Any] = {
        "name": "hub",
        "image": image,
        "command": ["python3", "/code/hub.py", "--root", "/data", "--host", "0.0.0.0", "--port", str(PORT)],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "code", "mountPath": "/code"}, {"name": "data", "mountPath": "/data"}],
    }
    if gated:
        container["command"] += [f"--gated={gated[0]}"]
        container["env"] = [{"name": "HUB_TOKEN", "value": gated[1]}]
    pod = {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "code", "configMap": {"name": "hub"}}, {"name": "data", "emptyDir": {}}],
    }
    pod |= {"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}
    pod |= {"imagePullSecrets": [{"name": secret}]} if secret else {}
    spec = {"selector": {"matchLabels": LABELS}, "template": {"metadata": {"labels": LABELS}, "spec": pod}}
    ports = {"selector": LABELS, "ports": [{"port": PORT}]}
    return [
        code,
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hub"}, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hub"}, "spec": ports},
    ]


def _files(repos: Mapping[str, Sequence[Path]]) -> list[tuple[str, Path]]:
    found = []
    for repo, paths in repos.items():
        for path in paths:
            files = [path] if path.is_file() else [child for child in sorted(path.rglob("*")) if child.is_file()]
            found += [(f"{repo}/{file.name}", file) for file in files if file.suffix not in SKIPPED]
    return found


def _marker(repos: Mapping[str, Sequence[Path]]) -> str:
    """A name for these files by their sizes: the pod is asked for it, to leave out a second upload."""
    total = sum(path.stat().st_size for _, path in _files(repos))
    return f".uploaded-{total}"


def _has(cluster: Cluster, marker: str) -> bool:
    check = f"import os, sys; sys.exit(not os.path.exists('/data/{marker}'))"
    command = cluster.command("exec", "deployment/hub", "--", "python3", "-c", check)
    return subprocess.run(command, env=cluster.env, capture_output=True, check=False).returncode == 0


def _upload(cluster: Cluster, repos: Mapping[str, Sequence[Path]], marker: str, shown: Step) -> None:
    command = cluster.command("exec", "--stdin", "deployment/hub", "--", "python3", "-c", UNPACK)
    process = subprocess.Popen(command, env=cluster.env, stdin=subprocess.PIPE)
    assert process.stdin is not None
    files = _files(repos)
    total, sent = sum(path.stat().st_size for _, path in files), 0
    with tarfile.open(fileobj=process.stdin, mode="w|") as archive:
        for name, path in files:
            shown.detail(f"{sent >> 20} of {total >> 20} MB: {name}")
            archive.add(path, arcname=name)
            sent += path.stat().st_size
        _touch(archive, marker)
    process.stdin.close()
    if process.wait():
        raise StepFailed("the upload to the hub pod failed: kubectl exec ended early")


def _touch(archive: tarfile.TarFile, name: str) -> None:
    archive.addfile(tarfile.TarInfo(name))
