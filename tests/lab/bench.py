"""A control plane for benchmarks of scale: no real nodes, but kwok's, whose pods are Ready once bound.

It must not know what is measured on it; it can keep a log of what named users asked of the API server.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab import build, crds, plane, procs
from lab.kube import Client, Object
from lab.layout import REGION, ZONES, Lab

NAME = "bench"
NODES = 100
API_SERVER = "kube-apiserver"


def fake_node(number: int) -> Object:
    name = f"kwok-{number:04d}"
    capacity = {"cpu": "256", "memory": "2Ti", "pods": "1000", "nvidia.com/gpu": "1000"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                "kubernetes.io/hostname": name,
                "nvidia.com/gpu.present": "true",
                "topology.kubernetes.io/region": REGION,
                "topology.kubernetes.io/zone": f"zone-{number % ZONES + 1}",
            },
        },
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def up(name: str = NAME, nodes: int = NODES, audited: Sequence[str] = (), definitions: Sequence[Path] = ()) -> Path:
    """Starts it anew, with so many nodes; the answer is an administrator's kubeconfig.

    Each user in `audited` gets an administrator's rights, a kubeconfig (`kubeconfig_of`) and lines in `audit_log`.
    `definitions` are there before any controller is: the garbage collector looks for new kinds only every 30 s.
    """
    plane.stop(name)
    control = plane.on_loopback(Lab(name))
    plane.make_pki(control)
    start_api(control, audited)
    if definitions:
        crds.apply(control.conf("admin"), definitions)
    plane.launch_all(control, [each for each in plane.WHOLE if each not in plane.API])
    kubeconfig = control.lab.kubeconfig
    shutil.copy(control.conf("admin"), kubeconfig)
    start_kwok(control.lab)
    client = Client.load(kubeconfig)
    for number in range(nodes):
        client.call("POST", "/api/v1/nodes", fake_node(number))
    procs.wait_until(lambda: ready_nodes(client) == nodes, what="The simulated nodes' readiness", timeout=120)
    return kubeconfig


def start_api(control: plane.Plane, audited: Sequence[str]) -> None:
    for user in audited:
        control.pki.issue(user, user=user, group="system:masters")
        plane.write_kubeconfig(control, user)
    launch_api(control, audited)


def launch_api(control: plane.Plane, audited: Sequence[str]) -> None:
    """Returns when it answers."""
    plane.launch(control, "etcd")
    arguments = [*plane.arguments(control, API_SERVER), *audit(control.lab, audited)]
    command: list[str | Path] = [build.ensure() / API_SERVER, *arguments]
    control.processes.spawn(API_SERVER, command, log=control.lab.logs / f"{API_SERVER}.log")
    plane.wait_ready(control, control.conf("admin"))


def audit(lab: Lab, users: Sequence[str]) -> list[str]:
    """Arguments for a log with one line a request of these users, and none of anybody else's."""
    if not users:
        return []
    rules: list[Object] = [{"level": "Metadata", "users": list(users)}, {"level": "None"}]
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": rules,
    }
    path = lab.dir / "conf" / "audit.json"
    path.write_text(json.dumps(policy))
    return [f"--audit-policy-file={path}", f"--audit-log-path={audit_log(lab.name)}"]


def audit_log(name: str = NAME) -> Path:
    return Lab(name).logs / "audit.jsonl"


def kubeconfig_of(user: str, name: str = NAME) -> Path:
    return Lab(name).dir / "conf" / f"{user}.kubeconfig"


def start_kwok(lab: Lab) -> None:
    programs, port = build.ensure(), plane.free_ports(1)[0]
    stages = lab.dir / "stages.yaml"
    stages.write_text(subprocess.run([programs / "kwok-stages"], capture_output=True, text=True, check=True).stdout)
    command: list[str | Path] = [
        programs / "kwok",
        f"--kubeconfig={lab.kubeconfig}",
        f"--config={stages}",
        "--manage-all-nodes=true",
        "--node-lease-duration-seconds=40",
        f"--server-address=127.0.0.1:{port}",
    ]
    procs.Processes(lab.dir / "processes").spawn("kwok", command, log=lab.logs / "kwok.log")


def ready_nodes(client: Client) -> int:
    conditions = [node["status"].get("conditions", []) for node in client.get("/api/v1/nodes")["items"]]
    return sum(any(each["type"] == "Ready" and each["status"] == "True" for each in found) for found in conditions)


def down(name: str = NAME) -> None:
    plane.stop(name)
