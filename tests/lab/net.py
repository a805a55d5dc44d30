"""Network namespaces of a lab, and the links between them. Nothing is ever added to the host's own namespace.

Every node is joined to a bridge in the control plane's namespace; pods are routed, not bridged, so that the kernel sees
every packet twice and kube-proxy's address translation can be undone on one node as between two.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab.layout import Lab, Node
from tools.steps import StepFailed

BRIDGE = "br0"


def ip(*arguments: str, netns: str | None = None, check: bool = True) -> None:
    where = ["-n", netns] if netns else []
    done = subprocess.run(["ip", *where, *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise StepFailed(f"ip {' '.join([*where, *arguments])}: {done.stderr.strip()}")


def exists(netns: str) -> bool:
    return Path("/run/netns", netns).exists()


def forwarding(netns: str) -> None:
    enter = ["nsenter", f"--net=/run/netns/{netns}"]
    subprocess.run([*enter, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], check=True)


def create(lab: Lab) -> None:
    ip("netns", "add", lab.netns)
    ip("link", "set", "lo", "up", netns=lab.netns)
    ip("link", "add", BRIDGE, "type", "bridge", netns=lab.netns)
    ip("addr", "add", f"{lab.address}/24", "dev", BRIDGE, netns=lab.netns)
    ip("link", "set", BRIDGE, "up", netns=lab.netns)
    forwarding(lab.netns)
    for node in lab.nodes:
        create_node(node)


def create_node(node: Node) -> None:
    lab = node.lab
    ip("netns", "add", node.netns)
    ip("link", "set", "lo", "up", netns=node.netns)
    # Both ends are born inside: at no time does the host's namespace hold one.
    ends = ["type", "veth", "peer", "name", node.name, "netns", lab.netns]
    ip("link", "add", "eth0", "netns", node.netns, *ends)
    ip("link", "set", node.name, "master", BRIDGE, "up", netns=lab.netns)
    ip("addr", "add", f"{node.address}/24", "dev", "eth0", netns=node.netns)
    ip("link", "set", "eth0", "up", netns=node.netns)
    forwarding(node.netns)
    add_routes(node)
    ip("route", "add", node.pod_cidr, "via", node.address, netns=lab.netns)


def add_routes(node: Node) -> None:
    """The kernel forgets a namespace's routes when its link goes down, so restoring a link adds them again."""
    ip("route", "replace", "default", "via", node.lab.address, netns=node.netns)
    for other in node.lab.nodes:
        if other != node:
            ip("route", "replace", other.pod_cidr, "via", other.address, netns=node.netns)


def remove(lab: Lab) -> None:
    for netns in (*(node.netns for node in lab.nodes), lab.netns):
        if exists(netns):
            ip("netns", "delete", netns)
