"""A node: its containerd, kubelet and kube-proxy, started and stopped one by one. It must not know other nodes."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lab import build, cgroups, configs, plane, procs, runtime
from lab.layout import Node, cache
from lab.machine import CAP_SYS_RESOURCE, cni_folder, has_capability
from lab.plane import Plane
from lab.runtime import Containerd
from tools.steps import StepFailed

DEVICE_SOCKET = Path("/var/lib/kubelet/device-plugins/kubelet.sock")
TRIES = 20
"""Of a kubelet's to begin, half a second each: containerd's socket answers before its part for kubelets is there (the
longer the more containers it had), and a kubelet ends then. A machine's own supervisor would start it again."""


def processes(node: Node) -> procs.Processes:
    return procs.Processes(node.dir / "processes")


def containerd(node: Node) -> Containerd:
    log = node.lab.logs / f"{node.name}-containerd.log"
    return Containerd(
        "containerd", node.containerd_root, node.dir / "run", node.containerd_socket, log, processes(node)
    )


def log_of(node: Node, program: str) -> Path:
    return node.lab.logs / f"{node.name}-{program}.log"


def prepare(node: Node, control: Plane) -> None:
    """Everything of a node that is made once: its certificate, its control group, its configuration files."""
    (node.dir / "cni").mkdir(parents=True, exist_ok=True)
    cgroups.create(node.cgroup)
    names = [f"DNS:{node.name}", f"IP:{node.address}"]
    control.pki.issue(node.name, user=f"system:node:{node.name}", group="system:nodes", names=names)
    plane.write_kubeconfig(control, node.name)
    (node.dir / "cni" / "10-lab.conflist").write_text(configs.cni(node))
    (node.dir / "kubelet.json").write_text(configs.kubelet(node, control.pki.dir, cgroup_v2=cgroups.is_cgroup_v2()))
    (node.dir / "kube-proxy.json").write_text(configs.kube_proxy(node, control.conf("kube-proxy")))


def start_containerd(node: Node) -> None:
    cni = cni_folder()
    if cni is None:
        raise StepFailed("The network plugins are gone from this machine: install containernetworking-plugins.")
    config = configs.containerd(
        node.containerd_root,
        node.dir / "run",
        node.containerd_socket,
        cri=node,
        cni_bin=cni,
        restrict_oom=not has_capability(CAP_SYS_RESOURCE),
    )
    containerd(node).start(config, netns=node.netns)


def start_kubelet(node: Node) -> None:
    command: list[str | Path] = [
        build.ensure() / "kubelet",
        f"--config={node.dir}/kubelet.json",
        f"--kubeconfig={node.lab.dir}/conf/{node.name}.kubeconfig",
        f"--root-dir={node.dir}/kubelet",
        f"--cert-dir={node.dir}/kubelet/pki",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--node-labels={configs.node_labels(node)}",
    ]
    with one_at_a_time():
        before = made_at(DEVICE_SOCKET)
        for interval in (0.1, *[0.5] * TRIES):
            processes(node).spawn("kubelet", command, log=log_of(node, "kubelet"), netns=node.netns)
            procs.wait_until(
                lambda: made_at(DEVICE_SOCKET) != before or not processes(node).running("kubelet"),
                what=f"The start of {node.name}'s kubelet",
                timeout=120,
                interval=interval,
            )
            if processes(node).running("kubelet"):
                return


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Kubelets of one machine share a socket whose path cannot be set: two that take it over at once end each other."""
    with (cache() / "lab" / ".kubelets.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made_at(path: Path) -> int:
    """When a file was made; 0 where there is none."""
    return path.stat().st_ctime_ns if path.exists() else 0


def start_proxy(node: Node) -> None:
    command: list[str | Path] = [build.ensure() / "kube-proxy", f"--config={node.dir}/kube-proxy.json"]
    processes(node).spawn("kube-proxy", command, log=log_of(node, "kube-proxy"), netns=node.netns)


def start(node: Node) -> None:
    """What of the node does not run."""
    running = processes(node).running
    for name, begin in (("containerd", start_containerd), ("kubelet", start_kubelet), ("kube-proxy", start_proxy)):
        if not running(name):
            begin(node)


def end_containers(node: Node) -> None:
    """Ends every container of the node, with the runtime already stopped."""
    keepers = runtime.shims(node.containerd_socket)
    cgroups.empty(node.cgroup)
    procs.end(keepers, grace=1)
    for path in runtime.shim_sockets(node.dir / "run"):
        path.unlink(missing_ok=True)


def replace_images(node: Node, template: Path) -> None:
    """Gives the node the template's images. Its containers end with the old store; kubelet starts their pods anew."""
    processes(node).stop("kubelet", "containerd")
    end_containers(node)
    unmount(node.dir)
    shutil.rmtree(node.dir / "run", ignore_errors=True)
    runtime.clone(template, node.containerd_root)
    start_containerd(node)
    start_kubelet(node)


def mounts_under(folder: Path, mountinfo: str) -> list[str]:
    """Mount points under a folder, the last mounted first. The kernel writes a space in a path as \\040."""
    prefix = f"{folder}/"
    points = [line.split()[4].replace("\\040", " ") for line in mountinfo.splitlines()]
    return [point for point in reversed(points) if point.startswith(prefix)]


def unmount(folder: Path) -> None:
    for point in mounts_under(folder, Path("/proc/self/mountinfo").read_text()):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
