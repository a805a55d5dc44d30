"""Faults for tests of recovery: each does one thing for real and can be undone. They must not know what is tested."""

from __future__ import annotations

import signal
import subprocess
from enum import StrEnum

from lab import addons, net, nodes, plane, procs, sickness
from lab.layout import BadName, Lab, Node
from tools.steps import StepFailed

NAMES = "coredns"
"""The program that knows the cluster's names."""


class Way(StrEnum):
    """Seen from the node: what comes to it, and what leaves it."""

    IN = "in"
    OUT = "out"


CHAINS = {Way.IN: ("raw", "PREROUTING", "-i"), Way.OUT: ("mangle", "POSTROUTING", "-o")}
"""Where packets are dropped: in tables that kube-proxy does not write."""
MARK = "lab-fault"


def named(lab: Lab, name: str) -> list[Node]:
    """The nodes of a zone, or the one node of that name."""
    found = [node for node in lab.nodes if name in (node.zone, node.name)]
    if not found:
        known = ", ".join(f"{node.name} ({node.zone})" for node in lab.nodes)
        raise BadName(f"The lab has the nodes {known}, and no {name!r}.")
    return found


def cut_one_way(node: Node, way: Way) -> None:
    """Packets of one direction vanish; the link stays up, and the other direction works."""
    lose(node, 100, way)


def lose(node: Node, percent: float, *ways: Way) -> None:
    """So many of a hundred packets vanish, by chance; in both directions where none is named.

    To a pod they are lost on the way. A program of the node itself that sends UDP is told (EPERM); TCP is not."""
    for way in ways or Way:
        table, chain, flag = CHAINS[way]
        chance = ["-m", "statistic", "--mode", "random", "--probability", f"{percent / 100:.4f}"]
        chance = [] if percent >= 100 else chance
        _inside(node, "iptables", "-w", "-t", table, "-I", chain, flag, "eth0", *chance, *_comment(), "-j", "DROP")


def cut_off(node: Node, pod: str, *addresses: str) -> None:
    """A pod of the node, by its address, reaches these no more: what it sends there vanishes, and nobody tells it."""
    for address in addresses:
        rule = ["PREROUTING", "-s", pod, "-d", address, *_comment(), "-j", "DROP"]
        _inside(node, "iptables", "-w", "-t", "raw", "-I", *rule)


def vanished(node: Node) -> int:
    """Packets that `cut_off` and `cut_one_way` have kept from passing this node on their way in."""
    told = _inside(node, "iptables", "-w", "-t", "raw", "-nvxL", "PREROUTING").splitlines()
    return sum(int(rule.split()[0]) for rule in told if MARK in rule)


def slow(node: Node, rate: str) -> None:
    """The link carries no more than a rate such as 1mbit each way, and drops what waits longer than 400 ms."""
    limit = ["root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms"]
    for netns, device in ((node.netns, "eth0"), (node.lab.netns, node.name)):
        _run("tc", "-n", netns, "qdisc", "replace", "dev", device, *limit)


def mend(node: Node) -> None:
    """Undoes everything that was done to a node's link, and to those of its pods."""
    restore(node)
    for netns, device in ((node.netns, "eth0"), (node.lab.netns, node.name)):
        _run("tc", "-n", netns, "qdisc", "del", "dev", device, "root", check=False)
    for table, chain, _ in CHAINS.values():
        for rule in _inside(node, "iptables", "-w", "-t", table, "-S", chain).splitlines():
            if MARK in rule:
                _inside(node, "iptables", "-w", "-t", table, "-D", *rule.split()[1:])


def _comment() -> list[str]:
    return ["-m", "comment", "--comment", MARK]


def _inside(node: Node, *command: str) -> str:
    return _run(*procs.in_netns(node.netns), *command)


def _run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise StepFailed(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def cut(node: Node) -> None:
    """Pulls the node's network cable. Its pods go on running, reachable from nowhere but their own node."""
    net.ip("link", "set", node.name, "down", netns=node.lab.netns)


def restore(node: Node) -> None:
    net.ip("link", "set", node.name, "up", netns=node.lab.netns)
    net.add_routes(node)


def partition(lab: Lab, zone: str) -> None:
    for node in in_zone(lab, zone):
        cut(node)


def heal(lab: Lab, zone: str) -> None:
    for node in in_zone(lab, zone):
        restore(node)


def in_zone(lab: Lab, zone: str) -> list[Node]:
    return [node for node in lab.nodes if node.zone == zone]


def stop_kubelet(node: Node) -> None:
    """The node's agent dies; its pods go on serving, and nobody reports on them."""
    nodes.processes(node).stop("kubelet", grace=0)


def start_kubelet(node: Node) -> None:
    if not nodes.processes(node).running("kubelet"):
        nodes.start_kubelet(node)


def stop_containerd(node: Node) -> None:
    """The container runtime dies; containers go on, and nothing about them can be changed or asked."""
    nodes.processes(node).stop("containerd", grace=0)


def start_containerd(node: Node) -> None:
    if not nodes.processes(node).running("containerd"):
        nodes.start_containerd(node)


def stop_central(lab: Lab, program: str) -> None:
    """One of the control plane's programs dies, and everything that has a connection to it is told so."""
    plane.in_namespace(lab).processes.stop(program, grace=0)


def start_central(lab: Lab, program: str) -> None:
    """Ends when the API server answers, where it runs: who needs it can do nothing before."""
    control = plane.in_namespace(lab)
    if not control.processes.running(program):
        plane.launch(control, program)
    if control.processes.running("kube-apiserver"):
        plane.wait_ready(control, lab.kubeconfig)


def pause(lab: Lab, program: str) -> None:
    """One of the control plane's programs stands still: its connections stay, and nobody is answered."""
    _signal(lab, program, signal.SIGSTOP)


def resume(lab: Lab, program: str) -> None:
    _signal(lab, program, signal.SIGCONT)


def _signal(lab: Lab, program: str, number: signal.Signals) -> None:
    if identity := plane.in_namespace(lab).processes.get(program):
        procs.send(identity, number)


def power_off(node: Node) -> None:
    """Everything on the node dies at once: agents, runtime and every container."""
    cut(node)
    nodes.processes(node).stop("kubelet", "kube-proxy", "containerd", grace=0)
    nodes.end_containers(node)


def power_on(node: Node) -> None:
    restore(node)
    nodes.start(node)


def black_out(lab: Lab) -> None:
    """Everything of the cluster dies at once: links, control plane, names, agents, runtimes, every container.

    What is the lab's own stays: the way in for kubectl, and who makes volumes."""
    for node in lab.nodes:
        cut(node)
    plane.in_namespace(lab).processes.stop(*plane.WHOLE, NAMES, grace=0)
    for node in lab.nodes:
        power_off(node)


def kill_container(node: Node, pid: int) -> None:
    """Kills one process of a container, by its PID on this machine, as the kernel would for want of memory."""
    if identity := procs.identify(pid):
        procs.end([identity], grace=0)


def undo(lab: Lab) -> None:
    """Undoes every fault above, whatever was done; may be run at any time. Does not wait for nodes to be Ready."""
    for program in plane.WHOLE:
        resume(lab, program)
        start_central(lab, program)
    control = plane.in_namespace(lab)
    if not control.processes.running(NAMES):
        addons.start_dns(control)
    sickness.cure(lab)
    for node in lab.nodes:
        mend(node)
        nodes.start(node)
