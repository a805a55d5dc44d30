"""A control plane: etcd and as many of Kubernetes' central components as are asked for, in a namespace or on loopback.

    kubeconfig = plane.start("it", components=plane.API)     # a few seconds; for integration tests
    plane.stop("it")

It must not know of nodes.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import build, configs, procs
from lab.configs import Endpoints
from lab.kube import Client
from lab.layout import SERVICE_ADDRESS, Lab, node_grace
from lab.pki import Authority
from tools.steps import StepFailed, tail

API = ("etcd", "kube-apiserver")
CONTROLLED = (*API, "kube-controller-manager")
WHOLE = (*CONTROLLED, "kube-scheduler")
CONTROLLERS = ("kube-controller-manager", "kube-scheduler")
NODELESS = ["--controllers=*,-pod-garbage-collector-controller"]
"""Where there are no nodes that one takes away, after 40 s, every pod that a test has put on any."""
USERS = {
    "admin": ("admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", "system:kube-controller-manager"),
    "kube-scheduler": ("system:kube-scheduler", "system:kube-scheduler"),
    "kube-proxy": ("system:kube-proxy", "system:node-proxier"),
}
IN_NAMESPACE = {"apiserver": 6443, "etcd": 2379, "etcd_peer": 2380}


@dataclass(frozen=True)
class Plane:
    """A control plane of the lab `lab`: in its namespace, or on the host's loopback."""

    lab: Lab
    at: Endpoints
    netns: str | None = None

    @property
    def pki(self) -> Authority:
        return Authority(self.lab.dir / "pki")

    @property
    def processes(self) -> procs.Processes:
        return procs.Processes(self.lab.dir / "processes")

    @property
    def server(self) -> str:
        return f"https://{self.at.address}:{self.at.apiserver}"

    def conf(self, user: str) -> Path:
        return self.lab.dir / "conf" / f"{user}.kubeconfig"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on. They are held all at once, or the same one could come twice."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def on_loopback(lab: Lab) -> Plane:
    return Plane(lab, Endpoints("127.0.0.1", *free_ports(3)))


def in_namespace(lab: Lab) -> Plane:
    return Plane(lab, Endpoints(lab.address, **IN_NAMESPACE), lab.netns)


def make_pki(plane: Plane) -> None:
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    addresses = {"127.0.0.1", SERVICE_ADDRESS, plane.at.address}
    alternatives = [f"DNS:{name}" for name in (*names, "localhost")] + [f"IP:{each}" for each in sorted(addresses)]
    plane.pki.create()
    plane.pki.issue("apiserver", user="kube-apiserver", group="kubernetes", names=alternatives)
    plane.conf("x").parent.mkdir(parents=True, exist_ok=True)
    for name, (user, group) in USERS.items():
        plane.pki.issue(name, user=user, group=group)
        write_kubeconfig(plane, name)


def write_kubeconfig(plane: Plane, user: str) -> Path:
    return plane.pki.kubeconfig(plane.conf(user), user=user, server=plane.server, context=plane.lab.name)


def arguments(plane: Plane, component: str) -> list[str]:
    lab, pki = plane.lab, plane.pki.dir
    if component == "etcd":
        return configs.etcd(plane.at, lab.dir / "etcd")
    if component == "kube-apiserver":
        return configs.apiserver(plane.at, pki)
    if component == "kube-controller-manager":
        return configs.controllers(lab, plane.conf(component), pki, node_grace()) + ([] if plane.netns else NODELESS)
    config = lab.dir / "conf" / "scheduler.json"
    config.write_text(configs.scheduler(plane.conf(component)))
    return [f"--config={config}", "--secure-port=0"]


def launch(plane: Plane, component: str) -> None:
    command: list[str | Path] = [build.ensure() / component, *arguments(plane, component)]
    plane.processes.spawn(component, command, log=plane.lab.logs / f"{component}.log", netns=plane.netns)


def start(name: str, components: Sequence[str] = CONTROLLED) -> Path:
    """Starts a control plane without nodes on the host's loopback; the answer is an administrator's kubeconfig."""
    lab = Lab(name)
    stop(name)
    plane = on_loopback(lab)
    make_pki(plane)
    launch_all(plane, API)
    wait_ready(plane, plane.conf("admin"))
    launch_all(plane, [each for each in components if each not in API])
    shutil.copy(plane.conf("admin"), lab.kubeconfig)
    return lab.kubeconfig


def launch_all(plane: Plane, components: Sequence[str]) -> None:
    """Waits for none of them. The controller manager gives up on an API server that is not there within 10 s."""
    for component in components:
        launch(plane, component)


def wait_ready(plane: Plane, kubeconfig: Path) -> None:
    def up() -> bool:
        if not plane.processes.running("kube-apiserver"):
            log = plane.lab.logs / "kube-apiserver.log"
            raise StepFailed(f"kube-apiserver ended while starting. The end of {log}:\n{tail(log)}")
        return client.ready()

    client = Client.load(kubeconfig)
    procs.wait_until(up, what="kube-apiserver's readiness", timeout=120)


def stop(name: str) -> None:
    """Ends what `start` started, and removes its state. A lab with nodes is ended by `cluster.down` instead."""
    lab = Lab(name)
    if lab.nodes[0].dir.exists():
        raise StepFailed(f"The lab {name} has nodes: end it with `LAB={name} make lab-down`.")
    processes = procs.Processes(lab.dir / "processes")
    processes.stop(*processes.names(), grace=0)  # nothing of it is kept, so nothing needs to end well
    shutil.rmtree(lab.dir, ignore_errors=True)
