"""The lab's link faults on real links: namespaces and bridge of a lab, with nothing running in them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab import faults, net, procs
from lab.layout import BadName, Lab, Node

ANSWER = """
import contextlib, socket
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(("", 9))
print("up", flush=True)
while True:
    asked = s.recvfrom(9)
    with contextlib.suppress(PermissionError):
        s.sendto(*asked)
"""
ASK = """
import socket, sys
s = socket.socket(type=socket.SOCK_DGRAM)
s.settimeout(float(sys.argv[3]))
heard = 0
for _ in range(int(sys.argv[2])):
    try:
        s.sendto(b"?", (sys.argv[1], 9))
        heard += s.recvfrom(9)[0] == b"?"
    except OSError:
        pass
print(heard)
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab(f"links-{os.getpid()}")
    net.create(made)
    yield made
    net.remove(made)


@pytest.fixture
def answering(lab: Lab) -> Iterator[Node]:
    """The second node, which sends back what it is sent."""
    node = lab.nodes[1]
    process = subprocess.Popen(
        [*procs.in_netns(node.netns), sys.executable, "-c", ANSWER], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    yield node
    process.kill()
    process.communicate()


def heard(lab: Lab, node: Node, times: int = 1, patience: float = 5) -> int:
    """How many of so many questions of the first node are answered, each in so many seconds."""
    command = [*procs.in_netns(lab.nodes[0].netns), sys.executable, "-c", ASK]
    command += [node.address, str(times), str(patience)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_cut_link_carries_nothing_and_is_healed(lab: Lab, answering: Node) -> None:
    assert heard(lab, answering) == 1
    faults.cut(answering)
    assert heard(lab, answering, patience=0.3) == 0
    faults.mend(answering)
    assert heard(lab, answering, 3) >= 1


@pytest.mark.parametrize("way", list(faults.Way))
def test_one_way(lab: Lab, answering: Node, way: faults.Way) -> None:
    faults.cut_one_way(answering, way)
    assert heard(lab, answering, patience=0.3) == 0
    assert (received(answering) > 0) is (way is faults.Way.OUT)
    faults.mend(answering)
    assert heard(lab, answering) == 1
    faults.mend(answering)  # of a whole link: nothing to do


def received(node: Node) -> int:
    """Datagrams that came to programs on the node."""
    command = [*procs.in_netns(node.netns), "cat", "/proc/net/snmp"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("Udp:"))
    return int(dict(zip(names, values, strict=True))["InDatagrams"])


def test_lost_packets(lab: Lab, answering: Node) -> None:
    faults.lose(answering, 50, faults.Way.IN)
    assert 0 < heard(lab, answering, 30, patience=0.3) < 30
    faults.mend(answering)
    assert heard(lab, answering, 10) == 10


def test_a_slow_link(lab: Lab, answering: Node) -> None:
    faults.slow(answering, "1mbit")
    shown = subprocess.run(
        ["tc", "-n", answering.netns, "qdisc", "show", "dev", "eth0"], capture_output=True, text=True, check=True
    )
    assert "rate 1Mbit" in shown.stdout
    assert heard(lab, answering) == 1
    faults.mend(answering)
    shown = subprocess.run(
        ["tc", "-n", answering.netns, "qdisc", "show", "dev", "eth0"], capture_output=True, text=True, check=True
    )
    assert "tbf" not in shown.stdout


def test_zones_and_nodes_by_name(lab: Lab) -> None:
    assert faults.named(lab, "zone-2") == faults.named(lab, "n2") == [lab.nodes[1]]
    with pytest.raises(BadName, match="no 'zone-9'"):
        faults.named(lab, "zone-9")
